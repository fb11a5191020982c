"""Photos of every format become upright sRGB pixels."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile
from headshot.imaging import decode
from headshot.imaging.containers.exif import exif_is_adobe_rgb
from headshot.imaging.decode import Photo, decode_photo
from headshot.imaging.icc import (
    ADOBE_RGB,
    BT709,
    BT2020,
    display_p3_profile,
    matrix_profile,
    srgb_profile,
)
from headshot.imaging.limits import DecodeLimits, read_header
from PIL import Image, ImageOps

from tests.unit.imaging_io.samples import (
    png_chunk,
    png_with_chunks,
    portrait,
    valid_files,
    write,
    write_heic,
)


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("name", valid_files())
def test_every_kind_of_file_gives_contiguous_rgb(name: str) -> None:
    photo = decode_photo(valid_files()[name])
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.shape == (120, 160, 3)
    assert photo.pixels.flags.c_contiguous
    assert photo.format == name.split("-", maxsplit=1)[0]
    assert photo.original_size == (160, 120)
    assert photo.orientation == 1
    assert not photo.icc


@pytest.mark.parametrize("name", ["png", "tiff", "tiff-lzw", "png-16", "tiff-16"])
def test_lossless_files_give_their_exact_pixels(name: str) -> None:
    np.testing.assert_array_equal(decode_photo(valid_files()[name]).pixels, portrait())


@pytest.mark.parametrize(
    ("name", "bound"), [("jpeg", 4), ("webp", 6), ("avif", 5), ("heic", 4), ("tiff-jpeg", 6)]
)
def test_lossy_files_come_near_their_pixels(name: str, bound: float) -> None:
    assert mean_difference(decode_photo(valid_files()[name]).pixels, portrait()) < bound


def test_facts_of_the_file_are_reported() -> None:
    assert decode_photo(valid_files()["png-16"]).bit_depth == 16
    assert "REDUCED_BIT_DEPTH" in decode_photo(valid_files()["png-16"]).notes
    assert decode_photo(valid_files()["jpeg"]).notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied(name: str, orientation: int) -> None:
    stored = Image.fromarray(portrait(96, 160))
    exif = Image.Exif()
    exif[274] = orientation
    options = {} if name in ("PNG", "TIFF") else {"quality": 90}
    photo = decode_photo(write(stored, name, exif=exif.tobytes(), **options))
    stored.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    assert photo.orientation == orientation
    assert photo.original_size == (expected.shape[1], expected.shape[0])
    assert mean_difference(photo.pixels, expected) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(orientation: int) -> None:
    stored = Image.fromarray(portrait(96, 160))
    exif = Image.Exif()
    exif[274] = orientation
    photo = decode_photo(write_heic(np.asarray(stored), exif=exif.tobytes()))
    stored.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    assert photo.orientation == orientation
    assert photo.original_size == (expected.shape[1], expected.shape[0])
    assert mean_difference(photo.pixels, expected) < 4


def test_a_heic_grid_as_phones_write_it_is_put_together() -> None:
    pixels = portrait(300, 200)
    before = pillow_heif.options.GRID_TILE_SIZE
    pillow_heif.options.GRID_TILE_SIZE = 128
    try:
        data = write_heic(pixels)
    finally:
        pillow_heif.options.GRID_TILE_SIZE = before
    photo = decode_photo(data)
    assert photo.original_size == (300, 200)
    assert mean_difference(photo.pixels, pixels) < 4


@pytest.mark.parametrize("primaries", [ADOBE_RGB, BT2020], ids=["adobe", "bt2020"])
def test_a_wide_profile_is_brought_to_srgb(primaries: tuple[tuple[float, float], ...]) -> None:
    # Skin-like sRGB levels, written in the wide space by the same matrices in floating point.
    target = np.tile(np.array([[[200, 150, 120]]], np.uint8), (64, 64, 1))
    encoded = _to_space(target, primaries)
    profile = matrix_profile("wide", primaries)  # type: ignore[arg-type]
    photo = decode_photo(write(encoded, "PNG", icc_profile=profile))
    assert photo.icc
    assert int(np.abs(photo.pixels.astype(int) - target).max()) <= 2
    assert int(np.abs(encoded.astype(int) - target).max()) > 8


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_display_p3_of_a_phone_is_brought_to_srgb(name: str) -> None:
    target = np.tile(np.array([[[210, 120, 90]]], np.uint8), (64, 64, 1))
    encoded = _to_space(target, ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)))
    options = {"quality": 100} if name in ("JPEG", "WEBP", "AVIF") else {}
    data = write(encoded, name, icc_profile=display_p3_profile(), **options)
    photo = decode_photo(data)
    assert photo.icc
    assert int(np.abs(photo.pixels.astype(int) - target).max()) <= 4


def test_display_p3_by_code_points_is_brought_to_srgb() -> None:
    target = np.tile(np.array([[[210, 120, 90]]], np.uint8), (64, 64, 1))
    encoded = _to_space(target, ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)))
    png = png_with_chunks(write(encoded, "PNG"), png_chunk(b"cICP", bytes((12, 13, 0, 1))))
    photo = decode_photo(png)
    assert photo.icc
    assert int(np.abs(photo.pixels.astype(int) - target).max()) <= 2


@pytest.mark.parametrize(
    ("space", "rule", "wide"), [(65535, "R03", True), (1, "R98", False), (65535, "R98", False)]
)
def test_a_cameras_adobe_rgb_mark_is_heeded(space: int, rule: str, wide: bool) -> None:
    target = np.tile(np.array([[[200, 140, 115]]], np.uint8), (64, 64, 1))
    encoded = _to_space(target, ADOBE_RGB, gamma=563 / 256)
    exif = Image.Exif()
    exif[0x8769] = {0xA001: space, 0xA005: {1: rule}}
    data = write(encoded, "JPEG", quality=100, subsampling=0, exif=exif.tobytes())
    photo = decode_photo(data)
    assert photo.icc == wide
    expected = target if wide else encoded
    assert int(np.abs(photo.pixels.astype(int) - expected).max()) <= 3
    # A profile says more than the mark.
    both = write(encoded, "JPEG", quality=100, exif=exif.tobytes(), icc_profile=srgb_profile())
    assert not decode_photo(both).icc


@pytest.mark.parametrize("damage", [b"II*\0\xff\0\0\0", b"Exif\0\0", b"MM\0*" + b"\0" * 40])
def test_a_damaged_exif_block_marks_nothing(damage: bytes) -> None:
    assert not exif_is_adobe_rgb(damage)


@pytest.mark.parametrize("coded", [1.0, 1 / 1.8])
def test_a_png_with_nothing_but_a_gamma_is_read_by_it(coded: float) -> None:
    target = np.tile(np.array([[[200, 140, 115]]], np.uint8), (64, 64, 1))
    encoded = _to_space(target, BT709, gamma=1 / coded)
    chunk = png_chunk(b"gAMA", round(coded * 100_000).to_bytes(4, "big"))
    photo = decode_photo(png_with_chunks(write(encoded, "PNG"), chunk))
    assert photo.icc
    assert int(np.abs(photo.pixels.astype(int) - target).max()) <= 2
    # Whoever says sRGB, or the gamma that most files carry, is taken at the word.
    srgb = png_with_chunks(write(encoded, "PNG"), chunk + png_chunk(b"sRGB", b"\0"))
    usual = png_with_chunks(write(encoded, "PNG"), png_chunk(b"gAMA", (45_455).to_bytes(4, "big")))
    for data in (srgb, usual):
        np.testing.assert_array_equal(decode_photo(data).pixels, encoded)


def test_an_hdr_transfer_is_noted() -> None:
    png = png_with_chunks(valid_files()["png"], png_chunk(b"cICP", bytes((9, 16, 0, 1))))
    assert "HDR_AS_SDR" in decode_photo(png).notes


def test_an_srgb_profile_changes_no_pixel() -> None:
    photo = decode_photo(write(portrait(), "PNG", icc_profile=srgb_profile()))
    np.testing.assert_array_equal(photo.pixels, portrait())
    assert not photo.icc


@pytest.mark.parametrize("profile", [b"nonsense", srgb_profile()[:200], b"\0" * 4000])
def test_a_damaged_profile_is_set_aside(profile: bytes) -> None:
    photo = decode_photo(write(portrait(), "PNG", icc_profile=profile))
    assert "ICC_IGNORED" in photo.notes
    np.testing.assert_array_equal(photo.pixels, portrait())


def test_a_profile_for_other_channels_is_set_aside() -> None:
    grey = Image.fromarray(portrait()).convert("L")
    photo = decode_photo(write(grey, "PNG", icc_profile=srgb_profile()))
    assert "ICC_IGNORED" in photo.notes
    assert mean_difference(photo.pixels[..., 0], np.asarray(grey)) == 0


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
def test_the_profile_of_a_grey_file_is_applied(name: str) -> None:
    options = {"quality": 100} if name == "JPEG" else {}
    grey = Image.new("L", (64, 64), 128)
    photo = decode_photo(write(grey, name, icc_profile=_linear_grey_profile(), **options))
    assert photo.icc
    assert photo.notes == ()
    assert photo.pixels[5, 5].tolist() == [188, 188, 188]


def test_a_grey_profile_in_a_colour_file_is_set_aside() -> None:
    photo = decode_photo(write(portrait(), "JPEG", quality=95, icc_profile=_linear_grey_profile()))
    assert "ICC_IGNORED" in photo.notes
    assert mean_difference(photo.pixels, portrait()) < 4


def _coded(primaries: int, transfer: int) -> bytes:
    return png_chunk(b"cICP", bytes((primaries, transfer, 0, 1)))


def test_a_png_profile_counts_more_than_its_srgb_chunk() -> None:
    plain = write(portrait(), "PNG", icc_profile=display_p3_profile())
    both = png_with_chunks(plain, png_chunk(b"sRGB", b"\0"))
    assert decode_photo(both).icc
    np.testing.assert_array_equal(decode_photo(both).pixels, decode_photo(plain).pixels)


def test_code_points_in_a_png_count_more_than_its_profile() -> None:
    bare = write(portrait(), "PNG")
    profiled = write(portrait(), "PNG", icc_profile=display_p3_profile())
    wide, srgb, hdr = _coded(9, 13), _coded(1, 13), _coded(9, 16)
    np.testing.assert_array_equal(
        decode_photo(png_with_chunks(profiled, wide)).pixels,
        decode_photo(png_with_chunks(bare, wide)).pixels,
    )
    np.testing.assert_array_equal(decode_photo(png_with_chunks(profiled, srgb)).pixels, portrait())
    # Nothing is known of these: the profile beside them is for readers like this one.
    fallen_back = decode_photo(png_with_chunks(profiled, hdr))
    np.testing.assert_array_equal(fallen_back.pixels, decode_photo(profiled).pixels)
    assert fallen_back.notes == ()


def test_cmyk_of_adobe_is_not_negative() -> None:
    # Pillow writes CMYK inverted and marked, as Photoshop does.
    photo = decode_photo(valid_files()["jpeg-cmyk"])
    assert mean_difference(photo.pixels, portrait()) < 4
    assert "CMYK_WITHOUT_PROFILE" in photo.notes


def test_cmyk_without_the_adobe_mark_is_read_as_ink() -> None:
    ink = np.zeros((64, 64, 4), np.uint8)
    ink[..., 1] = 200  # magenta
    data = write(Image.fromarray(255 - ink, "CMYK"), "JPEG", quality=98)
    start = data.index(b"Adobe") - 4
    plain = data[:start] + data[start + 16 :]
    assert decode_photo(plain).pixels[32, 32].tolist() == pytest.approx([255, 55, 255], abs=6)


def test_transparency_is_laid_over_white() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (10, 20, 30, 255)
    pixels[:, 32:48] = (10, 20, 30, 0)
    pixels[:, 48:] = (100, 100, 100, 128)
    photo = decode_photo(write(pixels, "PNG"))
    assert "ALPHA_FLATTENED" in photo.notes
    assert photo.pixels[5, 5].tolist() == [10, 20, 30]
    assert photo.pixels[5, 40].tolist() == [255, 255, 255]
    assert photo.pixels[5, 60].tolist() == [177, 177, 177]


def test_opaque_alpha_is_dropped_without_a_note() -> None:
    opaque = np.dstack([portrait(), np.full((120, 160), 255, np.uint8)])
    photo = decode_photo(write(opaque, "PNG"))
    assert photo.notes == ()
    np.testing.assert_array_equal(photo.pixels, portrait())


def test_a_transparent_palette_is_laid_over_white() -> None:
    palette = Image.fromarray(portrait()).quantize(16)
    photo = decode_photo(write(palette, "PNG", transparency=0))
    assert bool((photo.pixels[np.asarray(palette) == 0] == 255).all())


def test_sixteen_bit_grey_is_rounded_not_cut() -> None:
    values = np.repeat(np.arange(0, 65536, 1024, dtype=np.uint16)[None], 64, axis=0)
    photo = decode_photo(cv2.imencode(".png", values)[1].tobytes())
    expected = np.rint(values / 257)
    assert int(np.abs(photo.pixels[..., 0] - expected).max()) == 0


def test_a_sixteen_bit_negative_is_turned() -> None:
    values = np.repeat(np.arange(0, 65536, 1024, dtype=np.uint16)[None], 64, axis=0)
    out = io.BytesIO()
    tifffile.imwrite(out, values, photometric="miniswhite")
    photo = decode_photo(out.getvalue())
    expected = np.rint((65535 - values.astype(int)) / 257)
    assert int(np.abs(photo.pixels[..., 0] - expected).max()) == 0


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_is_laid_over_white(depth: int) -> None:
    # One half is of the grey 0, the other of the grey 1, which is the transparent one.
    zeros, ones = bytes(8 * depth), bytes([{1: 255, 2: 85, 4: 17}[depth]]) * (8 * depth)
    rows = b"".join(b"\0" + row for row in [zeros] * 32 + [ones] * 32)
    header = struct.pack(">IIBBBBB", 64, 64, depth, 0, 0, 0, 0)
    chunks = (
        png_chunk(b"IHDR", header),
        png_chunk(b"tRNS", struct.pack(">H", 1)),
        png_chunk(b"IDAT", zlib.compress(rows)),
        png_chunk(b"IEND", b""),
    )
    photo = decode_photo(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert "ALPHA_FLATTENED" in photo.notes
    assert (photo.pixels[:32] == 0).all()
    assert (photo.pixels[32:] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_sixteen_bits_is_compared_in_all_of_them(channels: int) -> None:
    values = np.full((64, 64, channels), 257 * 40, np.uint16)
    values[:16] += 1
    values[16:32] = 257 * 99
    png = cv2.imencode(".png", values)[1].tobytes()
    key = png_chunk(b"tRNS", struct.pack(">H", 257 * 40) * channels)
    photo = decode_photo(png_with_chunks(png, key))
    assert "ALPHA_FLATTENED" in photo.notes
    assert (photo.pixels[:16] == 40).all()
    assert (photo.pixels[16:32] == 99).all()
    assert (photo.pixels[32:] == 255).all()


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"tile": (64, 64), "compression": "zlib"},
        {"planarconfig": "separate"},
        {"compression": "zlib", "predictor": True},
        {"rowsperstrip": 7},
    ],
    ids=["big endian", "tiles", "planes", "predictor", "short strips"],
)
def test_layouts_of_tiff_give_the_same_pixels(options: dict[str, object]) -> None:
    pixels = np.ascontiguousarray(portrait())
    stored = np.moveaxis(pixels, 2, 0) if options.get("planarconfig") else pixels
    out = io.BytesIO()
    tifffile.imwrite(out, stored, photometric="rgb", **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(decode_photo(out.getvalue()).pixels, pixels)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "heic", "tiff", "jpeg-cmyk"])
@pytest.mark.parametrize("long_side", [100, 77, 500])
def test_long_side_is_met_exactly_and_never_enlarges(name: str, long_side: int) -> None:
    photo = decode_photo(valid_files()[name], long_side=long_side)
    height, width = photo.pixels.shape[:2]
    assert width == min(long_side, 160)
    assert height == round(120 * width / 160)
    assert photo.original_size == (160, 120)


@pytest.mark.parametrize("turned", [False, True])
def test_a_narrow_jpeg_is_not_reduced_below_the_side_asked_for(turned: bool) -> None:
    size = (65, 1000) if turned else (1000, 65)
    header = read_header(write(np.zeros((*size, 3), np.uint8), "JPEG"), DecodeLimits())
    # A quarter of 65 pixels and 0.255 of them are both 17 pixels: only the long side tells.
    assert max(decode._decode_jpeg(header, 255).shape) >= 255


def test_a_reduced_jpeg_looks_like_the_reduced_original() -> None:
    pixels = portrait(1600, 1200)
    data = write(pixels, "JPEG", quality=95)
    for side in (200, 333, 400, 777):
        small = decode_photo(data, long_side=side).pixels
        expected = cv2.resize(pixels, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert mean_difference(small, expected) < 2


def test_an_uncommon_chroma_layout_is_decoded() -> None:
    data = bytearray(write(portrait(), "JPEG", quality=95, subsampling=2))
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x22
    data[frame + 14] = 0x12  # Cb twice as tall as Cr: no name in TurboJPEG's list
    reference = np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGB"))
    np.testing.assert_array_equal(decode_photo(bytes(data)).pixels, reference)


def test_bytes_behind_the_picture_do_no_harm() -> None:
    for name in ("jpeg", "png", "webp"):
        whole = decode_photo(valid_files()[name]).pixels
        padded = decode_photo(valid_files()[name] + b"MotionPhoto" * 50).pixels
        np.testing.assert_array_equal(padded, whole)


def test_decoding_in_threads_gives_the_same_pixels() -> None:
    files = [valid_files()[n] for n in ("jpeg", "png", "webp", "avif", "heic", "tiff-lzw")]
    p3 = write(portrait(), "PNG", icc_profile=display_p3_profile())
    expected = [decode_photo(f).pixels for f in (*files, p3)]
    failures: list[str] = []

    def work() -> None:
        for data, pixels in zip((*files, p3), expected, strict=True):
            if not np.array_equal(decode_photo(data).pixels, pixels):
                failures.append("differs")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_real_photos_decode_to_what_pillow_shows() -> None:
    folder = Path(os.environ.get("HEADSHOT_PHOTOS", Path(__file__).parents[4] / "shared/photos"))
    photos = sorted(folder.glob("*.jpg"))
    if not photos:
        pytest.skip("no photos: set HEADSHOT_PHOTOS")
    for path in photos[::5]:
        photo: Photo = decode_photo(path.read_bytes())
        reference = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        assert mean_difference(photo.pixels, reference) < 0.5


def _to_space(pixels: np.ndarray, primaries: object, gamma: float | None = None) -> np.ndarray:
    """sRGB levels in another space of the same white, in floating point; None: the same curve."""

    def matrix(xy: object) -> np.ndarray:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in xy]).T  # type: ignore[attr-defined]
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        return np.asarray(columns * np.linalg.solve(columns, white))

    v = pixels / 255.0
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    srgb = matrix(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))
    linear = linear @ (np.linalg.inv(matrix(primaries)) @ srgb).T
    if gamma is not None:
        return np.asarray(np.rint(np.clip(linear, 0, 1) ** (1 / gamma) * 255), dtype=np.uint8)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(np.clip(coded, 0, 1) * 255), dtype=np.uint8)


def _linear_grey_profile() -> bytes:
    """A grey profile whose levels are linear light: the RGB one with other tags and names."""
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    curve = struct.pack(">4s4xI", b"curv", 0)
    start = 128 + 4 + 12 * 2
    table = struct.pack(">I4sII", 2, b"wtpt", start, len(white))
    table += struct.pack(">4sII", b"kTRC", start + len(white), len(curve))
    head = srgb_profile()[4:16] + b"GRAY" + srgb_profile()[20:128]
    body = head + table + white + curve
    return struct.pack(">I", 4 + len(body)) + body
