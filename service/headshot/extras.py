"""Optional packages that settings ask for: looked for at the start, not at the first request."""

from __future__ import annotations

from headshot.config import Settings
from headshot.imaging import provenance
from headshot.telemetry import tracing


class MissingExtraError(RuntimeError):
    """A setting needs an extra that is not installed; start-up must stop.

    Attributes:
        setting: name of the setting.
        extra: name of the package's extra.
    """

    def __init__(self, setting: str, extra: str) -> None:
        super().__init__(
            f"{setting} needs the extra headshot[{extra}], which is not installed: "
            f"pip install 'headshot[{extra}]', or leave the setting out"
        )
        self.setting = setting
        self.extra = extra


def check_extras(settings: Settings) -> None:
    """Import what the settings need beyond the plain installation.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    if settings.c2pa_certificate is not None and not provenance.is_available():
        raise MissingExtraError("c2pa_certificate", "c2pa")
    if settings.otlp_endpoint and not tracing.is_available():
        raise MissingExtraError("otlp_endpoint", "tracing")
