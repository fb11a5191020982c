"""Open-loop load on the gateway that knows the right answer to every request it sends."""

from __future__ import annotations

import asyncio
import io
import random
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import skimage.data
from headshot.client import HeadshotCallError
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc as pb_grpc
from headshot.v1 import photo_pb2, style_pb2
from numpy.typing import NDArray
from PIL import Image

# Refusals that tell the caller to come back; they carry a typed reason.
TYPED = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
# Rows of one batch may differ from a run alone by rounding: one level of 255.
TOLERANCE = 1
# A call that has not ended this long after its deadline is lost.
PATIENCE_S = 10.0
OPTIONS = (("grpc.max_receive_message_length", 256 << 20),)


def portrait() -> bytes:
    """Return Eileen Collins' portrait (NASA, public domain) as JPEG."""
    out = io.BytesIO()
    pixels = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


@dataclass(frozen=True)
class Outcome:
    """How one request ended.

    Attributes:
        kind: "matte" or "create".
        due: second it was meant to be sent, on the monotonic clock.
        ended: second its answer was complete.
        code: gRPC code; LOST when it never ended.
        reason: typed reason of a refusal.
        correct: whether the picture is the right one; True for refusals.
    """

    kind: str
    due: float
    ended: float
    code: str
    reason: str = ""
    correct: bool = True

    @property
    def latency_s(self) -> float:
        return self.ended - self.due

    @property
    def ok(self) -> bool:
        return self.code == "OK" and self.correct

    @property
    def refused(self) -> bool:
        return self.code in TYPED

    @property
    def lost(self) -> bool:
        """Neither answered nor refused with a code that a caller can act on."""
        return self.code != "OK" and not self.refused


@dataclass
class Report:
    """The outcomes of one load."""

    outcomes: list[Outcome] = field(default_factory=list)
    begun: float = 0.0
    seconds: float = 0.0

    def count(self, name: str) -> int:
        return sum(bool(getattr(outcome, name)) for outcome in self.outcomes)

    @property
    def wrong(self) -> int:
        return sum(not outcome.correct for outcome in self.outcomes)

    def goodput(self, warm_up_s: float = 0.0) -> float:
        """Return right answers a second while the load was held, after a warm-up."""
        first, last = self.begun + warm_up_s, self.begun + self.seconds
        return sum(o.ok and first <= o.ended <= last for o in self.outcomes) / (last - first)

    def latency(self, quantile: float) -> float:
        """Return a quantile of the answered requests' latency, from the intended send time."""
        values = [outcome.latency_s for outcome in self.outcomes if outcome.ok]
        return float(np.quantile(values, quantile)) if values else float("nan")

    def codes(self) -> str:
        found: dict[str, int] = {}
        for outcome in self.outcomes:
            key = outcome.code if outcome.code == "OK" else f"{outcome.code}/{outcome.reason}"
            found[key] = found.get(key, 0) + 1
        return ", ".join(f"{key} {count}" for key, count in sorted(found.items()))

    def recovered_after(self, fault_at: float) -> float:
        """Return seconds from the fault to the first right answer to a request sent after it."""
        ends = [o.ended for o in self.outcomes if o.ok and o.due >= fault_at]
        return min(ends) - fault_at if ends else float("inf")


class Caller:
    """Sends requests whose right answers it knows.

    Args:
        address: host:port of the gateway.
        deadline_s: deadline of each request.
    """

    def __init__(self, address: str, deadline_s: float = 60.0) -> None:
        self._channel: Any = grpc.aio.insecure_channel(address, options=OPTIONS)
        stub: Any = pb_grpc.HeadshotServiceStub
        self._stub = stub(self._channel)
        self._deadline_s = deadline_s
        self._photo = photo_pb2.Photo(data=portrait())
        self._expected: dict[str, NDArray[np.uint8]] = {}

    async def close(self) -> None:
        await self._channel.close()

    async def learn(self, *kinds: str) -> None:
        """Remember the right answers, asked for on a quiet, healthy service."""
        for kind in kinds:
            self._expected[kind] = await getattr(self, f"_{kind}")(120.0)

    async def _matte(self, timeout_s: float) -> NDArray[np.uint8]:
        answer = await self._stub.Matte(pb.MatteRequest(photo=self._photo), timeout=timeout_s)
        return _pixels(answer.alpha)

    async def _create(self, timeout_s: float) -> NDArray[np.uint8]:
        avatar = style_pb2.RenditionSpec(
            name="avatar", width=256, height=256, format=style_pb2.IMAGE_FORMAT_PNG
        )
        options = pb.HeadshotOptions(
            seed=7, candidates=1, allow_unverified=True, no_degrade=True, renditions=[avatar]
        )
        request = pb.CreateHeadshotRequest(photos=[self._photo], options=options)
        picture: NDArray[np.uint8] | None = None
        async for response in self._stub.CreateHeadshot(request, timeout=timeout_s):
            if response.WhichOneof("event") == "result":
                picture = _pixels(response.result.renditions[0].data)
        if picture is None:
            raise ValueError("the stream ended without a result")
        return picture

    async def call(self, kind: str, due: float) -> Outcome:
        """Send one request and judge its answer."""
        code, reason, correct = "LOST", "", True
        try:
            async with asyncio.timeout(self._deadline_s + PATIENCE_S):
                picture = await getattr(self, f"_{kind}")(self._deadline_s)
            code, correct = "OK", self._right(kind, picture)
        except grpc.aio.AioRpcError as error:
            code, reason = error.code().name, HeadshotCallError(error).reason
        except ValueError:
            code, correct = "OK", False
        except TimeoutError:
            reason = "no answer"
        return Outcome(kind, due, time.monotonic(), code, reason, correct)

    def _right(self, kind: str, picture: NDArray[np.uint8]) -> bool:
        expected = self._expected[kind]
        if picture.shape != expected.shape:
            return False
        return bool(np.abs(picture.astype(int) - expected.astype(int)).max() <= TOLERANCE)

    async def open_loop(
        self, rate: float, seconds: float, kinds: tuple[str, ...], seed: int = 1
    ) -> Report:
        """Send at Poisson times whatever the service does, wait for every answer, report."""
        draw = random.Random(seed)
        begun = time.monotonic()
        tasks: list[asyncio.Task[Outcome]] = []
        due = begun
        while (due := due + draw.expovariate(rate)) < begun + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(self.call(kinds[len(tasks) % len(kinds)], due)))
        outcomes = await asyncio.gather(*tasks)
        return Report(list(outcomes), begun, seconds)

    async def closed_loop(self, concurrency: int, seconds: float, kind: str) -> Report:
        """Keep `concurrency` requests going: the most the service can do."""
        begun = time.monotonic()
        outcomes: list[Outcome] = []

        async def one_after_another() -> None:
            while time.monotonic() < begun + seconds:
                outcomes.append(await self.call(kind, time.monotonic()))

        await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
        return Report(outcomes, begun, seconds)


def _pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))
