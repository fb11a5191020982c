"""One page of photos x styles x backgrounds x crops, each picture with its quality report.

    python scripts/gallery.py --photos ../shared/photos --out out/gallery

The whole product is an hour of one core. The pictures are therefore made in rounds, each of which
gives every photo another style and another background, and the page is finished when the time is
up (`--minutes`, or `--full` for all of it). Pictures of people are written into the output folder
only; look at the page and delete it.
"""

from __future__ import annotations

import asyncio
import html
import io
import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from headshot.api.gateway import run_gateway
from headshot.client import AsyncHeadshotClient, HeadshotCallError, photo
from headshot.config import Settings
from headshot.telemetry import logs
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import style_pb2
from PIL import Image, ImageOps

BACKGROUNDS = {
    "grey": style_pb2.Background(colour="grey"),
    "light-grey": style_pb2.Background(colour="light-grey"),
    "off-white": style_pb2.Background(colour="off-white"),
    "charcoal": style_pb2.Background(colour="charcoal"),
    "navy": style_pb2.Background(colour="navy"),
    "brand #0A7E8C": style_pb2.Background(colour="#0A7E8C"),
    "gradient grey": style_pb2.Background(gradient="grey"),
    "blurred scene": style_pb2.Background(blurred_scene=True),
}
FULL_SIZE = ("web", 1200, 1200)
CROPS = [("square", 640, 640), ("landscape", 640, 480), ("wide", 854, 480), ("portrait", 480, 640)]
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#222;background:#fafaf8}
h2{margin:2rem 0 .4rem}.row{display:flex;flex-wrap:wrap;gap:18px 14px}
figure{margin:0;display:flex;gap:8px;width:470px}figure.input{width:250px}
.pictures{width:250px}.pictures>a>img,.input img{max-width:250px;display:block;margin-bottom:3px}
.tiny{width:48px;height:48px;margin:4px 6px 0 0}.round{border-radius:50%}
.report{font-size:10px;line-height:1.25;width:212px}.report b{font-size:12px}
.bad{color:#b02020}table{border-collapse:collapse}td{padding:0 .4rem 0 0}
.many{display:flex;flex-wrap:wrap;gap:4px;width:250px}.many img{height:84px;display:block}
"""


@dataclass(frozen=True)
class Cell:
    """One headshot of the gallery; style or background None is the service's own choice."""

    photo: Path
    style: str | None
    background: str | None
    crops: tuple[tuple[str, int, int], ...]

    @property
    def title(self) -> str:
        """What was asked for."""
        return " on ".join(part for part in (self.style or "default", self.background) if part)


def rounds(photos: list[Path], styles: list[str], backgrounds: list[str]) -> Iterator[Cell]:
    """Yield every photo x style x background once, so that any beginning is an even sample.

    First comes each photo as the service makes it, in all crops and at full size.
    """
    for source in photos:
        yield Cell(source, None, None, (FULL_SIZE, *CROPS))
    combinations = [(s, b) for s in range(len(styles)) for b in range(len(backgrounds))]
    # Both indices move with each step; where they would repeat, one moves on alone.
    walk = sorted(combinations, key=lambda c: ((c[1] - c[0]) % len(backgrounds), c[0]))
    for step in range(len(walk)):
        for index, source in enumerate(photos):
            style, background = walk[(step + index * 5) % len(walk)]
            yield Cell(source, styles[style], backgrounds[background], (CROPS[step % 4],))


def _specs(crops: list[tuple[str, int, int]]) -> list[style_pb2.RenditionSpec]:
    return [
        style_pb2.RenditionSpec(name=name, width=width, height=height)
        for name, width, height in crops
    ]


def _report(result: pb.HeadshotResult) -> str:
    rows = "".join(
        f"<tr class='{'' if m.passed else 'bad'}'><td>{html.escape(m.id.split('.')[1])}</td>"
        f"<td>{m.value:.3g} {html.escape(m.unit)}</td></tr>"
        for m in result.quality.measures
    )
    return f"<table>{rows}</table>"


def _figure(cell: Cell, result: pb.HeadshotResult, files: list[str]) -> str:
    first, *more = (f"<a href='{file}'><img loading=lazy src='{file}'></a>" for file in files)
    tiny = f"<img class=tiny src='{files[0]}'><img class='tiny round' src='{files[0]}'>"
    others = f"<div class=many>{''.join(more)}</div>" if more else ""
    failed = [m.id for m in result.quality.measures if not m.passed]
    notes = ", ".join(dict.fromkeys([*result.warnings, *failed]))
    return (
        f"<figure><div class=pictures>{first}{others}{tiny}</div><div class=report>"
        f"<b>{html.escape(cell.title)}</b><br>similarity {result.verification.similarity:.3f}<br>"
        f"{html.escape(result.background[:60])}<br><span class=bad>{html.escape(notes)}</span>"
        f"{_report(result)}</div></figure>"
    )


class Gallery:
    """Makes the pictures and the page.

    Args:
        client: of a running service.
        out: folder to write to.
    """

    def __init__(self, client: AsyncHeadshotClient, out: Path) -> None:
        self._client = client
        self._out = out
        self._deltas: dict[str, list[float]] = defaultdict(list)
        self._failed: Counter[str] = Counter()
        self._similarity: list[float] = []
        self.failures: list[str] = []

    async def picture(self, cell: Cell) -> str:
        """Make one headshot and return its figure."""
        options = pb.HeadshotOptions(style_id=cell.style or "", renditions=_specs(list(cell.crops)))
        if cell.background is not None and cell.background != "auto":
            options.background.CopyFrom(BACKGROUNDS[cell.background])
        request = pb.CreateHeadshotRequest(photos=[photo(cell.photo)], options=options)
        try:
            result = await self._client.create_headshot(request, timeout_s=120)
        except HeadshotCallError as error:
            self.failures.append(f"{cell.photo.name} {cell.title}: {error}")
            return f"<figure class=bad>{html.escape(f'{cell.title}: {error}')}</figure>"
        files = []
        for rendition in result.renditions:
            file = f"{cell.photo.stem}-{cell.title}-{rendition.name}.jpg"
            file = file.replace(" ", "-").replace("#", "")
            (self._out / file).write_bytes(rendition.data)
            files.append(file)
        for measure in result.quality.measures:
            if measure.id == "realism.skin_delta_ita":
                self._deltas[cell.photo.stem].append(measure.value)
            self._failed[measure.id] += not measure.passed
        self._similarity.append(result.verification.similarity)
        return _figure(cell, result, files)

    def summary(self) -> dict[str, object]:
        """Return counts, similarity, skin-tone change in degrees of ITA, and what failed."""
        every = [abs(value) for values in self._deltas.values() for value in values]
        return {
            "pictures": len(every),
            "least similarity": round(min(self._similarity, default=0.0), 3),
            "median |delta ITA|": round(median(every), 2) if every else None,
            "largest |delta ITA|": round(max(every), 2) if every else None,
            "by photo": {
                name: round(median(map(abs, values)), 2) for name, values in self._deltas.items()
            },
            "failed measures": {name: n for name, n in self._failed.most_common() if n},
            "refused": self.failures,
        }


async def _make(photos: list[Path], out: Path, minutes: float) -> None:
    logs.configure("error")
    async with (
        run_gateway(Settings(port=0, operations_port=0)) as gateway,
        AsyncHeadshotClient(gateway.address) as client,
    ):
        gallery = Gallery(client, out)
        styles = [style.style_id for style in (await client.list_styles()).styles]
        cells = list(rounds(photos, styles, ["auto", *BACKGROUNDS]))
        rows: dict[Path, list[str]] = {source: [_thumbnail(source, out)] for source in photos}
        begun = time.monotonic()
        made = 0
        for cell in cells:
            spent = time.monotonic() - begun
            if spent > minutes * 60:
                break
            rows[cell.photo].append(await gallery.picture(cell))
            made += 1
            left = minutes * 60 - spent
            print(
                f"{made}/{len(cells)}, {left:.0f} s left: {cell.photo.stem}, {cell.title}",
                file=sys.stderr,
                flush=True,
            )
    summary = {"made": f"{made} of {len(cells)}", **gallery.summary()}
    text = html.escape(json.dumps(summary, indent=1))
    body = "".join(
        f"<h2>{html.escape(source.stem)}</h2><div class=row>{''.join(figures)}</div>"
        for source, figures in rows.items()
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Gallery</title>"
        f"<style>{_STYLE}</style><h1>Gallery</h1><pre>{text}</pre>{body}</html>"
    )
    (out / "index.html").write_text(page)
    print(json.dumps(summary, indent=1))


def _thumbnail(source: Path, out: Path) -> str:
    """Write the photo at the gallery's size; return its figure."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(source.read_bytes()))).convert("RGB")
    image.thumbnail((480, 480))
    image.save(out / f"{source.stem}-input.jpg", quality=88)
    name = html.escape(f"{source.stem}-input.jpg")
    return f"<figure class=input><div><img src='{name}'>input</div></figure>"


def main(
    photos: Annotated[Path, typer.Option(help="Folder of photos.")] = Path("../shared/photos"),
    out: Annotated[Path, typer.Option(help="Folder for page and pictures.")] = Path("out/gallery"),
    only: Annotated[str, typer.Option(help="Only photos whose name contains this.")] = "",
    minutes: Annotated[float, typer.Option(help="Finish the page after this time.")] = 7.0,
    full: Annotated[bool, typer.Option("--full", help="Make the whole product.")] = False,
) -> None:
    """Make the gallery."""
    found = sorted(
        path
        for path in photos.iterdir()
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".heic") and only in path.name
    )
    if not found:
        raise typer.BadParameter(f"no photos in {photos}")
    out.mkdir(parents=True, exist_ok=True)
    asyncio.run(_make(found, out, math.inf if full else minutes))
    print(f"look at {out / 'index.html'}")


if __name__ == "__main__":
    typer.run(main)
