"""One picture that shows a run: input, candidates, matte, final crops and scores."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont, ImageOps

from headshot.imaging.decode import DecodeLimits, decode_photo
from headshot.v1 import headshot_service_pb2 as pb

_TILE = 320
_GAP = 16
_WIDTH = 4 * _TILE + 5 * _GAP
_INK = (32, 32, 36)
_PAPER = (250, 250, 248)


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _photo(data: bytes) -> Image.Image:
    """Return a photo as the service reads it: HEIC too, upright, in sRGB."""
    return Image.fromarray(decode_photo(data, DecodeLimits(), long_side=2 * _TILE).pixels)


def _row(sheet: Image.Image, top: int, title: str, tiles: list[tuple[str, Image.Image]]) -> int:
    """Draw one row of pictures with captions; return the top of the next row."""
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, top), title, fill=_INK, font=ImageFont.load_default(20))
    top += 30
    for index, (caption, picture) in enumerate(tiles[:4]):
        left = _GAP + index * (_TILE + _GAP)
        fitted = ImageOps.contain(picture, (_TILE, _TILE), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (left, top))
        draw.text((left, top + _TILE + 4), caption, fill=_INK, font=ImageFont.load_default(14))
    return top + _TILE + 34


def contact_sheet(inputs: list[bytes], result: pb.HeadshotResult) -> bytes:
    """Return the sheet as JPEG.

    Args:
        inputs: the photos as they were sent.
        result: an answer with intermediates.
    """
    way = result.intermediates
    photos = [
        (verdict.photo_id or f"photo {verdict.index}", _photo(inputs[verdict.index]))
        for verdict in result.photos
        if verdict.used
    ]
    framed = [("framed", _open(way.reference))] if way.reference else []
    candidates = [
        (
            f"candidate {report.index + 1}: {report.verification.similarity:.3f}"
            + (" chosen" if report.chosen else ""),
            _open(image.image),
        )
        for report, image in zip(result.candidates, way.candidates, strict=False)
    ]
    matte = [("matte", _open(way.alpha))] if way.alpha else []
    finals = [
        (f"{item.name} {item.width} x {item.height}", _open(item.data))
        for item in result.renditions
        if item.media_type in ("image/jpeg", "image/png", "image/webp")
    ]
    scores = _scores(result)
    height = 4 * (_TILE + 64) + 24 * ((len(scores) + 1) // 2) + 3 * _GAP
    sheet = Image.new("RGB", (_WIDTH, height), _PAPER)
    top = _row(sheet, _GAP, "Input", photos[:3] + framed)
    top = _row(sheet, top, "Candidates and matte", candidates[:3] + matte)
    top = _row(sheet, top, "Headshots", finals)
    top = _small_sizes(sheet, top, finals)
    draw = ImageDraw.Draw(sheet)
    for index, (text, passed) in enumerate(scores):
        left = _GAP + (index % 2) * (_WIDTH // 2)
        ink = _INK if passed else (176, 32, 32)
        draw.text((left, top + 24 * (index // 2)), text, fill=ink, font=ImageFont.load_default(15))
    out = io.BytesIO()
    sheet.crop((0, 0, _WIDTH, min(height, top + 24 * ((len(scores) + 1) // 2) + _GAP))).save(
        out, "JPEG", quality=90
    )
    return out.getvalue()


def _small_sizes(sheet: Image.Image, top: int, finals: list[tuple[str, Image.Image]]) -> int:
    """Draw the first headshot as it looks in lists and chats; return the top of the next row."""
    if not finals:
        return top
    square = ImageOps.fit(finals[0][1], (256, 256), Image.Resampling.LANCZOS)
    left = _GAP
    for side in (96, 48, 32):
        small = square.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (left, top))
        mask = Image.new("L", (4 * side, 4 * side))
        ImageDraw.Draw(mask).ellipse((0, 0, 4 * side - 1, 4 * side - 1), fill=255)
        sheet.paste(small, (left + side + 8, top), mask.resize((side, side)))
        left += 2 * side + 40
    return top + 96 + _GAP


def _scores(result: pb.HeadshotResult) -> list[tuple[str, bool]]:
    """Return the lines of the score table and whether each is good."""
    verified = result.verification
    lines = [
        (
            f"similarity {verified.similarity:.3f} (threshold {verified.threshold:.3f})",
            verified.same_person,
        ),
        (f"style {result.style_id} {result.style_version}", True),
        (f"background {result.background}"[:88], True),
    ]
    lines += [
        (f"{measure.id}: {measure.value:.3g} {measure.unit}", measure.passed)
        for measure in result.quality.measures
    ]
    lines += [(f"warning: {warning}", False) for warning in result.warnings]
    return lines
