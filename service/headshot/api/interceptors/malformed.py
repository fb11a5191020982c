"""Bytes that are no message become a typed INVALID_ARGUMENT; gRPC itself would say INTERNAL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from headshot.api.interceptors.wrapping import Interceptor
from headshot.errors import InvalidRequestError


class _Malformed:
    """Stands for a request that could not be parsed."""


_MALFORMED = _Malformed()


def _checked(request: Any) -> Any:
    if request is _MALFORMED:
        raise InvalidRequestError(
            "the bytes are not a message of this method; check the client's proto files",
            reason="MALFORMED_MESSAGE",
        )
    return request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


class MalformedRequestInterceptor(Interceptor):
    """Stands innermost, so that its error is answered and counted like any other."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler with a parser that never raises and a behaviour that does."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        parse = handler.request_deserializer

        def deserialize(data: bytes) -> Any:
            try:
                return parse(data)
            except DecodeError:
                return _MALFORMED

        return handler._replace(request_deserializer=deserialize, **_guarded(handler))


def _guarded(handler: Any) -> dict[str, Any]:
    """Return the handler's behaviour with its requests checked."""
    if handler.stream_stream is not None:
        whole = handler.stream_stream

        def stream_stream(requests: AsyncIterator[Any], context: Any) -> Any:
            return whole(_checked_stream(requests), context)

        return {"stream_stream": stream_stream}
    if handler.unary_stream is not None:
        answer_stream = handler.unary_stream

        def unary_stream(request: Any, context: Any) -> Any:
            return answer_stream(_checked(request), context)

        return {"unary_stream": unary_stream}
    if handler.unary_unary is not None:
        answer = handler.unary_unary

        async def unary_unary(request: Any, context: Any) -> Any:
            return await answer(_checked(request), context)

        return {"unary_unary": unary_unary}
    return {}
