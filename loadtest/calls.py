"""What a stage call costs beyond asking Triton oneself (python -m loadtest.calls).

One Triton serves both sides. The direct side holds decoded pixels and does what any caller of these
networks has to (shrink to the input, align the face); the service gets the JPEG. Both take turns,
one request at a time. Allowed are the decoding and 3 ms (EncodeIdentity, Matte and Verify of one
photo of about 1 MB).
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import skimage.data
import typer
from headshot.client import AsyncHeadshotClient
from headshot.deadline import Deadline
from headshot.imaging import geometry
from headshot.imaging import matte as mattes
from headshot.imaging.decode import decode_photo
from headshot.triton.client import InferenceClient
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig
from numpy.typing import NDArray
from PIL import Image

from loadtest import machine
from loadtest.baselines.sequential import parameters_of
from loadtest.processes import ROOT, service
from loadtest.requests import RequestMaker
from loadtest.scenario import Work

Pixels = NDArray[np.uint8]
WORKING_SIDE = 2048
_ALLOWED_MS = 3.0
_MEGABYTE = 1_000_000


def photo_of_a_megabyte() -> bytes:
    """Return the astronaut at a phone's size as a JPEG of about 1 MB."""
    image = Image.fromarray(np.asarray(skimage.data.astronaut())).resize((2048, 2048))
    best = b""
    for quality in range(85, 100):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        if not best or abs(out.tell() - _MEGABYTE) < abs(len(best) - _MEGABYTE):
            best = out.getvalue()
    return best


class Direct:
    """The networks asked directly, with decoded pixels."""

    def __init__(self, client: InferenceClient, repository: Path) -> None:
        self._client = client
        self._detector = parameters_of(repository, "face_detector")
        self._matting = int(parameters_of(repository, "matting")["canvas"])

    async def _run(self, model: str, **inputs: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        result = await self._client.infer(model, inputs, deadline=Deadline.after(60))
        return result.outputs

    async def embed(self, photo: Pixels) -> NDArray[np.float32]:
        """Return the embedding of the best face: detector, alignment, encoder."""
        canvas, scale = geometry.letterbox(photo, int(self._detector["canvas"]))
        found = await self._run("face_detector", image=canvas[None])
        scores = found["scores"][0]
        keep = scores >= float(self._detector["score_threshold"])
        boxes, points = found["boxes"][0][keep], found["landmarks"][0][keep]
        best = geometry.nms(boxes, scores[keep], float(self._detector["nms_iou"]))[0]
        aligned = geometry.align_face(photo, points[best] / scale, antialias=True)
        outputs = await self._run("identity_encoder", face=aligned[None])
        return np.asarray(outputs["embedding"][0], np.float32)

    async def verify(self, photo: Pixels) -> float:
        """Return the similarity of a photo and a reference."""
        first, second = await self.embed(photo), await self.embed(photo)
        return float(first @ second)

    async def matte(self, photo: Pixels) -> NDArray[np.float32]:
        """Return the matte at the photo's own size: network and guided filter."""
        canvas = geometry.resize(photo, (self._matting, self._matting))
        found = await self._run("matting", image=canvas[None])
        small = np.ascontiguousarray(found["alpha"][0, :, :, 0])
        return mattes.refine_alpha(mattes.clean(small), photo)


@dataclass(frozen=True)
class Row:
    """One call; medians in milliseconds.

    Attributes:
        call: which.
        service: the RPC as a client sees it.
        direct: the same result from decoded pixels.
        decode: decoding the request's photos, one after the other.
        stages: medians of what the service says of each stage: total, queue, compute, wire.
    """

    call: str
    service: float
    direct: float
    decode: float
    stages: dict[str, dict[str, float]]

    @property
    def added(self) -> float:
        """What the service takes beyond the direct way."""
        return self.service - self.direct

    @property
    def allowed(self) -> float:
        """Decoding and 3 ms."""
        return self.decode + _ALLOWED_MS


async def _timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    begun = time.perf_counter()
    answer = await work()
    return (time.perf_counter() - begun) * 1e3, answer


def _medians(answers: list[Any]) -> dict[str, dict[str, float]]:
    """Return the medians of the timings in the service's answers, milliseconds."""
    found: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        whole = found.setdefault("whole", {})
        whole.setdefault("total", []).append(answer.timings.total_ms)
        for stage in answer.timings.stages:
            parts = found.setdefault(stage.stage, {})
            for name in ("total", "queue", "compute", "wire"):
                parts.setdefault(name, []).append(getattr(stage, f"{name}_ms"))
    return {
        stage: {name: float(np.median(values)) for name, values in parts.items()}
        for stage, parts in found.items()
    }


async def measure(address: str, triton_url: str, repository: Path, rounds: int) -> list[Row]:
    """Return the rows; both sides take turns, so that a busy moment of the machine meets both."""
    data = photo_of_a_megabyte()
    pixels = decode_photo(data, long_side=WORKING_SIDE).pixels
    rows = []
    async with InferenceClient([triton_url]) as client, AsyncHeadshotClient(address) as caller:
        direct = Direct(client, repository)
        for name, kind, ways, decodes in (
            ("EncodeIdentity", "encode_identity", direct.embed, 1),
            ("Matte", "matte", direct.matte, 1),
            ("Verify", "verify", direct.verify, 2),
        ):
            maker = RequestMaker(Work.model_validate({"kind": kind}), [data])

            async def ask(maker: RequestMaker = maker) -> Any:
                return await maker.send(caller, 0)

            async def without(ways: Callable[[Pixels], Awaitable[object]] = ways) -> object:
                return await ways(pixels)

            spent: dict[str, list[float]] = {"service": [], "direct": [], "decode": []}
            answers = []
            for index in range(rounds + 3):
                begun = time.perf_counter()
                decode_photo(data, long_side=WORKING_SIDE)
                took = {"decode": (time.perf_counter() - begun) * 1e3 * decodes}
                took["service"], answer = await _timed(ask)
                took["direct"], _ = await _timed(without)
                if index >= 3:
                    answers.append(answer)
                    for key, value in took.items():
                        spent[key].append(value)
            middle = {key: float(np.median(values)) for key, values in spent.items()}
            rows.append(Row(name, **middle, stages=_medians(answers)))
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    lines = [
        f"{'call':<16} {'service ms':>10} {'direct ms':>10} {'added ms':>9} {'decode ms':>10} "
        f"{'allowed ms':>11}"
    ]
    for row in rows:
        held = "" if row.added <= row.allowed else "  missed"
        lines.append(
            f"{row.call:<16} {row.service:10.1f} {row.direct:10.1f} {row.added:9.1f} "
            f"{row.decode:10.1f} {row.allowed:11.1f}{held}"
        )
    for row in rows:
        told = "; ".join(
            f"{stage} {' '.join(f'{name} {value:.1f}' for name, value in parts.items())}"
            for stage, parts in row.stages.items()
        )
        lines.append(f"{row.call}, as the service tells, ms: {told}")
    return "\n".join(lines)


def main(
    rounds: Annotated[int, typer.Option(help="Requests of each kind on each side.")] = 40,
    repository: Annotated[Path, typer.Option(help="Models.")] = ROOT / "model_repository",
    out: Annotated[Path, typer.Option(help="JSON of the figures.")] = Path("out/calls.json"),
) -> None:
    """Start Triton and the service, measure, print the table."""

    async def work() -> list[Row]:
        async with EmbeddedTriton(EmbeddedTritonConfig(repository.resolve())) as triton:
            given = ("--triton-url", triton.grpc_url, "--set", f"triton_facts={triton.facts_dir}")
            # Starting a process blocks; nothing else runs on this loop yet.
            with service(options=given) as running:
                return await measure(running.address, triton.grpc_url, repository, rounds)

    rows = asyncio.run(work())
    about = machine.describe()
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    print(table(rows))
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = [asdict(row) | {"added": row.added, "allowed": row.allowed} for row in rows]
    out.write_text(json.dumps({"machine": about, "rows": figures}, indent=1))


if __name__ == "__main__":
    typer.run(main)
