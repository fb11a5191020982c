"""A small typed client of headshot.v1, asynchronous and synchronous.

Only calls that failed before any work was done, or that the service asked to send again, are
retried: UNAVAILABLE, and RESOURCE_EXHAUSTED with RetryInfo, on unary calls and on streams that have
not answered yet. All requests are deterministic, so a repeat cannot make a second, different
picture.
"""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Sequence,
)
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from headshot import team_call
from headshot.deadline import Deadline
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc, photo_pb2

T = TypeVar("T")

_MESSAGE_BYTES = 256 * 2**20
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
)


class HeadshotCallError(Exception):
    """A failed call, with its typed details.

    Attributes:
        code: gRPC status code.
        reason: stable UPPER_SNAKE reason, empty where the server sent none.
        message: what happened and what to do.
        metadata: facts of the ErrorInfo.
        violations: (field, description) of bad fields.
        retry_after_s: when a repeat makes sense, None where it does not.
    """

    def __init__(self, error: Any) -> None:  # an RpcError that is a call, of either kind of stub
        super().__init__(error.details())
        self.code = error.code()
        self.message = error.details() or ""
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.violations: list[tuple[str, str]] = []
        self.retry_after_s: float | None = None
        for detail in _details(error):
            self._take(detail)

    def _take(self, detail: Any) -> None:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            self.reason, self.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            self.violations = [(item.field, item.description) for item in bad.field_violations]
        elif detail.Unpack(retry):
            self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()

    @property
    def retryable(self) -> bool:
        """Whether sending the same request again is safe and may help."""
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retry_after_s is not None
        return self.code is grpc.StatusCode.UNAVAILABLE

    def __str__(self) -> str:
        fields = "".join(
            f"\n  {field}" if text == self.message else f"\n  {field}: {text}"
            for field, text in self.violations
        )
        return f"{self.reason or self.code.name}: {self.message}{fields}"


def _details(error: Any) -> Sequence[Any]:
    status = rpc_status.from_call(error)
    return status.details if status is not None else ()


@dataclass(frozen=True)
class RetryPolicy:
    """When a call is sent again.

    Attributes:
        attempts: calls in all.
        backoff_s: pause before the second call; doubled each time, with jitter.
        max_backoff_s: longest pause.
    """

    attempts: int = 3
    backoff_s: float = 0.1
    max_backoff_s: float = 2.0

    def pause(self, attempt: int, asked: float | None) -> float:
        """Return the seconds to wait after a failed attempt (from 0)."""
        if asked is not None:
            # All that were refused at one time were told the same.
            return asked * random.uniform(1.0, 1.5)  # noqa: S311 - jitter, not a secret
        ceiling = min(self.max_backoff_s, self.backoff_s * 2**attempt)
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret


def photo(source: bytes | str | Path, photo_id: str = "") -> photo_pb2.Photo:
    """Return a Photo message of encoded bytes or of a file."""
    if isinstance(source, bytes):
        return photo_pb2.Photo(data=source, photo_id=photo_id)
    path = Path(source)
    plain = unicodedata.normalize("NFKD", path.name).encode("ascii", "ignore").decode()
    named = "".join(character for character in plain if character.isprintable())[:64]
    return photo_pb2.Photo(data=path.read_bytes(), photo_id=photo_id or named)


class AsyncHeadshotClient:
    """Calls the service from asyncio code; use as an async context manager.

    Args:
        target: host:port of the gateway.
        api_key: key of the caller, None where the service asks for none.
        credentials: TLS credentials of the channel, None for plain text.
        timeout_s: deadline of calls that name none, seconds, all attempts together.
        team_timeout_s: the same for CreateHeadshots, where one call makes everybody's.
        retry: when a call is sent again.
    """

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 60.0,
        team_timeout_s: float = 600.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._target, self._credentials = target, credentials
        self._channel = (
            grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
        )
        self.stub: Any = headshot_service_pb2_grpc.HeadshotServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._timeout_s = timeout_s
        self._team_timeout_s = team_timeout_s
        self._team_channel: grpc.Channel | None = None
        self._retry = retry or RetryPolicy()

    async def __aenter__(self) -> AsyncHeadshotClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close(None)
        if self._team_channel is not None:
            self._team_channel.close()

    async def _unary(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        deadline = Deadline.after(timeout_s or self._timeout_s)
        for attempt in range(self._retry.attempts):
            try:
                return await method(request, timeout=deadline.remaining(), metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                await self._before_retry(HeadshotCallError(error), attempt, deadline)
        raise AssertionError("attempts is at least one")

    async def _before_retry(
        self, failure: HeadshotCallError, attempt: int, deadline: Deadline
    ) -> None:
        """Wait before the next attempt; raise the failure where there is to be none.

        All attempts of a call share its deadline: one that could not begin before it is not made.
        """
        pause = self._retry.pause(attempt, failure.retry_after_s)
        last = attempt + 1 == self._retry.attempts
        if last or not failure.retryable or pause >= deadline.remaining():
            raise failure from None
        await asyncio.sleep(pause)

    async def _stream(
        self, method: Any, request: Any, timeout_s: float | None
    ) -> AsyncIterator[Any]:
        deadline = Deadline.after(timeout_s or self._timeout_s)
        for attempt in range(self._retry.attempts):
            begun = False
            call = method(request, timeout=deadline.remaining(), metadata=self._metadata)
            try:
                async for response in call:
                    begun = True
                    yield response
                return
            except grpc.aio.AioRpcError as error:
                failure = HeadshotCallError(error)
                if begun:
                    raise failure from None
                await self._before_retry(failure, attempt, deadline)
            finally:
                # Whoever stops reading wants no more of it; nothing happens to a finished call.
                call.cancel()

    async def encode_identity(
        self, request: pb.EncodeIdentityRequest, timeout_s: float | None = None
    ) -> pb.EncodeIdentityResponse:
        """Make an identity template."""
        response: pb.EncodeIdentityResponse = await self._unary(
            self.stub.EncodeIdentity, request, timeout_s
        )
        return response

    def denoise(
        self, request: pb.DenoiseRequest, timeout_s: float | None = None
    ) -> AsyncIterator[pb.DenoiseResponse]:
        """Frame and restore a photo; yields progress, then the result."""
        return self._stream(self.stub.Denoise, request, timeout_s)

    async def matte(
        self, request: pb.MatteRequest, timeout_s: float | None = None
    ) -> pb.MatteResponse:
        """Cut the person out."""
        response: pb.MatteResponse = await self._unary(self.stub.Matte, request, timeout_s)
        return response

    async def upscale(
        self, request: pb.UpscaleRequest, timeout_s: float | None = None
    ) -> pb.UpscaleResponse:
        """Enlarge a picture four times."""
        response: pb.UpscaleResponse = await self._unary(self.stub.Upscale, request, timeout_s)
        return response

    async def verify(
        self, request: pb.VerifyRequest, timeout_s: float | None = None
    ) -> pb.VerifyResponse:
        """Say whether a picture shows the person."""
        response: pb.VerifyResponse = await self._unary(self.stub.Verify, request, timeout_s)
        return response

    def create_headshot_events(
        self, request: pb.CreateHeadshotRequest, timeout_s: float | None = None
    ) -> AsyncIterator[pb.CreateHeadshotResponse]:
        """Make a headshot; yields stage events and progress, then the result."""
        return self._stream(self.stub.CreateHeadshot, request, timeout_s)

    async def create_headshot(
        self, request: pb.CreateHeadshotRequest, timeout_s: float | None = None
    ) -> pb.HeadshotResult:
        """Make a headshot and return its result."""
        result = pb.HeadshotResult()
        async for response in self.create_headshot_events(request, timeout_s):
            if response.WhichOneof("event") == "result":
                result = response.result
        return result

    async def create_headshots(
        self,
        settings: pb.TeamSettings,
        items: Iterable[pb.TeamItem],
        timeout_s: float | None = None,
    ) -> AsyncGenerator[pb.CreateHeadshotsResponse, None]:
        """Make a team's headshots; yields each outcome as it comes. Never retried.

        `items` are iterated over on another thread. What that raises ends the call and is raised
        here.
        """
        if self._team_channel is None:
            self._team_channel = (
                grpc.insecure_channel(self._target, options=_CHANNEL_OPTIONS)
                if self._credentials is None
                else grpc.secure_channel(self._target, self._credentials, options=_CHANNEL_OPTIONS)
            )
        outcomes = team_call.outcomes(
            self._team_channel,
            settings,
            items,
            timeout_s or self._team_timeout_s,
            self._metadata,
        )
        try:
            async for outcome in outcomes:
                yield outcome
        except grpc.RpcError as error:
            raise HeadshotCallError(error) from None
        finally:
            await outcomes.aclose()

    async def list_styles(self, timeout_s: float | None = None) -> pb.ListStylesResponse:
        """List the style guides."""
        response: pb.ListStylesResponse = await self._unary(
            self.stub.ListStyles, pb.ListStylesRequest(), timeout_s
        )
        return response

    async def get_service_info(self, timeout_s: float | None = None) -> pb.GetServiceInfoResponse:
        """Tell what is running."""
        response: pb.GetServiceInfoResponse = await self._unary(
            self.stub.GetServiceInfo, pb.GetServiceInfoRequest(), timeout_s
        )
        return response


class HeadshotClient:
    """The same calls from code without asyncio; use as a context manager, from one thread."""

    def __init__(self, target: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(_make(lambda: AsyncHeadshotClient(target, **options)))
        self._closed = False

    def __enter__(self) -> HeadshotClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._runner.run(self._client.__aexit__(None, None, None))
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def encode_identity(
        self, request: pb.EncodeIdentityRequest, timeout_s: float | None = None
    ) -> pb.EncodeIdentityResponse:
        """Make an identity template."""
        return self._run(self._client.encode_identity(request, timeout_s))

    def denoise(
        self, request: pb.DenoiseRequest, timeout_s: float | None = None
    ) -> list[pb.DenoiseResponse]:
        """Frame and restore a photo; returns progress and, last, the result."""

        async def collect() -> list[pb.DenoiseResponse]:
            return [response async for response in self._client.denoise(request, timeout_s)]

        return self._run(collect())

    def matte(self, request: pb.MatteRequest, timeout_s: float | None = None) -> pb.MatteResponse:
        """Cut the person out."""
        return self._run(self._client.matte(request, timeout_s))

    def upscale(
        self, request: pb.UpscaleRequest, timeout_s: float | None = None
    ) -> pb.UpscaleResponse:
        """Enlarge a picture four times."""
        return self._run(self._client.upscale(request, timeout_s))

    def verify(
        self, request: pb.VerifyRequest, timeout_s: float | None = None
    ) -> pb.VerifyResponse:
        """Say whether a picture shows the person."""
        return self._run(self._client.verify(request, timeout_s))

    def create_headshot(
        self, request: pb.CreateHeadshotRequest, timeout_s: float | None = None
    ) -> pb.HeadshotResult:
        """Make a headshot and return its result."""
        return self._run(self._client.create_headshot(request, timeout_s))

    def create_headshots(
        self,
        settings: pb.TeamSettings,
        items: Iterable[pb.TeamItem],
        timeout_s: float | None = None,
    ) -> Generator[pb.CreateHeadshotsResponse, None, None]:
        """Make a team's headshots; yields each outcome as it comes.

        The call begins when the first is asked for. What came before an error is the caller's.
        """
        outcomes = self._client.create_headshots(settings, items, timeout_s)

        async def following() -> pb.CreateHeadshotsResponse | None:
            return await anext(outcomes, None)

        try:
            while (outcome := self._run(following())) is not None:
                yield outcome
        finally:
            if not self._closed:  # Who closes the client ends its calls.
                self._run(outcomes.aclose())

    def list_styles(self, timeout_s: float | None = None) -> pb.ListStylesResponse:
        """List the style guides."""
        return self._run(self._client.list_styles(timeout_s))

    def get_service_info(self, timeout_s: float | None = None) -> pb.GetServiceInfoResponse:
        """Tell what is running."""
        return self._run(self._client.get_service_info(timeout_s))


async def _make(factory: Callable[[], T]) -> T:
    """Run a factory inside the loop: a grpc.aio channel belongs to the loop it is made in."""
    return factory()
