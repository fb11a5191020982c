"""Run something around an RPC handler, whatever its kind, and learn how it ended."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from headshot.errors import StalledError

if TYPE_CHECKING:
    # Generic in the stubs only.
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    Interceptor: TypeAlias = grpc.aio.ServerInterceptor[Any, Any]
else:
    Context = grpc.aio.ServicerContext
    Handler = grpc.RpcMethodHandler
    Interceptor = grpc.aio.ServerInterceptor


# A caller gives up at its own deadline, and its cancellation may arrive a little before ours.
_LATE_S = 0.05
# How long the cancellation of a call may lag behind other signs that it is over.
CANCELLATION_S = 0.2
# A caller that takes nothing of a streamed answer for so long is let go; a message is taken when
# its last byte is, so that a large one has the time that a slow line needs, besides.
_PATIENCE_S = 60.0
_SLOWEST_BYTES_S = 64 * 2**10


class AroundInterceptor(Interceptor, ABC):
    """An interceptor that is an async context manager around each RPC."""

    @abstractmethod
    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return what to enter before the handler and leave after it."""

    def unknown_method(self, details: grpc.HandlerCallDetails) -> None:
        """Take note of a call to a method that does not exist; gRPC answers UNIMPLEMENTED."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            # The stubs leave out that an unknown method has no handler.
            self.unknown_method(handler_call_details)  # type: ignore[unreachable]
            return handler
        return wrap(handler, lambda context: self.around(handler_call_details, context))


def wrap(
    handler: Handler, around: Callable[[Context], AbstractAsyncContextManager[object]]
) -> Handler:
    """Return `handler` with `around` entered for the length of each call.

    A handler that streams its responses becomes a coroutine that writes them: so a cancelled call
    closes the handler's generator, and leaves `around`, right away and in the call's own task, not
    when the garbage is collected.
    """
    if handler.response_streaming:
        behaviour: Any = (
            handler.stream_stream if handler.request_streaming else handler.unary_stream
        )

        async def respond_stream(request: Any, context: Context) -> None:
            async with around(context):
                await write_answer(behaviour(request, context), context)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(
            respond_stream,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
    behaviour_unary: Any = (
        handler.stream_unary if handler.request_streaming else handler.unary_unary
    )

    async def respond(request: Any, context: Context) -> Any:
        async with around(context):
            return await behaviour_unary(request, context)

    make_unary = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make_unary(
        respond,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


async def write_answer(answer: Any, context: Context) -> None:
    """Write what a handler of a streamed answer yields, as long as the caller takes it.

    A handler may also write by itself; `answer` is then what to await.

    A caller that does not take a message within a minute and a second for each 64 KiB is let go:
    the handler's generator is closed, which stops its work and frees what it holds. The status
    follows when the caller takes the answer after all; gRPC sends none before, and cannot take
    back what it has begun to send.

    Raises:
        StalledError: ANSWER_NOT_TAKEN.
    """
    if inspect.isawaitable(answer):
        await answer
        return
    stuck: asyncio.Future[None] | None = None
    patience_s = _PATIENCE_S
    async with aclosing(answer) as responses:
        async for response in responses:
            writing = asyncio.ensure_future(write(response, context))
            patience_s = _PATIENCE_S + _size(response) / _SLOWEST_BYTES_S
            if not await _done(writing, patience_s):
                stuck = writing
                break
    if stuck is None:
        return
    await stuck
    raise StalledError(
        f"the caller did not take a message of the answer within {patience_s:.0f} s; read it as it "
        "comes",
        reason="ANSWER_NOT_TAKEN",
    )


async def write(message: Any, context: Context) -> None:
    """Send one message of a streamed answer; waits until the caller takes what was sent before."""
    try:
        await context.write(message)
    except grpc.aio.InternalError:
        # So gRPC tells first of a call that is over; its cancellation comes in a moment.
        await asyncio.sleep(CANCELLATION_S)
        raise


def _size(response: Any) -> int:
    """Return a message's bytes; that of a handler without a serializer is bytes itself."""
    return len(response) if isinstance(response, bytes) else int(response.ByteSize())


async def _done(writing: asyncio.Future[None], timeout_s: float) -> bool:
    """Tell whether the write ends in time; raise its failure, and cancel it with its caller."""
    try:
        await asyncio.wait((writing,), timeout=timeout_s)
    except asyncio.CancelledError:
        writing.cancel()
        raise
    if writing.done():
        writing.result()
    return writing.done()


@contextmanager
def telling_code(context: Context, tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell` with the name of the code that the RPC inside the block ends with."""
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        tell(final_code(context, failure))


def final_code(context: Context, error: BaseException | None) -> str:
    """Return the name of the code that an RPC ends with.

    Args:
        context: the call's context.
        error: what came out of the handler, None when it returned.
    """
    if isinstance(error, asyncio.CancelledError):
        remaining = context.time_remaining()
        late = remaining is not None and remaining <= _LATE_S
        return "DEADLINE_EXCEEDED" if late else "CANCELLED"
    code: Any = context.code()
    name = _code_name(code)
    if error is not None and name == "OK":
        return "UNKNOWN"
    return name


def _code_name(code: Any) -> str:
    """Return the name of a code that grpc.aio gives as an enum, a number or None."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    for known in grpc.StatusCode:
        if known.value[0] == code:
            return known.name
    return "OK"
