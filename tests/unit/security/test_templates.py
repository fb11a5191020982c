from __future__ import annotations

import base64
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from headshot.errors import TemplateError
from headshot.security.keyring import KeyRing, new_key, watched_keyring
from headshot.security.templates import TemplateSealer
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

NOW = 1_800_000_000.0
KEY_A, KEY_B = bytes(range(32)), bytes(range(1, 33))


def sealer(ring: KeyRing | None = None, now: float = NOW) -> TemplateSealer:
    used = ring or KeyRing("a", {"a": KEY_A})
    return TemplateSealer(lambda: used, now=lambda: now)


@pytest.fixture
def embedding() -> NDArray[np.float32]:
    vector = np.random.default_rng(1).normal(size=128).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


@pytest.fixture
def token(embedding: NDArray[np.float32]) -> bytes:
    return sealer().seal(
        embedding, "compact-bottleneck-2", "website", NOW + 60, consent_reference="C-17", photos=3
    )


def refused(token: bytes, *, by: TemplateSealer | None = None, **use: str) -> str:
    arguments = {"recogniser": "compact-bottleneck-2", "tenant": "website", **use}
    with pytest.raises(TemplateError) as error:
        (by or sealer()).open(token, arguments["recogniser"], arguments["tenant"])
    return error.value.reason


def test_what_was_sealed_comes_out_exactly(token: bytes, embedding: NDArray[np.float32]) -> None:
    opened = sealer().open(token, "compact-bottleneck-2", "website")
    assert np.array_equal(opened.embedding, embedding)
    assert opened.embedding.dtype == np.float32
    assert (opened.consent_reference, opened.photos) == ("C-17", 3)
    assert (opened.issued_at, opened.expires_at) == (NOW, NOW + 60)


def test_another_tenant_cannot_use_it(token: bytes) -> None:
    assert refused(token, tenant="archive") == "TEMPLATE_OTHER_TENANT"


def test_another_recogniser_cannot_use_it(token: bytes) -> None:
    assert refused(token, recogniser="glintr100") == "TEMPLATE_OTHER_RECOGNISER"


def test_it_ends_at_its_expiry(token: bytes) -> None:
    sealer(now=NOW + 59).open(token, "compact-bottleneck-2", "website")
    assert refused(token, by=sealer(now=NOW + 60)) == "TEMPLATE_EXPIRED"


def test_every_single_changed_byte_is_noticed(token: bytes) -> None:
    for index in range(len(token)):
        changed = bytearray(token)
        changed[index] ^= 1
        assert refused(bytes(changed)) == "TEMPLATE_FORGED"


def test_every_truncation_is_noticed(token: bytes) -> None:
    for length in range(len(token)):
        assert refused(token[:length]) == "TEMPLATE_FORGED"
    assert refused(token + b"\0") == "TEMPLATE_FORGED"


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_raise_nothing_else(data: bytes) -> None:
    assert refused(data) == "TEMPLATE_FORGED"
    assert refused(b"HST1" + data) == "TEMPLATE_FORGED"


def test_a_template_of_another_key_is_refused(token: bytes) -> None:
    assert refused(token, by=sealer(KeyRing("a", {"a": KEY_B}))) == "TEMPLATE_FORGED"


def test_rotation_keeps_old_templates_until_their_key_is_taken_out(token: bytes) -> None:
    rotated = sealer(KeyRing("b", {"a": KEY_A, "b": KEY_B}))
    rotated.open(token, "compact-bottleneck-2", "website")
    fresh = rotated.seal(np.ones(4, np.float32), "r", "t", NOW + 9)
    assert refused(fresh, by=sealer(KeyRing("a", {"a": KEY_A}))) == "TEMPLATE_FORGED"
    assert refused(token, by=sealer(KeyRing("b", {"b": KEY_B}))) == "TEMPLATE_FORGED"


def test_two_seals_of_the_same_vector_share_nothing_but_the_header(
    embedding: NDArray[np.float32],
) -> None:
    first, second = (sealer().seal(embedding, "r", "t", NOW + 9) for _ in range(2))
    assert first != second
    assert first[-128:] != second[-128:]


def test_the_vector_is_not_readable_in_the_token(
    token: bytes, embedding: NDArray[np.float32]
) -> None:
    plain = embedding.tobytes()
    assert not any(plain[at : at + 8] in token for at in range(0, len(plain), 8))
    assert b"C-17" not in token


@pytest.mark.parametrize(
    "vector",
    [np.zeros((2, 2), np.float32), np.zeros(0, np.float32), np.full(4, np.nan, np.float32)],
)
def test_what_is_not_an_embedding_is_not_sealed(vector: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="embedding"):
        sealer().seal(vector, "r", "t", NOW + 9)


def write_ring(path: Path, *keys: tuple[str, bytes, bool]) -> None:
    entries = [
        {"id": name, "key": base64.b64encode(key).decode(), "active": active}
        for name, key, active in keys
    ]
    path.write_text(yaml.safe_dump({"keys": entries}))


def test_a_key_file_is_read_and_read_again_on_change(tmp_path: Path, token: bytes) -> None:
    path = tmp_path / "keys.yaml"
    write_ring(path, ("a", KEY_A, True))
    keys = watched_keyring(path, interval_s=0)
    TemplateSealer(keys, now=lambda: NOW).open(token, "compact-bottleneck-2", "website")
    write_ring(path, ("a", KEY_A, False), ("b", KEY_B, True))
    assert keys().active == ("b", KEY_B)


@pytest.mark.parametrize(
    "keys",
    [
        [("a", KEY_A, False)],
        [("a", KEY_A, True), ("b", KEY_B, True)],
        [("a", KEY_A, True), ("a", KEY_B, False)],
        [("a", KEY_A[:16], True)],
        [],
    ],
)
def test_a_bad_key_file_is_refused_without_quoting_a_key(
    tmp_path: Path, keys: list[tuple[str, bytes, bool]]
) -> None:
    path = tmp_path / "keys.yaml"
    write_ring(path, *keys)
    with pytest.raises(ValueError, match="key") as error:
        KeyRing.load(path)
    assert base64.b64encode(KEY_A).decode() not in str(error.value)


def test_a_ring_never_prints_its_keys() -> None:
    ring = KeyRing("a", {"a": KEY_A})
    assert repr(ring) == "KeyRing(active='a', ids=['a'])"


def test_new_keys_are_32_random_bytes() -> None:
    assert len(base64.b64decode(new_key())) == 32
    assert new_key() != new_key()
    assert len(KeyRing.ephemeral().active[1]) == 32
    assert os.urandom(32) != KeyRing.ephemeral().active[1]
