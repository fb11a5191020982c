"""The one table from the exception tree to gRPC codes, and the details each failure carries."""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from headshot import errors

DOMAIN = "headshot.v1"

# A status travels in trailers, of which clients take 8 KB.
_MOST_VIOLATIONS = 32

# First match wins, so subclasses stand before their bases.
CODES: tuple[tuple[type[BaseException], grpc.StatusCode], ...] = (
    (errors.PhotoLimitError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NoUsablePhotoError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.VerificationFailedError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (errors.OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    # No missed deadline: that is the service's own fault to objectives and alerts.
    (errors.StalledError, grpc.StatusCode.ABORTED),
    (errors.CancelledError, grpc.StatusCode.CANCELLED),
    (errors.ModelUnavailableError, grpc.StatusCode.UNAVAILABLE),
    (errors.StoppingError, grpc.StatusCode.UNAVAILABLE),
    (errors.ProvenanceError, grpc.StatusCode.INTERNAL),
    (errors.ModelContractError, grpc.StatusCode.INTERNAL),
    (errors.ModelExecutionError, grpc.StatusCode.INTERNAL),
    (errors.HeadshotError, grpc.StatusCode.INTERNAL),
    (asyncio.TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
)


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the gRPC code of an error; INTERNAL for anything that is not in the table."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


def _known(error: BaseException) -> errors.HeadshotError:
    """Return the error itself, or a typed one that tells nothing of the inside."""
    if isinstance(error, errors.HeadshotError):
        return error
    if isinstance(error, asyncio.TimeoutError):
        return errors.DeadlineError("the deadline passed; send a later deadline or ask for less")
    return errors.HeadshotError(
        "an internal error; report the request id to the operator", reason="INTERNAL"
    )


def to_status(error: BaseException, request_id: str = "") -> status_pb2.Status:
    """Return google.rpc.Status with ErrorInfo and, where they apply, BadRequest and RetryInfo."""
    known = _known(error)
    info = error_details_pb2.ErrorInfo(
        reason=known.reason, domain=DOMAIN, metadata=dict(known.metadata)
    )
    if request_id:
        info.metadata["request_id"] = request_id
    details: list[Message] = [info]
    if known.violations:
        bad = error_details_pb2.BadRequest()
        for violation in known.violations[:_MOST_VIOLATIONS]:
            bad.field_violations.add(field=violation.field, description=violation.description)
        more = len(known.violations) - _MOST_VIOLATIONS
        if more > 0:
            bad.field_violations.add(field="", description=f"and {more} more")
        details.append(bad)
    if known.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(known.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_of(error).value[0], message=known.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def abort(
    context: grpc.aio.ServicerContext[object, object], error: BaseException, request_id: str = ""
) -> None:
    """End the RPC with the error's status and details; never returns normally."""
    status = rpc_status.to_status(to_status(error, request_id))
    context.set_trailing_metadata(status.trailing_metadata)
    await context.abort(status.code, status.details, status.trailing_metadata)
