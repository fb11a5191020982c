"""A setting whose packages are missing stops the start, and says which extra brings them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from headshot.config import Settings
from headshot.extras import MissingExtraError, check_extras

CERTIFICATE = {"c2pa_certificate": "a.crt", "c2pa_key": "a.key"}
ENDPOINT = {"otlp_endpoint": "http://localhost:4317"}
EXTRAS = [("c2pa", "c2pa", CERTIFICATE), ("tracing", "opentelemetry.sdk", ENDPOINT)]


@pytest.mark.parametrize(("extra", "module", "changes"), EXTRAS, ids=["c2pa", "tracing"])
def test_a_setting_without_its_extra_is_refused_by_name(
    extra: str, module: str, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    check_extras(Settings())
    with pytest.raises(MissingExtraError, match=rf"headshot\[{extra}\]") as raised:
        check_extras(Settings(**changes))  # type: ignore[arg-type]
    assert (raised.value.setting, raised.value.extra) == (next(iter(changes)), extra)


@pytest.mark.parametrize("changes", [CERTIFICATE, ENDPOINT], ids=["c2pa", "tracing"])
def test_a_setting_with_its_extra_is_accepted(changes: dict[str, str]) -> None:
    check_extras(Settings(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_refuses_to_start_without_an_extra_in_plain_words(workers: int) -> None:
    extra, module, changes = EXTRAS[workers - 1]
    code = f"import sys; sys.modules[{module!r}] = None; from headshot.cli import app; app()"
    sets = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--workers", str(workers), "--port", "0", *sets],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"headshot[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr
