"""Settings that do not fit together, and variables that were meant to be settings."""

from __future__ import annotations

import pytest
from headshot.config import Settings
from pydantic import ValidationError


@pytest.mark.parametrize(
    "half", ["tls_certificate", "tls_key", "c2pa_certificate", "c2pa_key", "tls_client_ca"]
)
def test_half_of_a_pair_of_certificate_and_key_stops_the_start(half: str) -> None:
    with pytest.raises(ValidationError, match="certificate"):
        Settings(**{half: "file.pem"})  # type: ignore[arg-type]


def test_a_certificate_with_its_key_is_accepted() -> None:
    settings = Settings(tls_certificate="a.crt", tls_key="a.key", tls_client_ca="ca.crt")  # type: ignore[arg-type]
    assert settings.tls_key is not None


def test_a_misspelt_variable_is_told_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHOT_REQUIRE_CONSNT", "true")
    with pytest.raises(ValidationError, match="did you mean HEADSHOT_REQUIRE_CONSENT"):
        Settings()


def test_variables_of_others_that_share_the_prefix_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HEADSHOT_SERVICE_HOST", "HEADSHOT_CACHE", "HEADSHOT_TRITON_FACTS_DIR"):
        monkeypatch.setenv(name, "x")
    assert Settings().require_consent is False
