"""One page of photos x styles x backgrounds x crops, each picture with its quality report.

    python scripts/gallery.py --photos FOLDER --out out/gallery

Without `--photos` it shows the astronaut of scikit-image alone.

Each headshot is a CreateHeadshot call of the running service. The models are functions of their
inputs, and so is cutting a person out; what a photo's headshots have in common is therefore worked
out once and remembered while the gallery is at that photo. By default the pictures are made in
rounds, each of which gives every photo another style, background and crop, and the page is finished
when the time is up (`--minutes`); `--full` makes every combination, with all crops of each, photo
by photo. `small.jpg` shows all squares at 48 px. Pictures of people are written into the output
folder only; look at the page and delete it.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import io
import json
import math
import pickle
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import skimage.data
import typer
from headshot.api.gateway import run_gateway
from headshot.client import AsyncHeadshotClient, HeadshotCallError, photo
from headshot.config import Settings
from headshot.pipeline import rendering
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
CROPS = [("square", 640, 640), ("landscape", 640, 480), ("wide", 640, 360), ("portrait", 480, 640)]
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


def whole(photos: list[Path], styles: list[str], backgrounds: list[str]) -> Iterator[Cell]:
    """Yield the whole product, photo by photo and style by style: each cell in all crops."""
    for source in photos:
        yield Cell(source, None, None, (FULL_SIZE, *CROPS))
        for style in styles:
            for background in backgrounds:
                yield Cell(source, style, background, tuple(CROPS))


class Memory:
    """Answers of pure functions, remembered until `forget`.

    What comes back is what the function returned for equal arguments before, so that a headshot
    made with a memory has the same bytes as one made without.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Any] = {}
        self.asked = 0
        self.found = 0

    def forget(self) -> None:
        """Drop all answers."""
        self._known.clear()

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a memory of its positional arguments.

        Arguments that are functions are no part of it: they tell how the work is spread over
        threads, never what it comes to.
        """

        def remembered(*args: Any) -> Any:
            key = self._key(function.__name__, [one for one in args if not callable(one)])
            if not self._has(key):
                self._known[key] = function(*args)
            return self._known[key]

        return remembered

    def inference(self, infer: Callable[..., Any]) -> Callable[..., Any]:
        """Return `InferenceClient.infer` with a memory of model and inputs."""

        async def remembered(model: str, inputs: Mapping[str, Any], **others: Any) -> Any:
            key = self._key(model, sorted(inputs.items()))
            if not self._has(key):
                self._known[key] = await infer(model, inputs, **others)
            return self._known[key]

        return remembered

    def _has(self, key: bytes) -> bool:
        self.asked += 1
        self.found += key in self._known
        return key in self._known

    @staticmethod
    def _key(name: str, content: object) -> bytes:
        return name.encode() + hashlib.sha256(pickle.dumps(content, protocol=5)).digest()


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
        self.squares: dict[str, list[Path]] = defaultdict(list)
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
            if rendition.name == "square":
                self.squares[cell.photo.stem].append(self._out / file)
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
            "files": sum(1 for _ in self._out.glob("*.jpg")),
            "least similarity": round(min(self._similarity, default=0.0), 3),
            "median |delta ITA|": round(median(every), 2) if every else None,
            "largest |delta ITA|": round(max(every), 2) if every else None,
            "by photo": {
                name: round(median(map(abs, values)), 2) for name, values in self._deltas.items()
            },
            "failed measures": {name: n for name, n in self._failed.most_common() if n},
            "refused": self.failures,
        }


async def _make(photos: list[Path], out: Path, minutes: float, full: bool) -> None:
    logs.configure("error")
    memory = Memory()
    async with (
        run_gateway(Settings(port=0, operations_port=0)) as gateway,
        AsyncHeadshotClient(gateway.address) as client,
    ):
        # Set from outside: the service itself keeps nothing of a request after its answer.
        setattr(gateway.client, "infer", memory.inference(gateway.client.infer))  # noqa: B010
        setattr(rendering, "cut_person", memory.function(rendering.cut_person))  # noqa: B010
        gallery = Gallery(client, out)
        styles = [style.style_id for style in (await client.list_styles()).styles]
        plan = whole if full else rounds
        cells = list(plan(photos, styles, ["auto", *BACKGROUNDS]))
        rows: dict[Path, list[str]] = {source: [_thumbnail(source, out)] for source in photos}
        begun = time.monotonic()
        made = 0
        current = None
        for cell in cells:
            spent = time.monotonic() - begun
            if spent > minutes * 60:
                break
            if cell.photo != current:
                memory.forget()
            current = cell.photo
            rows[cell.photo].append(await gallery.picture(cell))
            made += 1
            left = (len(cells) - made) * spent / made if full else minutes * 60 - spent
            print(
                f"{made}/{len(cells)}, {left:.0f} s left: {cell.photo.stem}, {cell.title}",
                file=sys.stderr,
                flush=True,
            )
    summary = {
        "made": f"{made} of {len(cells)}",
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "remembered": f"{memory.found} of {memory.asked} model and cut-out answers",
        **gallery.summary(),
    }
    small_sheet(gallery.squares, out / "small.jpg")
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


def small_sheet(squares: Mapping[str, list[Path]], target: Path, side: int = 48) -> None:
    """Write all squares at `side` px as one picture, a row for each photo."""
    columns = max((len(files) for files in squares.values()), default=0)
    if columns == 0:
        return
    sheet = Image.new("RGB", (columns * (side + 2), len(squares) * (side + 2)), "white")
    for row, files in enumerate(squares.values()):
        for column, file in enumerate(files):
            tile = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(tile, (column * (side + 2), row * (side + 2)))
    sheet.save(target, quality=95)


def _thumbnail(source: Path, out: Path) -> str:
    """Write the photo at the gallery's size; return its figure."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(source.read_bytes()))).convert("RGB")
    image.thumbnail((480, 480))
    image.save(out / f"{source.stem}-input.jpg", quality=88)
    name = html.escape(f"{source.stem}-input.jpg")
    return f"<figure class=input><div><img src='{name}'>input</div></figure>"


def _photos(folder: Path | None) -> list[Path]:
    """Return the photos of a folder, or the astronaut that scikit-image ships."""
    if folder is None:
        return [Path(skimage.data.__file__).parent / "astronaut.png"]
    kinds = (".jpg", ".jpeg", ".png", ".webp", ".heic")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in kinds)


def main(
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos; none: the astronaut of scikit-image.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for page and pictures.")] = Path("out/gallery"),
    only: Annotated[str, typer.Option(help="Only photos whose name contains this.")] = "",
    minutes: Annotated[float, typer.Option(help="Finish the page after this time.")] = 7.0,
    full: Annotated[
        bool, typer.Option("--full", help="Make every combination, all crops of each.")
    ] = False,
) -> None:
    """Make the gallery."""
    found = [path for path in _photos(photos) if only in path.name]
    if not found:
        raise typer.BadParameter(f"no photos of that name in {photos or 'scikit-image'}")
    out.mkdir(parents=True, exist_ok=True)
    asyncio.run(_make(found, out, math.inf if full else minutes, full))
    print(f"look at {out / 'index.html'}")


if __name__ == "__main__":
    typer.run(main)
