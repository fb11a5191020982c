"""Small valid files of every kind that the decoder takes, made here, and ways to break them."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pillow_heif
import skimage.data
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


@functools.cache
def portrait(width: int = 160, height: int = 120) -> Pixels:
    """uint8 [height,width,3]: the head of the astronaut portrait."""
    head = np.asarray(skimage.data.astronaut())[0:240, 60:380]
    picture = np.asarray(cv2.resize(head, (width, height), interpolation=cv2.INTER_AREA))
    picture.setflags(write=False)
    return picture


def write(pixels: NDArray[Any] | Image.Image, name: str, **options: Any) -> bytes:
    """A file by Pillow."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    picture.save(out, name, **options)
    return out.getvalue()


def write_heic(pixels: NDArray[Any], **options: Any) -> bytes:
    """A HEIC file by libheif."""
    out = io.BytesIO()
    heif = pillow_heif.from_pillow(Image.fromarray(pixels))
    heif.save(out, **({"quality": 90, "chroma": "444"} | options))
    return out.getvalue()


@functools.cache
def valid_files() -> dict[str, bytes]:
    """One file of each container and of the variants that take another path in the decoder."""
    rgb = portrait()
    picture = Image.fromarray(rgb)
    alpha = np.dstack([rgb, np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))])
    wide = rgb.astype(np.uint16) * 257
    return {
        "jpeg": write(rgb, "JPEG", quality=90),
        "jpeg-progressive": write(rgb, "JPEG", quality=90, progressive=True),
        "jpeg-grey": write(picture.convert("L"), "JPEG"),
        "jpeg-cmyk": write(picture.convert("CMYK"), "JPEG", quality=95),
        "png": write(rgb, "PNG", pnginfo=None),
        "png-palette": write(picture.quantize(64), "PNG"),
        "png-rgba": write(alpha, "PNG"),
        "png-16": cv2.imencode(".png", wide[..., ::-1])[1].tobytes(),
        "png-1": write(picture.convert("1"), "PNG"),
        "webp": write(rgb, "WEBP", quality=80),
        "webp-lossless": write(alpha, "WEBP", lossless=True),
        "avif": write(rgb, "AVIF", quality=80, speed=10),
        "avif-rgba": write(alpha, "AVIF", quality=80, speed=10),
        "heic": write_heic(rgb),
        "heic-rgba": write_heic(alpha),
        "tiff": write(rgb, "TIFF"),
        "tiff-lzw": write(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": write(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-jpeg": write(rgb, "TIFF", compression="jpeg"),
        "tiff-cmyk": write(picture.convert("CMYK"), "TIFF"),
        "tiff-16": cv2.imencode(".tiff", wide[..., ::-1])[1].tobytes(),
    }


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """The file with chunks put after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def mutate(data: bytes, generator: np.random.Generator) -> bytes:
    """One random change: bytes flipped, a piece cut, doubled, zeroed, or a number made extreme."""
    out = bytearray(data)
    size = len(out)
    # Headers decide most; half of all changes hit the first 512 bytes.
    reach = min(size, 512) if generator.random() < 0.5 else size
    start = int(generator.integers(reach))
    length = int(generator.integers(1, 17))
    match int(generator.integers(6)):
        case 0:
            for _ in range(length):
                out[int(generator.integers(reach))] = int(generator.integers(256))
        case 1:
            del out[start:]
        case 2:
            del out[start : start + length]
        case 3:
            out[start:start] = out[start : start + 64]
        case 4:
            out[start : start + length] = bytes(length)
        case _:
            extreme = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01", b"\x80\0\0\0")
            out[start : start + 4] = extreme[int(generator.integers(len(extreme)))]
    return bytes(out)
