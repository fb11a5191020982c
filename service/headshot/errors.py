"""The one exception tree; `headshot.api.status` maps it to gRPC codes in one table.

Every error carries a `reason` (UPPER_SNAKE, stable, what clients switch on), a sentence that says
what to do, and optional metadata. Messages never hold pixels, embeddings, paths or secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldViolation:
    """One bad field of a request: its proto path and what would be right."""

    field: str
    description: str


class HeadshotError(Exception):
    """Base of all errors that reach a caller.

    Attributes:
        reason: stable UPPER_SNAKE identifier (google.rpc.ErrorInfo.reason).
        message: one sentence that says what to do.
        metadata: string facts for ErrorInfo.metadata.
        violations: field violations for google.rpc.BadRequest.
        retry_after_s: seconds for google.rpc.RetryInfo, or None where a retry does not help.
    """

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class InvalidRequestError(HeadshotError):
    """A field is missing, out of range or contradictory."""

    default_reason = "INVALID_REQUEST"


class PhotoError(InvalidRequestError):
    """The bytes are not a photo that can be used (format, truncation, animation)."""

    default_reason = "INVALID_PHOTO"


class PhotoLimitError(PhotoError):
    """The photo is over a limit on bytes, pixels or side, or too costly to read."""

    default_reason = "PHOTO_TOO_LARGE"


class StyleError(InvalidRequestError):
    """A style guide is unknown or malformed."""

    default_reason = "INVALID_STYLE"


class TemplateError(InvalidRequestError):
    """A sealed identity template is forged, expired, or of another recogniser or tenant."""

    default_reason = "INVALID_TEMPLATE"


class NoUsablePhotoError(HeadshotError):
    """No photo of the set can serve; each photo's verdict is in the metadata."""

    default_reason = "NO_USABLE_PHOTO"


class VerificationFailedError(HeadshotError):
    """No candidate was the same person, and unverified results were not allowed."""

    default_reason = "VERIFICATION_FAILED"


@contextmanager
def concerning(field: str) -> Iterator[None]:
    """Have a bad request's error that names no field yet name this one, by its proto path."""
    try:
        yield
    except InvalidRequestError as error:
        error.violations = error.violations or (FieldViolation(field, error.message),)
        raise


@contextmanager
def within(field: str) -> Iterator[None]:
    """Have the fields that a bad request's error names lie within this one, by its proto path."""
    try:
        yield
    except InvalidRequestError as error:
        error.violations = tuple(
            FieldViolation(f"{field}.{violation.field}", violation.description)
            for violation in error.violations
        )
        raise


class UnauthenticatedError(HeadshotError):
    """No credentials, or credentials that are not known."""

    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(HeadshotError):
    """Known caller, but policy forbids the call (for instance no consent reference)."""

    default_reason = "PERMISSION_DENIED"


class OverloadedError(HeadshotError):
    """The service or the tenant's share of it is full; retry after `retry_after_s`."""

    default_reason = "OVERLOADED"


class QuotaExceededError(OverloadedError):
    """The tenant's own rate or concurrency quota is used up."""

    default_reason = "QUOTA_EXCEEDED"


class DeadlineError(HeadshotError):
    """The caller's deadline passed, or the work cannot finish before it."""

    default_reason = "DEADLINE_EXCEEDED"


class StalledError(HeadshotError):
    """The caller sent or took too little for so long that the call was ended."""

    default_reason = "STREAM_IDLE"


class CancelledError(HeadshotError):
    """The caller went away."""

    default_reason = "CANCELLED"


class StoppingError(HeadshotError):
    """The service is stopping; another instance of it takes what was not begun."""

    default_reason = "SERVICE_STOPPING"


class ProvenanceError(HeadshotError):
    """Content credentials cannot be made: C2PA_NOT_INSTALLED, C2PA_KEY_INVALID, C2PA_FAILED."""

    default_reason = "C2PA_FAILED"


class ModelUnavailableError(HeadshotError):
    """No Triton endpoint can serve the model now."""

    default_reason = "MODEL_UNAVAILABLE"


class ModelContractError(HeadshotError):
    """A model's metadata or its answer differs from the gateway's contract."""

    default_reason = "MODEL_CONTRACT"


class ModelExecutionError(HeadshotError):
    """The model ran and failed."""

    default_reason = "MODEL_EXECUTION"
