"""Triton's failures as typed errors."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from headshot.errors import (
    DeadlineError,
    ModelContractError,
    ModelExecutionError,
    ModelUnavailableError,
    OverloadedError,
)
from headshot.triton.failures import Failure, classify

_CODE = grpc.StatusCode


def _failure(code: grpc.StatusCode, details: str, *, expired: bool = False) -> Failure:
    error = AioRpcError(code, Metadata(), Metadata(), details, None)
    return classify(error, "denoiser", deadline_expired=expired)


def test_a_full_queue_is_overload_and_not_tried_elsewhere() -> None:
    failure = _failure(
        _CODE.UNAVAILABLE,
        "[request id: a] Exceeds maximum queue size",
    )
    assert isinstance(failure.error, OverloadedError)
    assert failure.error.reason == "MODEL_QUEUE_FULL"
    assert failure.ended
    assert not failure.elsewhere


def test_queue_expiry_after_the_deadline_is_the_callers_deadline() -> None:
    failure = _failure(_CODE.UNAVAILABLE, "Request timeout expired", expired=True)
    assert isinstance(failure.error, DeadlineError)
    assert failure.error.metadata == {"stage": "denoiser"}


def test_queue_expiry_before_the_deadline_is_the_models_own_limit() -> None:
    failure = _failure(_CODE.UNAVAILABLE, "Request timeout expired")
    assert isinstance(failure.error, OverloadedError)
    assert failure.error.reason == "MODEL_QUEUE_TIMEOUT"


def test_a_lost_connection_goes_elsewhere_and_ejects() -> None:
    failure = _failure(_CODE.UNAVAILABLE, "failed to connect to all addresses")
    assert isinstance(failure.error, ModelUnavailableError)
    assert failure.elsewhere
    assert failure.unhealthy
    assert not failure.ended


def test_no_answer_in_time_before_the_deadline_counts_against_the_server() -> None:
    failure = _failure(_CODE.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert isinstance(failure.error, ModelUnavailableError)
    assert failure.elsewhere
    assert failure.slow


def test_no_answer_by_the_deadline_is_the_callers_deadline() -> None:
    failure = _failure(_CODE.DEADLINE_EXCEEDED, "Deadline Exceeded", expired=True)
    assert isinstance(failure.error, DeadlineError)
    assert not failure.elsewhere


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (_CODE.NOT_FOUND, "Request for unknown model: 'denoiser' is not found"),
        (_CODE.UNAVAILABLE, "Request for unknown model: 'denoiser' has no available versions"),
        (_CODE.CANCELLED, "CANCELLED"),
    ],
)
def test_a_model_that_is_away_is_tried_elsewhere_without_ejection(
    code: grpc.StatusCode, details: str
) -> None:
    failure = _failure(code, details)
    assert isinstance(failure.error, ModelUnavailableError)
    assert failure.elsewhere
    assert not failure.unhealthy


def test_a_dead_model_process_takes_the_server_out_of_use() -> None:
    failure = _failure(_CODE.INTERNAL, "Stub process 'denoiser_0_0' is not healthy.")
    assert isinstance(failure.error, ModelUnavailableError)
    assert failure.elsewhere
    assert failure.broken


def test_an_unknown_shared_memory_region_asks_for_registration() -> None:
    failure = _failure(_CODE.NOT_FOUND, "Unable to find shared memory region: 'x'")
    assert failure.forgotten
    assert failure.elsewhere


def test_refused_tensors_are_a_contract_error() -> None:
    failure = _failure(_CODE.INVALID_ARGUMENT, "unexpected shape for input 'sample'")
    assert isinstance(failure.error, ModelContractError)


def test_a_model_that_fails_tells_nothing_of_its_insides() -> None:
    failure = _failure(_CODE.INTERNAL, "failed at /secret/path/model.onnx: boom")
    assert isinstance(failure.error, ModelExecutionError)
    assert "secret" not in failure.error.message + str(failure.error.metadata)
    assert not failure.elsewhere
