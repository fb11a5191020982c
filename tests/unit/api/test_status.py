"""Every error has a code and details; nothing of the inside leaks."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2
from headshot import errors
from headshot.api import status

from deploy.prometheus.generate_rules import OWN_FAULT


def subclasses(kind: type) -> set[type]:
    found = set(kind.__subclasses__())
    return found | {deeper for item in found for deeper in subclasses(item)}


def details(error: BaseException) -> dict[str, object]:
    found: dict[str, object] = {}
    for packed in status.to_status(error, "r-1").details:
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
        ):
            message = kind()
            if packed.Unpack(message):
                found[kind.__name__] = message
    return found


@pytest.mark.parametrize("kind", sorted(subclasses(errors.HeadshotError), key=lambda k: k.__name__))
def test_every_class_of_the_tree_is_in_the_table_before_the_catch_all(kind):
    assert any(kind is listed or issubclass(kind, listed) for listed, _ in status.CODES[:-2])
    assert details(kind("do this"))["ErrorInfo"].reason == kind.default_reason


def test_bad_fields_are_listed_one_by_one():
    error = errors.InvalidRequestError(
        "no", violations=[errors.FieldViolation("options.seed", "too large")]
    )
    found = details(error)["BadRequest"].field_violations
    assert [(item.field, item.description) for item in found] == [("options.seed", "too large")]


def test_overload_tells_when_to_come_back():
    error = errors.OverloadedError("full", retry_after_s=1.5)
    assert status.code_of(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() == 1500


def test_an_unexpected_error_tells_nothing_of_the_inside():
    made = status.to_status(RuntimeError("/home/someone/key.pem is missing"), "r-1")
    assert made.code == grpc.StatusCode.INTERNAL.value[0]
    assert "key.pem" not in made.message
    assert details(RuntimeError("secret"))["ErrorInfo"].metadata["request_id"] == "r-1"


def test_a_caller_that_stalls_is_no_fault_of_the_service():
    rule = set(OWN_FAULT.split('"')[1].split("|"))
    assert status.code_of(errors.StalledError("idle")).name not in rule
    assert status.code_of(errors.DeadlineError("late")).name in rule


def test_a_time_out_is_a_deadline_and_not_an_internal_error():
    assert status.code_of(TimeoutError()) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_status_stays_small_enough_for_trailers() -> None:
    many = [errors.FieldViolation(f"photos[{k}].photo_id", "must match") for k in range(500)]
    error = errors.InvalidRequestError("500 field(s)", violations=many)
    found = details(error)["BadRequest"].field_violations
    assert found[-1].description == "and 468 more"
    assert status.to_status(error).ByteSize() < 4096
