"""Settings that do not fit together, and variables that were meant to be settings."""

from __future__ import annotations

import pytest
from headshot.config import Settings
from headshot.v1 import photo_pb2, rules_pb2
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


def test_photos_may_be_as_large_as_the_contract_allows_and_no_larger() -> None:
    data = photo_pb2.Photo.DESCRIPTOR.fields_by_name["data"]
    allowed = data.GetOptions().Extensions[rules_pb2.rules].max_len
    assert Settings(max_photo_bytes=allowed).max_photo_bytes == allowed
    with pytest.raises(ValidationError, match="max_photo_bytes"):
        Settings(max_photo_bytes=allowed + 1)


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
