"""One page of photos x styles x backgrounds x crops, each picture with its quality report.

    python scripts/gallery.py --photos ../shared/photos --out out/gallery

Pictures of people are written into the output folder only; look at the page and delete it.
"""

from __future__ import annotations

import asyncio
import html
import io
import json
import sys
from collections import defaultdict
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
CROPS = [("square", 480, 480), ("landscape", 640, 480), ("wide", 854, 480), ("portrait", 360, 480)]
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#222;background:#fafaf8}
h2{margin:2rem 0 .4rem}.row{display:flex;flex-wrap:wrap;gap:14px}
figure{margin:0;width:250px}figure img{max-width:250px;display:block}
figure .tiny{display:inline-block;width:48px;height:48px;margin:4px 6px 0 0}
.round{border-radius:50%}figcaption{font-size:12px}.bad{color:#b02020}
details{font-size:11px}table{border-collapse:collapse}td{padding:0 .5rem 0 0}
"""


def _specs(crops: list[tuple[str, int, int]]) -> list[style_pb2.RenditionSpec]:
    return [
        style_pb2.RenditionSpec(name=name, width=width, height=height)
        for name, width, height in crops
    ]


def _figure(name: str, result: pb.HeadshotResult, files: list[str]) -> str:
    measures = "".join(
        f"<tr class='{'' if m.passed else 'bad'}'><td>{html.escape(m.id)}</td>"
        f"<td>{m.value:.3g} {html.escape(m.unit)}</td></tr>"
        for m in result.quality.measures
    )
    failed = [m.id for m in result.quality.measures if not m.passed]
    tiny = f"<img class=tiny src='{files[0]}'><img class='tiny round' src='{files[0]}'>"
    pictures = "".join(f"<img src='{file}'>" for file in files)
    notes = ", ".join([*result.warnings, *failed])
    return (
        f"<figure>{pictures}{tiny}<figcaption>{html.escape(name)}<br>"
        f"similarity {result.verification.similarity:.3f}, {html.escape(result.background[:60])}"
        f"<br><span class=bad>{html.escape(notes)}</span></figcaption>"
        f"<details><summary>quality</summary><table>{measures}</table></details></figure>"
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
        self.failures: list[str] = []

    async def picture(self, source: Path, name: str, options: pb.HeadshotOptions) -> str:
        """Make one headshot and return its figure."""
        request = pb.CreateHeadshotRequest(photos=[photo(source)], options=options)
        try:
            result = await self._client.create_headshot(request, timeout_s=120)
        except HeadshotCallError as error:
            self.failures.append(f"{source.name} {name}: {error}")
            return f"<figure class=bad>{html.escape(f'{name}: {error}')}</figure>"
        files = []
        for rendition in result.renditions:
            file = f"{source.stem}-{name}-{rendition.name}.jpg".replace(" ", "-").replace("#", "")
            (self._out / file).write_bytes(rendition.data)
            files.append(file)
        for measure in result.quality.measures:
            if measure.id == "realism.skin_delta_ita":
                self._deltas[source.stem].append(measure.value)
        return _figure(name, result, files)

    def skin(self) -> dict[str, object]:
        """Return the skin-tone change over all pictures, degrees of ITA."""
        every = [abs(value) for values in self._deltas.values() for value in values]
        return {
            "pictures": len(every),
            "median |delta ITA|": round(median(every), 2) if every else None,
            "largest |delta ITA|": round(max(every), 2) if every else None,
            "by photo": {
                name: round(median(map(abs, values)), 2) for name, values in self._deltas.items()
            },
        }


async def _make(photos: list[Path], out: Path, *, quick: bool) -> None:
    logs.configure("error")
    async with (
        run_gateway(Settings(port=0, operations_port=0)) as gateway,
        AsyncHeadshotClient(gateway.address) as client,
    ):
        gallery = Gallery(client, out)
        styles = (await client.list_styles()).styles
        rows = []
        for source in photos:
            print(f"{source.name} ...", file=sys.stderr, flush=True)
            _thumbnail(source, out)
            figures = [
                f"<figure><img src='{source.stem}-input.jpg'><figcaption>input</figcaption>"
                "</figure>",
                await gallery.picture(
                    source, "crops", pb.HeadshotOptions(renditions=_specs(CROPS))
                ),
            ]
            for style in [] if quick else styles:
                options = pb.HeadshotOptions(style_id=style.style_id, renditions=_specs(CROPS[:1]))
                figures.append(await gallery.picture(source, style.style_id, options))
            for name, background in BACKGROUNDS.items():
                options = pb.HeadshotOptions(background=background, renditions=_specs(CROPS[:1]))
                figures.append(await gallery.picture(source, name, options))
            rows.append(
                f"<h2>{html.escape(source.stem)}</h2><div class=row>{''.join(figures)}</div>"
            )
    summary = {"skin": gallery.skin(), "failures": gallery.failures}
    text = html.escape(json.dumps(summary, indent=1))
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Gallery</title>"
        f"<style>{_STYLE}</style><h1>Gallery</h1><pre>{text}</pre>{''.join(rows)}</html>"
    )
    (out / "index.html").write_text(page)
    print(json.dumps(summary, indent=1))


def _thumbnail(source: Path, out: Path) -> None:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(source.read_bytes()))).convert("RGB")
    image.thumbnail((480, 480))
    image.save(out / f"{source.stem}-input.jpg", quality=88)


def main(
    photos: Annotated[Path, typer.Option(help="Folder of photos.")] = Path("../shared/photos"),
    out: Annotated[Path, typer.Option(help="Folder for page and pictures.")] = Path("out/gallery"),
    only: Annotated[str, typer.Option(help="Only photos whose name contains this.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Leave the styles out.")] = False,
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
    asyncio.run(_make(found, out, quick=quick))
    print(f"look at {out / 'index.html'}")


if __name__ == "__main__":
    typer.run(main)
