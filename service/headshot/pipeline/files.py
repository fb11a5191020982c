"""The composed person as the files that were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headshot.deadline import Deadline
from headshot.errors import CancelledError
from headshot.imaging import filenames, renditions
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.encode import MEDIA_TYPES, encode
from headshot.imaging.framing import Crop
from headshot.imaging.metadata import Provenance, source_type, xmp_packet
from headshot.imaging.parts import SideBySide, one_by_one
from headshot.imaging.provenance import Signer, sign
from headshot.imaging.renditions import RenditionSpec
from headshot.pipeline.rendering import Person, compose_crop, cut_out_crop
from headshot.pipeline.results import RenditionFile
from headshot.pipeline.styles import Style

Image = NDArray[np.uint8]

_USUAL_PIXELS = 1200**2 + 2400**2


def share_of_usual(specs: tuple[RenditionSpec, ...]) -> float:
    """Return how much work files are over a usual set (web and print), at least 1."""
    return max(1.0, sum(spec.width * spec.height for spec in specs) / _USUAL_PIXELS)


def aspects_of(specs: tuple[RenditionSpec, ...]) -> set[float]:
    """Return the aspect ratios of renditions."""
    return {spec.aspect for spec in specs}


def master_side(
    specs: tuple[RenditionSpec, ...], crops: dict[float, Crop], canvas: int, scale: int
) -> int:
    """Return the side of the canvas at which no rendition needs enlarging, as far as it goes.

    Args:
        specs: what is asked for.
        crops: the crop of each aspect, in canvas pixels.
        canvas: side of the canvas.
        scale: factor of the upscaler, the most there is.
    """
    wanted = max(spec.width / crops[spec.aspect].width for spec in specs)
    # Up, so that no file is a pixel short of its size; less than a millionth is rounding.
    return math.ceil(canvas * min(max(wanted, 1.0), float(scale)) - 1e-6)


def make_files(
    person: Person,
    crops: dict[float, Crop],
    specs: tuple[RenditionSpec, ...],
    ground: BackgroundSpec,
    seed: int,
    style: Style,
    request_id: str,
    signer: Signer | None,
    steps: tuple[str, ...] = ("denoise", "tone", "matte", "background", "upscale"),
    *,
    made_up: bool = False,
    deadline: Deadline | None = None,
    gone: Callable[[], bool] = lambda: False,
    side_by_side: SideBySide = one_by_one,
) -> tuple[RenditionFile, ...]:
    """Compose each aspect once and write every rendition from it by downsampling; sign last.

    Args:
        person: at the master's size.
        crops: of each aspect.
        specs: the files.
        ground: the concrete background.
        seed: of dither and grain.
        style: named in the files.
        request_id: for file names.
        signer: of content credentials, None where none is configured.
        steps: what was done to the photo, in order, told in the files' provenance.
        made_up: the diffusion is generative (see `metadata.source_type`).
        deadline: looked at before each file.
        gone: tells that nobody waits any more; asked before each file, so that no thread works on
            for a caller who is gone.
        side_by_side: does parts of a picture.

    Raises:
        DeadlineError: it passed.
        CancelledError: nobody waits.
    """
    if person.look.retouch is None:  # not asked for, or refused where it would smooth too much
        steps = tuple(step for step in steps if step != "retouch")
    fields = {"request_id": request_id, "style": style.id}
    masters: dict[tuple[float, bool], Image] = {}
    files = []
    for spec in specs:
        if deadline is not None:
            deadline.check("render")
        if gone():
            raise CancelledError("the caller went away while files were written")
        crop = crops[spec.aspect]
        key = (spec.aspect, spec.transparent)
        if key not in masters:
            largest = max(item.width for item in specs if item.aspect == spec.aspect)
            masters[key] = _master(person, crop, ground, seed, largest, spec, style, side_by_side)
        made = renditions.render(masters[key], spec)
        told = _told(style, steps, composed=not spec.transparent, ground=ground, made_up=made_up)
        xmp = xmp_packet(told)
        media_type = MEDIA_TYPES[spec.encode.format]
        data = encode(made.pixels, spec.encoding, xmp=xmp)
        if signer is not None:
            data = sign(data, media_type, signer, told)
        notes = (*made.notes, *(str(note) for note in crop.notes))
        files.append(
            RenditionFile(
                name=spec.name,
                filename=spec.filename(fields),
                media_type=media_type,
                width=spec.width,
                height=spec.height,
                dpi=spec.dpi,
                data=data,
                notes=notes,
            )
        )
    names = filenames.distinct(file.filename for file in files)
    return tuple(replace(file, filename=name) for file, name in zip(files, names, strict=True))


def _told(
    style: Style, steps: tuple[str, ...], *, composed: bool, ground: BackgroundSpec, made_up: bool
) -> Provenance:
    """Return what a file tells of itself; a cut-out has no background."""
    replaced = composed and ground.kind != "blur"
    return Provenance(
        source_type=source_type(diffused=True, composed=replaced, generative=made_up),
        style_id=style.id,
        style_version=style.version,
        steps=steps if composed else tuple(step for step in steps if step != "background"),
    )


def _master(
    person: Person,
    crop: Crop,
    ground: BackgroundSpec,
    seed: int,
    largest: int,
    spec: RenditionSpec,
    style: Style,
    side_by_side: SideBySide,
) -> Image:
    """Return an aspect's picture at its largest wanted size, or at the master's own if smaller."""
    native = crop.width * person.side / person.frame.canvas
    width = max(1, round(min(largest, native)))
    size = (width, max(1, round(width / spec.aspect)))
    if spec.transparent:
        return cut_out_crop(person, crop, size)
    return compose_crop(person, crop, size, ground, seed, style.light_wrap, side_by_side)
