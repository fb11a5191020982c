"""Reads a call's message once all that stands around has let the call in, and says what is wrong.

gRPC itself reads a whole message before it runs anything of ours: who has no key could fill the
memory, or open calls and send nothing, for ever. A handler of a stream reads by itself, so every
handler becomes one. On the wire the two are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from headshot.api.interceptors import wire_fields
from headshot.api.interceptors.auth import OPEN_SERVICES
from headshot.api.interceptors.wrapping import (
    CANCELLATION_S,
    Context,
    Interceptor,
    write_answer,
)
from headshot.errors import InvalidRequestError, StalledError

# For a message of services that need no key; it is a name.
_OPEN_S = 10.0
# Fields of a message, with those inside it; the largest that makes sense has less than 500.
_MOST_FIELDS = 4096


_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # The stubs lack it.


class MessageInterceptor(Interceptor):
    """Stands innermost, so that its errors are answered and counted like any others.

    Bytes that are no message become a typed INVALID_ARGUMENT; gRPC itself would say INTERNAL.

    Args:
        message_s: seconds within which a call's message must have arrived. Streams of messages have
            limits of their own.
    """

    def __init__(self, message_s: float) -> None:
        self._message_s = message_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return a handler that reads its requests itself, with a parser that never raises."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method: Any = handler_call_details.method
        text = method.decode() if isinstance(method, bytes) else method
        seconds = self._message_s
        if text.removeprefix("/").startswith(OPEN_SERVICES):
            seconds = min(seconds, _OPEN_S)
        return _reading(handler, seconds)


def _reading(handler: Any, seconds: float) -> Any:
    """Return the handler as one of a stream of requests, which are checked."""
    parsers = {
        "request_deserializer": _lenient(handler.request_deserializer),
        "response_serializer": handler.response_serializer,
    }
    if handler.stream_stream is not None:
        whole = handler.stream_stream

        def stream_stream(requests: AsyncIterator[Any], context: Context) -> Any:
            return whole(_checked_stream(requests), context)

        return grpc.stream_stream_rpc_method_handler(stream_stream, **parsers)
    if handler.stream_unary is not None:
        gather = handler.stream_unary

        async def stream_unary(requests: AsyncIterator[Any], context: Context) -> Any:
            return await gather(_checked_stream(requests), context)

        return grpc.stream_unary_rpc_method_handler(stream_unary, **parsers)
    if handler.unary_stream is not None:
        answer_stream = handler.unary_stream

        async def unary_stream(_requests: object, context: Context) -> None:
            await write_answer(answer_stream(await _message(context, seconds), context), context)

        return grpc.stream_stream_rpc_method_handler(unary_stream, **parsers)
    answer_one = handler.unary_unary

    async def unary_unary(_requests: object, context: Context) -> Any:
        return await answer_one(await _message(context, seconds), context)

    return grpc.stream_unary_rpc_method_handler(unary_unary, **parsers)


async def _message(context: Context, seconds: float) -> Any:
    """Return the call's one message.

    Raises:
        StalledError: MESSAGE_TOO_SLOW.
        InvalidRequestError: MALFORMED_MESSAGE, TOO_MANY_FIELDS.
    """
    try:
        async with asyncio.timeout(seconds):
            message = await context.read()
    except TimeoutError:
        raise StalledError(
            f"the message did not arrive within {seconds:.0f} s",
            reason="MESSAGE_TOO_SLOW",
        ) from None
    if message is _EOF:
        # So gRPC tells first of a call that is over, since its caller left or its message is too
        # large.
        await asyncio.sleep(CANCELLATION_S)
        raise InvalidRequestError("the call has no message", reason="MALFORMED_MESSAGE")
    return _checked(message)


def _lenient(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Return a parser that returns what is wrong with a message: gRPC would answer INTERNAL."""
    if parse is None:
        return None
    # Of a parser that protoc made: the message's class.
    descriptor = getattr(getattr(parse, "__self__", None), "DESCRIPTOR", None)

    def deserialize(data: bytes) -> Any:
        try:
            if descriptor is not None:
                found = wire_fields.count(data, descriptor, _MOST_FIELDS)
                if found > _MOST_FIELDS:
                    return InvalidRequestError(
                        f"the message has more than {_MOST_FIELDS} fields; send shorter lists",
                        reason="TOO_MANY_FIELDS",
                    )
            return parse(data)
        except (DecodeError, ValueError):
            return InvalidRequestError(
                "the bytes are not a message of this method; check the client's proto files",
                reason="MALFORMED_MESSAGE",
            )

    return deserialize


def _checked(request: Any) -> Any:
    if isinstance(request, InvalidRequestError):
        raise request
    return request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)
