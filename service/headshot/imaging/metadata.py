"""What a finished picture says about itself, and reading it back.

An XMP packet holds the IPTC Digital Source Type (which says how far the picture is synthetic), the
software with its version, and the style with its version. It holds nothing of the person and no
time, so that the same request gives the same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from PIL import Image, ImageCms

from headshot import __version__
from headshot.errors import PhotoError
from headshot.imaging.limits import DecodeLimits, Header, read_header
from headshot.imaging.provenance import read_manifest

SourceType = Literal[
    "algorithmicallyEnhanced",
    "compositeSynthetic",
    "compositeWithTrainedAlgorithmicMedia",
    "trainedAlgorithmicMedia",
]
SOURCE_TYPE_BASE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""The IPTC vocabulary; the names above are its terms."""

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP: Final = "http://ns.adobe.com/xap/1.0/"
_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OWN: Final = "urn:headshot:xmp:1.0#"
_GPS_TAG, _XMP_TAG = 34853, 700
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _INCH = 282, 283, 296, 2
_DENSITY_TAGS: Final = {_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT}
_INSPECT_LIMITS: Final = DecodeLimits(
    max_bytes=512 * 2**20, max_pixels=2**28, max_side=2**15, min_side=1
)


@dataclass(frozen=True)
class Provenance:
    """What is recorded in a finished picture.

    Attributes:
        source_type: IPTC term, see `source_type`.
        style_id: style guide.
        style_version: its version.
        steps: what was done to the photo, in order, in short lower-case words ("denoise", "matte",
            "background", "retouch", "upscale").
    """

    source_type: SourceType
    style_id: str
    style_version: str
    steps: tuple[str, ...] = ()

    @property
    def software(self) -> str:
        """Name and version of this software."""
        return f"headshot {__version__}"

    @property
    def source_type_url(self) -> str:
        """The term's address in the IPTC vocabulary."""
        return SOURCE_TYPE_BASE + self.source_type


def source_type(
    *, diffused: bool, composed: bool, generative: bool = False, from_noise: bool = False
) -> SourceType:
    """Choose the IPTC Digital Source Type by what was really done.

    Args:
        diffused: a diffusion network made or changed pixels of the person, even a little.
        composed: the person was set on a background that is not the photo's own.
        generative: that network draws from prompts what may be, instead of restoring what is there.
        from_noise: the picture was generated from noise; no photo's pixels are in it.

    Returns:
        trainedAlgorithmicMedia for pictures from noise; with another background,
        compositeWithTrainedAlgorithmicMedia where the person is diffused and compositeSynthetic
        where only the background is made; compositeWithTrainedAlgorithmicMedia, too, for what a
        generative network changed; algorithmicallyEnhanced for a photo that was only restored,
        toned or enlarged.
    """
    if from_noise:
        return "trainedAlgorithmicMedia"
    if diffused and generative:
        return "compositeWithTrainedAlgorithmicMedia"
    if composed:
        return "compositeWithTrainedAlgorithmicMedia" if diffused else "compositeSynthetic"
    return "algorithmicallyEnhanced"


def xmp_packet(provenance: Provenance) -> bytes:
    """The XMP packet (ISO 16684-1) for `headshot.imaging.encode.encode`; UTF-8, read-only."""
    attributes = {
        "xmp:CreatorTool": provenance.software,
        "Iptc4xmpExt:DigitalSourceType": provenance.source_type_url,
        "headshot:StyleId": provenance.style_id,
        "headshot:StyleVersion": provenance.style_version,
        "headshot:Steps": " ".join(provenance.steps),
    }
    lines = "".join(f"\n   {name}={quoteattr(value)}" for name, value in attributes.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{_RDF}">\n'
        f'  <rdf:Description rdf:about="" xmlns:xmp="{_XMP}" xmlns:Iptc4xmpExt="{_IPTC}"'
        f' xmlns:headshot="{_OWN}"{lines}/>\n'
        " </rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="r"?>'
    ).encode()


def read_metadata(data: bytes) -> dict[str, Any]:
    """What a picture file says about itself; no pixel is decoded.

    Returns:
        format, width, height, bit_depth, orientation; dpi (x, y) and icc (description), or None;
        software, digital_source_type, style_id, style_version, steps, or None where absent;
        has_exif and has_gps (finished pictures carry neither, but CMYK JPEG, which keep their
        density in EXIF); c2pa, the signed manifest's summary, or None.

    Raises:
        PhotoError: not a picture this software reads, or a damaged one.
    """
    header = read_header(data, _INSPECT_LIMITS)
    facts: dict[str, Any] = {
        "format": header.format,
        "width": header.width,
        "height": header.height,
        "bit_depth": header.bit_depth,
        "orientation": header.orientation,
        "dpi": None,
        "icc": _profile_name(header),
        "software": None,
        "digital_source_type": None,
        "style_id": None,
        "style_version": None,
        "steps": None,
        "has_exif": False,
        "has_gps": False,
    }
    if header.format != "heic":
        try:
            facts |= _pillow_facts(data, header)
        except PhotoError:
            raise
        except Exception as error:  # metadata that a library cannot make sense of
            raise PhotoError(
                "The picture's metadata cannot be read.", reason="CORRUPT_PHOTO"
            ) from error
    facts["c2pa"] = read_manifest(data, header.format)
    return facts


def _profile_name(header: Header) -> str | None:
    if header.icc is None:
        return None
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(header.icc)))
    except (ImageCms.PyCMSError, OSError):
        return "unreadable"
    return name.strip()


def _pillow_facts(data: bytes, header: Header) -> dict[str, Any]:
    with Image.open(io.BytesIO(data), formats=(header.format.upper(),)) as picture:
        facts: dict[str, Any] = {}
        density = picture.info.get("dpi")
        exif = picture.getexif()
        # Pillow gives a TIFF that tells no density one of 1.
        if density is not None and (header.format != "tiff" or _X_RESOLUTION in exif):
            facts["dpi"] = tuple(round(float(value), 2) for value in density)
        packet = picture.info.get("xmp")
        if header.format == "tiff":  # its own tags are what Pillow shows as EXIF here
            packet = exif.get(_XMP_TAG)
            facts["has_exif"] = 34665 in exif
        else:
            # A density alone, which finished pictures may carry there, tells nothing of a camera.
            facts["has_exif"] = bool(set(exif) - _DENSITY_TAGS)
            if density is None and exif.get(_X_RESOLUTION) and exif.get(_RESOLUTION_UNIT) == _INCH:
                across = exif[_X_RESOLUTION]
                down = exif.get(_Y_RESOLUTION) or across
                facts["dpi"] = (round(float(across), 2), round(float(down), 2))
        facts["has_gps"] = _GPS_TAG in exif
        if isinstance(packet, bytes):
            facts |= _packet_facts(packet)
        return facts


class _NoDoctype(ElementTree.TreeBuilder):
    """Ends at a DOCTYPE, in whatever encoding it is written: only there are entities defined."""

    def doctype(self, *_: str | None) -> NoReturn:
        raise ElementTree.ParseError("a packet has no DOCTYPE")


def _packet_facts(packet: bytes) -> dict[str, Any]:
    """The fields that `xmp_packet` writes; also in the element form of other programs."""
    parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314  no DTD passes
    try:
        root = ElementTree.fromstring(packet.strip(b"\0 \r\n"), parser)  # noqa: S314
    except ElementTree.ParseError:
        return {}
    names = {
        f"{{{_XMP}}}CreatorTool": "software",
        f"{{{_IPTC}}}DigitalSourceType": "digital_source_type",
        f"{{{_OWN}}}StyleId": "style_id",
        f"{{{_OWN}}}StyleVersion": "style_version",
        f"{{{_OWN}}}Steps": "steps",
    }
    found: dict[str, Any] = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        for name, key in names.items():
            element = description.find(name)
            value = description.get(name) or (element.text if element is not None else None)
            if value:
                found[key] = value
    if "digital_source_type" in found:
        found["digital_source_type"] = found["digital_source_type"].removeprefix(SOURCE_TYPE_BASE)
    if "steps" in found:
        found["steps"] = found["steps"].split()
    return found
