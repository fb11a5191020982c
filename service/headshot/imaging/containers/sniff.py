"""Which format the bytes are, by their signature alone; names and media types are not believed."""

from __future__ import annotations

from typing import Final

from headshot.imaging.containers.exif import byte_order
from headshot.imaging.containers.header import Header
from headshot.imaging.containers.heif import is_heif, read_heif
from headshot.imaging.containers.jpeg import read_jpeg
from headshot.imaging.containers.png import SIGNATURE, read_png
from headshot.imaging.containers.tiff import read_tiff
from headshot.imaging.containers.webp import read_webp
from headshot.imaging.refusals import DecodeLimits, truncated, unsupported

_OTHERS: Final = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop's own format",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "SVG",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
}
_STARTS: Final = (b"\xff\xd8\xff", SIGNATURE, b"RIFF")


def read_header(data: bytes, limits: DecodeLimits) -> Header:
    """Check the photo as far as it goes without decoding a pixel.

    Raises:
        PhotoError: see `headshot.imaging.decode.decode_photo`.
    """
    limits.check_bytes(len(data))
    if data.startswith(b"\xff\xd8\xff"):
        return read_jpeg(data, limits)
    if data.startswith(SIGNATURE):
        return read_png(data, limits)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return read_webp(data, limits)
    if byte_order(data) is not None:
        return read_tiff(data, limits)
    if is_heif(data):
        return read_heif(data, limits)
    if len(data) < 12 and any(start.startswith(data) for start in _STARTS):
        raise truncated()
    for signature, name in _OTHERS.items():
        if data.startswith(signature):
            raise unsupported(name)
    raise unsupported("This kind of file")
