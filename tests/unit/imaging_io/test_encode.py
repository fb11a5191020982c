"""Finished pixels become files."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from headshot.errors import InvalidRequestError
from headshot.imaging.colour import cmyk_to_rgb, flatten, linear_to_srgb, srgb_to_linear
from headshot.imaging.containers.jpeg import jpeg_segments
from headshot.imaging.decode import decode_photo
from headshot.imaging.encode import EncodeSpec, encode, encode_mask
from headshot.imaging.icc import display_p3_profile, srgb_profile
from headshot.imaging.metadata import read_metadata
from PIL import Image, ImageCms

from tests.unit.imaging_io.press import press_profile
from tests.unit.imaging_io.samples import portrait, write

FORMATS = ("jpeg", "png", "webp", "avif", "tiff")
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>packet</x:xmpmeta>"


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


@pytest.mark.parametrize("name", FORMATS)
def test_files_carry_profile_and_packet_and_are_opened_by_others(name: str) -> None:
    data = encode(portrait(), EncodeSpec(format=name), xmp=XMP)  # type: ignore[arg-type]
    picture = opened(data)
    assert picture.format == name.upper()
    assert picture.size == (160, 120)
    assert picture.info["icc_profile"] == srgb_profile()
    packet = picture.getexif().get(700) if name == "tiff" else picture.info["xmp"]
    assert packet == XMP
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - portrait()).mean() < 6


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    spec = EncodeSpec(format=name)  # type: ignore[arg-type]
    assert encode(portrait(), spec, xmp=XMP) == encode(portrait().copy(), spec, xmp=XMP)


@pytest.mark.parametrize("name", ["png", "tiff"])
def test_lossless_formats_keep_every_pixel(name: str) -> None:
    data = encode(portrait(), EncodeSpec(format=name))  # type: ignore[arg-type]
    np.testing.assert_array_equal(decode_photo(data).pixels, portrait())


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (63, 131)])
def test_a_mask_comes_back_pixel_for_pixel(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    for strided in (mask, mask[::-1], np.repeat(mask, 2, axis=1)[:, ::2]):
        with Image.open(io.BytesIO(encode_mask(strided))) as opened:
            assert (opened.format, opened.mode, opened.info) == ("PNG", "L", {})
            assert np.array_equal(np.asarray(opened), strided)


def test_webp_is_lossless_when_asked() -> None:
    data = encode(portrait(), EncodeSpec(format="webp", lossless=True))
    np.testing.assert_array_equal(decode_photo(data).pixels, portrait())


@pytest.mark.parametrize(("name", "tolerance"), [("jpeg", 0), ("png", 0.01), ("tiff", 0)])
@pytest.mark.parametrize("dpi", [72, 300])
def test_density_is_written(name: str, tolerance: float, dpi: int) -> None:
    data = encode(portrait(), EncodeSpec(format=name, dpi=dpi))  # type: ignore[arg-type]
    assert opened(data).info["dpi"] == pytest.approx((dpi, dpi), abs=tolerance)


@pytest.mark.parametrize("name", ["webp", "avif"])
@pytest.mark.parametrize("dpi", [72, 300, None])
def test_density_is_written_as_exif_where_the_format_has_no_other(name: str, dpi: int) -> None:
    data = encode(portrait(), EncodeSpec(format=name, dpi=dpi))  # type: ignore[arg-type]
    facts = read_metadata(data)
    assert facts["dpi"] == (None if dpi is None else (dpi, dpi))
    assert not facts["has_exif"]


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_has_full_colour_resolution_and_the_scans_asked_for(progressive: bool) -> None:
    data = encode(portrait(), EncodeSpec(progressive=progressive, dpi=300), xmp=XMP)
    kinds = {marker: body for marker, body, _ in jpeg_segments(data)}
    frame = kinds[0xC2 if progressive else 0xC0]
    assert [frame[7 + 3 * i] for i in range(3)] == [0x11, 0x11, 0x11]
    assert opened(data).info["dpi"] == (300, 300)
    assert opened(data).info["icc_profile"] == srgb_profile()


@pytest.mark.parametrize(
    "spec", [EncodeSpec(), EncodeSpec(progressive=True), EncodeSpec(format="avif")], ids=str
)
def test_a_thin_line_that_differs_in_colour_alone_keeps_its_colour(spec: EncodeSpec) -> None:
    picture = np.full((64, 64, 3), 128, np.uint8)
    picture[:, 10::6] = (230, 86, 113)  # A red as bright as the grey.
    shown = decode_photo(encode(picture, spec)).pixels.astype(int)
    redness = (shown[..., 0] - shown[..., 1])[:, 10::6].mean()
    assert redness > 0.75 * (230 - 86)


def test_higher_quality_is_nearer_and_larger() -> None:
    for name in ("jpeg", "webp", "avif"):
        low, high = (
            encode(portrait(), EncodeSpec(format=name, quality=q))  # type: ignore[arg-type]
            for q in (40, 95)
        )
        assert len(high) > len(low)
        errors = [
            np.abs(decode_photo(data).pixels.astype(int) - portrait()).mean()
            for data in (low, high)
        ]
        assert errors[1] < errors[0]


@pytest.mark.parametrize("name", ["png", "webp", "avif", "tiff"])
def test_transparency_is_kept(name: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))
    data = encode(np.dstack([portrait(), alpha]), EncodeSpec(format=name))  # type: ignore[arg-type]
    picture = opened(data)
    assert picture.mode == "RGBA"
    assert int(np.abs(np.asarray(picture)[..., 3].astype(int) - alpha).max()) <= 3


def test_transparency_is_refused_where_it_cannot_be_kept() -> None:
    rgba = np.dstack([portrait(), portrait()[..., 0]])
    with pytest.raises(InvalidRequestError) as caught:
        encode(rgba, EncodeSpec())
    assert caught.value.reason == "TRANSPARENCY_NOT_SUPPORTED"
    assert "PNG, WebP, AVIF or TIFF in sRGB" in str(caught.value)


@pytest.mark.parametrize("name", ["jpeg", "tiff"])
def test_cmyk_goes_through_the_press_profile_and_back(name: str) -> None:
    spec = EncodeSpec(
        format=name,  # type: ignore[arg-type]
        quality=98,
        colour="cmyk",
        cmyk_profile=press_profile(),
        dpi=300,
    )
    data = encode(portrait(), spec, xmp=XMP)
    picture = opened(data)
    assert picture.mode == "CMYK"
    assert picture.info["icc_profile"] == press_profile()
    assert picture.info["dpi"] == pytest.approx((300, 300))
    photo = decode_photo(data)
    assert photo.icc
    assert "CMYK_WITHOUT_PROFILE" not in photo.notes
    assert np.abs(photo.pixels.astype(int) - portrait()).mean() < 8
    # The profile decides the ink, not the plain formula: black replaces grey.
    grey = np.full((64, 64, 3), 128, np.uint8)
    ink = np.asarray(opened(encode(grey, spec)))[32, 32]
    assert ink[3] > 90
    assert max(ink[:3]) < 40


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"colour": "cmyk"}, "CMYK_PROFILE_MISSING"),
        ({"colour": "cmyk", "format": "png", "cmyk_profile": b"x"}, "CMYK_NOT_SUPPORTED"),
        ({"quality": 0}, "INVALID_ENCODING"),
        ({"quality": 101}, "INVALID_ENCODING"),
        ({"dpi": 0}, "INVALID_ENCODING"),
        ({"format": "gif"}, "INVALID_ENCODING"),
        ({"format": "avif", "lossless": True}, "INVALID_ENCODING"),
    ],
)
def test_specs_that_cannot_be_met_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        EncodeSpec(**options)  # type: ignore[arg-type]
    assert caught.value.reason == reason


@pytest.mark.parametrize("profile", [b"nonsense", srgb_profile()], ids=["damaged", "rgb"])
def test_a_press_profile_that_is_none_is_refused(profile: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        encode(portrait(), EncodeSpec(colour="cmyk", cmyk_profile=profile))
    assert caught.value.reason == "CMYK_PROFILE_INVALID"


@pytest.mark.parametrize("pixels", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="wanted"):
        encode(pixels, EncodeSpec())


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_of_a_photo_but_its_pixels_goes_out(name: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 30.0)
    exif.get_ifd(0x8769)[0x927C] = b"SecretMakerNote"
    original = write(
        portrait(), "JPEG", exif=exif.tobytes(), comment=b"SecretComment", xmp=b"<SecretXmp/>"
    )
    assert b"SecretCamera" in original
    assert b"SecretMakerNote" in original
    photo = decode_photo(original)
    data = encode(photo.pixels, EncodeSpec(format=name), xmp=XMP)  # type: ignore[arg-type]
    assert b"Secret" not in data
    assert 0x8825 not in opened(data).getexif()


def test_long_profiles_are_split_over_segments() -> None:
    spec = EncodeSpec(colour="cmyk", cmyk_profile=press_profile() + bytes(150_000))
    data = encode(portrait(), spec)
    assert sum(marker == 0xE2 for marker, _, _ in jpeg_segments(data)) == 3
    assert opened(data).info["icc_profile"] == spec.cmyk_profile


def test_a_packet_too_long_for_jpeg_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode(portrait(), EncodeSpec(), xmp=bytes(70_000))


def test_generated_profiles_are_what_they_say() -> None:
    for data, name in ((srgb_profile(), "sRGB"), (display_p3_profile(), "Display P3")):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        assert ImageCms.getProfileDescription(profile).strip() == name
        assert len(data) < 600
    ours = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    theirs = ImageCms.createProfile("sRGB")
    levels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = ImageCms.profileToProfile(levels, ours, theirs, renderingIntent=1)
    assert out is not None
    assert int(np.abs(np.asarray(out, dtype=int) - np.asarray(levels)).max()) <= 1


def test_light_and_levels_are_inverse() -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(linear_to_srgb(srgb_to_linear(levels)), levels)
    assert srgb_to_linear(np.uint8([188]))[0] == pytest.approx(0.5029, abs=1e-3)


def test_flattening_mixes_by_alpha() -> None:
    pixel = np.array([[[100, 0, 200, 51]]], np.uint8)
    assert flatten(pixel, 0)[0, 0].tolist() == [20, 0, 40]
    assert flatten(pixel)[0, 0].tolist() == [224, 204, 244]


def test_plain_ink_darkens() -> None:
    ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0, 128, 0, 128]]], np.uint8)
    expected = [[255, 255, 255], [0, 255, 255], [0, 0, 0], [127, 63, 127]]
    assert cmyk_to_rgb(ink)[0].tolist() == expected
