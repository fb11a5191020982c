"""What pictures say about themselves: XMP packets and C2PA manifests."""

from __future__ import annotations

import builtins
import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from headshot import __version__
from headshot.errors import PhotoError
from headshot.imaging import provenance
from headshot.imaging.decode import decode_photo
from headshot.imaging.encode import EncodeSpec, encode
from headshot.imaging.metadata import Provenance, read_metadata, source_type, xmp_packet
from headshot.imaging.provenance import ProvenanceError, Signer, is_available, sign
from PIL import Image

from tests.unit.imaging_io.samples import mutate, portrait, valid_files, write

FORMATS = ("jpeg", "png", "webp", "avif", "tiff")
DONE = Provenance(
    "compositeWithTrainedAlgorithmicMedia", "corporate-finance", "1.2.0", ("denoise", "matte")
)


def finished(name: str, what: Provenance = DONE) -> bytes:
    spec = EncodeSpec(format=name, dpi=300)  # type: ignore[arg-type]
    return encode(portrait(), spec, xmp=xmp_packet(what))


@pytest.mark.parametrize("name", FORMATS)
def test_a_finished_picture_tells_its_provenance(name: str) -> None:
    facts = read_metadata(finished(name))
    assert facts["format"] == name
    assert (facts["width"], facts["height"]) == (160, 120)
    assert facts["software"] == f"headshot {__version__}"
    assert facts["digital_source_type"] == "compositeWithTrainedAlgorithmicMedia"
    assert (facts["style_id"], facts["style_version"]) == ("corporate-finance", "1.2.0")
    assert facts["steps"] == ["denoise", "matte"]
    assert facts["icc"] == "sRGB"
    assert not facts["has_exif"]
    assert not facts["has_gps"]
    assert facts["c2pa"] is None
    assert facts["dpi"] == pytest.approx((300, 300), abs=0.01)
    json.dumps(facts)


def test_the_packet_is_the_same_every_time_and_escapes_text() -> None:
    odd = Provenance("algorithmicallyEnhanced", "a\"b<c>&'d", "1", ("x",))
    assert xmp_packet(odd) == xmp_packet(odd)
    assert read_metadata(finished("jpeg", odd))["style_id"] == "a\"b<c>&'d"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"diffused": True, "composed": True}, "compositeWithTrainedAlgorithmicMedia"),
        ({"diffused": False, "composed": True}, "compositeSynthetic"),
        ({"diffused": True, "composed": False}, "algorithmicallyEnhanced"),
        (
            {"diffused": True, "composed": False, "generative": True},
            "compositeWithTrainedAlgorithmicMedia",
        ),
        ({"diffused": True, "composed": True, "from_noise": True}, "trainedAlgorithmicMedia"),
    ],
)
def test_the_source_type_follows_what_was_done(options: dict[str, bool], expected: str) -> None:
    assert source_type(**options) == expected


def test_a_camera_photo_is_shown_with_its_position_flagged() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 30.0)
    facts = read_metadata(write(portrait(), "JPEG", exif=exif.tobytes()))
    assert facts["has_exif"]
    assert facts["has_gps"]
    assert facts["software"] is None


def test_a_density_that_is_told_for_one_axis_counts_for_both() -> None:
    exif = Image.Exif()
    exif[282], exif[296] = 300.0, 2
    assert read_metadata(write(portrait(), "WEBP", exif=exif.tobytes()))["dpi"] == (300, 300)


def test_a_tiff_that_tells_no_density_has_none() -> None:
    assert read_metadata(write(portrait(), "TIFF"))["dpi"] is None
    assert read_metadata(write(portrait(), "TIFF", dpi=(300, 300)))["dpi"] == (300, 300)


def test_a_heic_is_described_by_its_header() -> None:
    assert read_metadata(valid_files()["heic"])["format"] == "heic"


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(PhotoError) as caught:
        read_metadata(b"no picture")
    assert caught.value.reason == "UNSUPPORTED_FORMAT"


def packet_by(software: str, before: str = "") -> str:
    """Return a packet of another program, with what stands before its first element."""
    return (
        f'{before}<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="{software}"/></rdf:RDF>'
        "</x:xmpmeta>"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-be"])
def test_an_entity_bomb_in_a_packet_is_not_read(encoding: str) -> None:
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    read = []
    for text in (packet_by("Bomb"), packet_by("&b;", entities), packet_by("Bomb", entities)):
        packet = ("\ufeff" + text).encode(encoding)
        read.append(read_metadata(encode(portrait(), EncodeSpec(), xmp=packet))["software"])
    assert read == ["Bomb", None, None]


@pytest.mark.parametrize("name", FORMATS)
def test_no_library_error_escapes_from_mutated_metadata(name: str) -> None:
    generator = np.random.default_rng(4)
    data = finished(name)
    for _ in range(60):
        try:
            facts = read_metadata(mutate(data, generator))
        except PhotoError:
            continue
        assert facts["width"] > 0


@dataclass(frozen=True)
class Key:
    """A test key with a chain of two certificates."""

    chain: str
    pem: str
    sign: Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def key() -> Key:
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.datetime.now(datetime.UTC)

    def named(name: str) -> x509.Name:
        pairs = [(NameOID.ORGANIZATION_NAME, "Test organisation"), (NameOID.COMMON_NAME, name)]
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])

    def builder(name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("root"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(name == "root", None), critical=True)
            .add_extension(usage(root=name == "root"), critical=True)
        )

    root = builder("root", root_key.public_key()).sign(root_key, hashes.SHA256())
    leaf = (
        builder("signer", leaf_key.public_key())
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )

    def raw_signature(data: bytes) -> bytes:
        r, s = utils.decode_dss_signature(leaf_key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    pem = serialization.Encoding.PEM
    private = leaf_key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = leaf.public_bytes(pem) + root.public_bytes(pem)
    return Key(chain.decode(), private.decode(), raw_signature)


def usage(*, root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=root,
        crl_sign=root,
        encipher_only=False,
        decipher_only=False,
    )


needs_c2pa = pytest.mark.skipif(not is_available(), reason="the c2pa extra is not installed")


@needs_c2pa
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("by", ["key", "callback"])
def test_a_signed_picture_is_valid_and_shows_who_and_what(name: str, by: str, key: Key) -> None:
    signer = Signer(
        key.chain,
        private_key=key.pem if by == "key" else None,
        sign=key.sign if by == "callback" else None,
    )
    plain = finished(name)
    signed = sign(plain, EncodeSpec(format=name).media_type, signer, DONE)  # type: ignore[arg-type]
    assert 0 < len(signed) - len(plain) < 20_000  # no thumbnail
    facts = read_metadata(signed)
    assert facts["style_id"] == "corporate-finance"  # the packet is still there
    manifest = facts["c2pa"]
    assert manifest["state"] == "Valid"
    assert manifest["problems"] == []
    assert manifest["issuer"] == "Test organisation"
    assert manifest["claim_generator"] == f"headshot {__version__}"
    assert manifest["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert manifest["style"]["version"] == "1.2.0"
    np.testing.assert_array_equal(decode_photo(signed).pixels, decode_photo(plain).pixels)


@needs_c2pa
def test_a_changed_picture_is_no_longer_valid(key: Key) -> None:
    signed = bytearray(
        sign(finished("jpeg"), "image/jpeg", Signer(key.chain, "es256", key.sign), DONE)
    )
    signed[-40] ^= 1
    manifest = read_metadata(bytes(signed))["c2pa"]
    assert manifest["state"] == "Invalid"
    assert "assertion.dataHash.mismatch" in manifest["problems"]


@needs_c2pa
def test_keys_come_from_files(key: Key, tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_text(key.chain)
    (tmp_path / "key.pem").write_text(key.pem)
    signer = Signer.from_files(tmp_path / "chain.pem", tmp_path / "key.pem")
    assert read_metadata(sign(finished("png"), "image/png", signer, DONE))["c2pa"]["present"]


def test_unreadable_and_contradictory_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProvenanceError) as caught:
        Signer.from_files(tmp_path / "none.pem", tmp_path / "none.key")
    assert caught.value.reason == "C2PA_KEY_INVALID"
    with pytest.raises(ProvenanceError):
        Signer("chain")
    with pytest.raises(ProvenanceError):
        Signer("chain", sign=bytes, private_key="key")


@needs_c2pa
def test_a_bad_key_is_refused_by_name() -> None:
    with pytest.raises(ProvenanceError) as caught:
        sign(finished("png"), "image/png", Signer("no chain", private_key="no key"), DONE)
    assert caught.value.reason == "C2PA_KEY_INVALID"


@needs_c2pa
def test_a_signing_service_that_fails_is_a_typed_error(key: Key) -> None:
    def fails(_: bytes) -> bytes:
        raise OSError("no answer")

    with pytest.raises(ProvenanceError) as caught:
        sign(finished("png"), "image/png", Signer(key.chain, sign=fails), DONE)
    assert caught.value.reason == "C2PA_FAILED"


def test_without_the_extra_signing_says_what_to_install(
    key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name == "c2pa":
            raise ImportError(name)
        return find(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "c2pa", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ProvenanceError) as caught:
        sign(b"", "image/png", Signer(key.chain, private_key=key.pem), DONE)
    assert caught.value.reason == "C2PA_NOT_INSTALLED"
    assert not is_available()
    assert provenance.read_manifest(b"jumdc2pa", "png") == {
        "present": True,
        "state": "not checked: install headshot[c2pa]",
    }
