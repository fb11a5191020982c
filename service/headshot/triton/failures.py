"""Triton's failures as this service's errors.

Triton answers UNAVAILABLE for a full queue, for a request that expired in the queue, for a model
that is not ready, and gRPC uses it for a broken connection too. They need different answers, and
only Triton's message tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from headshot.errors import (
    DeadlineError,
    HeadshotError,
    ModelContractError,
    ModelExecutionError,
    ModelUnavailableError,
    OverloadedError,
)

_QUEUE_FULL = "exceeds maximum queue size"
_QUEUE_EXPIRED = "request timeout expired"
_REGION = "shared memory region"
# Another endpoint, or the same one a little later, can serve what these refuse.
_GONE = ("is not ready", "unknown model", "stopping", "stopped")
_BROKEN = ("stub process", "not healthy", "unhealthy")
_GONE_CODES = (grpc.StatusCode.CANCELLED, grpc.StatusCode.NOT_FOUND)
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True)
class Failure:
    """What to do about a failed call.

    Attributes:
        error: what to raise when it is not tried again.
        elsewhere: another endpoint may be tried, because this one did not do the work.
        unhealthy: the endpoint should get no more work until a probe succeeds.
        broken: a model's process at the endpoint is dead, whatever the endpoint's health says.
        slow: the endpoint did not answer in time; unhealthy when it happens repeatedly.
        ended: the server itself answered, so that it does no more work for this call.
        forgotten: the server does not know a shared-memory region: it is a new process.
    """

    error: HeadshotError
    elsewhere: bool = False
    unhealthy: bool = False
    broken: bool = False
    slow: bool = False
    ended: bool = False
    forgotten: bool = False


def deadline_passed(model: str) -> DeadlineError:
    """Return the error for a deadline that passed while the model's answer was awaited."""
    return DeadlineError(
        f"the deadline passed in {model}; send a later deadline or ask for less",
        metadata={"stage": model},
    )


def unavailable(model: str, why: str) -> ModelUnavailableError:
    """Return the error for a model that no endpoint can serve now."""
    return ModelUnavailableError(
        f"{model} cannot be served now ({why}); retry shortly",
        metadata={"model": model},
        retry_after_s=_RETRY_AFTER_S,
    )


def classify(error: grpc.aio.AioRpcError, model: str, *, deadline_expired: bool) -> Failure:
    """Tell what a failed inference call means.

    Args:
        error: the failed call.
        model: its model.
        deadline_expired: whether the caller's own deadline has passed by now.
    """
    code = error.code()
    details = (error.details() or "").lower()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not deadline_expired:
        return Failure(unavailable(model, "it did not answer in time"), elsewhere=True, slow=True)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED or (
        deadline_expired and _QUEUE_EXPIRED in details
    ):
        return Failure(deadline_passed(model))
    if _QUEUE_FULL in details or _QUEUE_EXPIRED in details:
        return Failure(_overloaded(model, full=_QUEUE_FULL in details), ended=True)
    forgotten = _REGION in details
    broken = any(word in details for word in _BROKEN)
    if forgotten or broken or code in _GONE_CODES or any(word in details for word in _GONE):
        error_here = unavailable(model, "its server is not ready")
        return Failure(error_here, elsewhere=True, broken=broken, forgotten=forgotten)
    if code is grpc.StatusCode.UNAVAILABLE:
        return Failure(unavailable(model, "no connection"), elsewhere=True, unhealthy=True)
    return Failure(_own_fault(model, code), ended=True)


def _own_fault(model: str, code: grpc.StatusCode) -> HeadshotError:
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return ModelContractError(
            f"{model} refused the request's tensors; its repository differs from the gateway's",
            metadata={"model": model},
        )
    return ModelExecutionError(
        f"{model} failed while running", metadata={"model": model, "code": code.name}
    )


def _overloaded(model: str, *, full: bool) -> OverloadedError:
    # Expiry before the caller's deadline is the model's own limit on waiting.
    return OverloadedError(
        f"the queue of {model} is {'full' if full else 'too slow'}; retry later",
        reason="MODEL_QUEUE_FULL" if full else "MODEL_QUEUE_TIMEOUT",
        metadata={"model": model},
        retry_after_s=_RETRY_AFTER_S,
    )
