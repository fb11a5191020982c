from __future__ import annotations

from pathlib import Path

import pytest
from headshot.security.credentials import load_credentials
from headshot.security.keyring import KeyRing


@pytest.mark.parametrize("load", [KeyRing.load, load_credentials])
def test_a_file_of_secrets_that_is_not_yaml_is_told_without_quoting_it(
    load: object, tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text('keys:\n  - {id: "a", key: AAAASECRETSECRETSECRET=: x\n')
    with pytest.raises(ValueError, match=r"keys\.yaml is not well-formed YAML, line") as told:
        load(file)  # type: ignore[operator]
    assert "SECRET" not in str(told.value)
    assert told.value.__cause__ is None
