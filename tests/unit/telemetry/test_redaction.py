from __future__ import annotations

import base64
import io
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from headshot.telemetry import logs
from headshot.telemetry.redaction import MAX_TEXT, clean_text, redact_event
from hypothesis import given
from hypothesis import strategies as st


def render(**event: object) -> str:
    return json.dumps(redact_event(None, "", dict(event)))


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xd8\xff\xe0 a photo",
        bytearray(b"JFIF a photo"),
        memoryview(b"JFIF a photo"),
        np.full((4, 4, 3), 137, np.uint8),
        np.linspace(-1, 1, 128, dtype=np.float32),
        [0.137] * 128,
        tuple(range(137, 200)),
        {"nested": {"deep": b"JFIF a photo"}},
        Path("/home/somebody/137.jpg"),
        "/home/somebody/137.jpg",
        "cannot open /home/somebody/my-137.jpg today",
        "C:\\Users\\somebody\\137.jpg",
        base64.b64encode(os.urandom(90)).decode() + "JFIF137",
        str(b"\xff\xd8\xff\xe0\x89\x88\xfe\xfd\xfc\xfb 137"[:10]),
        "authorization: Bearer hunter137",
        "key hsk_abcdef137",
    ],
)
def test_what_could_be_a_photo_a_vector_a_path_or_a_secret_is_not_logged(value: object) -> None:
    line = render(value=value)
    for leak in ("JFIF", "137", "somebody", "0.13", "\\xff\\xd8"):
        assert leak not in line, line
    assert "redacted" in line


@pytest.mark.parametrize("key", ["authorization", "api_key", "embedding", "photo", "x_token"])
def test_keys_that_name_secrets_are_never_logged(key: str) -> None:
    assert "plain" not in render(**{key: "plain"})


@pytest.mark.parametrize(
    "text",
    [
        "headshot.v1.HeadshotService/CreateHeadshot",
        "http://127.0.0.1:8002/metrics",
        "similarity 0.31/1.0, 3/4 photos",
        "rate-limited (and/or shed)",
    ],
)
def test_ordinary_text_passes(text: str) -> None:
    assert clean_text(text) == text


def test_counts_and_small_boxes_pass() -> None:
    assert json.loads(render(box=[1, 2, 3, 4], photos=3, ok=True, none=None)) == {
        "box": [1, 2, 3, 4],
        "photos": 3,
        "ok": True,
        "none": None,
    }


def test_a_line_stays_short_whatever_is_logged() -> None:
    assert len(clean_text("word " * 100_000)) <= MAX_TEXT + 3


@given(st.binary(min_size=33, max_size=400))
def test_no_rendering_of_random_bytes_survives(data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    for text in (encoded, data.hex()):
        cleaned = clean_text(text)
        longest = max((len(part) for part in cleaned.split() if part in text), default=0)
        assert longest <= 64


def test_an_exception_is_logged_without_its_paths_and_locals() -> None:
    stream = io.StringIO()
    logs.configure("info", stream)
    secret_pixels = [1.0] * 100
    try:
        raise OSError(f"cannot read /home/somebody/me.jpg ({len(secret_pixels)})")
    except OSError:
        logs.get_logger("test").exception("failed")
    finally:
        logs.configure("warning")
    line = json.loads(stream.getvalue())
    assert line["error_type"] == "OSError"
    assert "somebody" not in stream.getvalue()
    assert "secret_pixels" not in stream.getvalue()
    assert any("test_redaction.py" in where for where in line["where"])


def test_lines_of_libraries_are_redacted_json_too() -> None:
    stream = io.StringIO()
    logs.configure("info", stream)
    try:
        logging.getLogger("some.library").warning("opened %s", "/home/somebody/me.jpg")
        logging.getLogger("some.library").info("a chatty request dump")
    finally:
        logs.configure("warning")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["event"] == "opened [redacted: path]"
