"""What is not a safe photo is refused by its header, with a reason, in little time and memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import io
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from headshot.errors import PhotoError, PhotoLimitError
from headshot.imaging.containers import heif
from headshot.imaging.containers.av1 import sequence_sizes
from headshot.imaging.containers.boxes import boxes, parse_meta
from headshot.imaging.containers.hevc import parameter_sizes
from headshot.imaging.decode import DecodeLimits, decode_photo
from headshot.imaging.icc import ProfileError, display_p3_profile, to_srgb
from headshot.imaging.limits import read_header
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.unit.imaging_io.press import press_profile
from tests.unit.imaging_io.samples import (
    mutate,
    png_chunk,
    png_with_chunks,
    portrait,
    valid_files,
    write,
)

CONTAINERS = ("jpeg", "png", "webp", "avif", "heic", "tiff")


def reason_of(data: bytes, limits: DecodeLimits | None = None) -> str:
    """The reason that the header check gives; no pixel is decoded for it."""
    with pytest.raises(PhotoError) as caught:
        read_header(data, limits or DecodeLimits())
    assert caught.value.message.endswith(".")
    return caught.value.reason


@contextlib.contextmanager
def at_most_mib(allowed: float) -> Iterator[None]:
    """Fail when the process's resident memory ever grows by more than that (Linux only)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("peak memory can be measured on Linux only")

    def resident(field: str) -> float:
        line = next(x for x in status.read_text().splitlines() if x.startswith(field))
        return int(line.split()[1]) / 1024

    # What earlier tests left must not be freed, or used again, while this one is measured.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")  # the high-water mark starts anew
    before = resident("VmRSS")
    yield
    assert resident("VmHWM") - before <= allowed


@functools.cache
def bomb() -> bytes:
    """100 MiB of zeros, deflated to 100 KiB."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(2**20)) for _ in range(100)]
    return b"".join((*parts, packer.flush()))


def test_the_memory_check_sees_an_allocation() -> None:
    with pytest.raises(AssertionError), at_most_mib(24):
        np.ones(160 * 2**20, dtype=np.uint8)


def test_no_bytes_are_refused() -> None:
    assert reason_of(b"") == "EMPTY_PHOTO"


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a" + bytes(100),
        b"BM" + bytes(100),
        b"%PDF-1.7" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
        b"II+\0\x08\0\0\0" + bytes(50),
        b"hello, this is no photo",
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(50),
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(50),
        b"x",
    ],
    ids=["gif", "bmp", "pdf", "svg", "jxl", "bigtiff", "text", "wave", "mp4", "one byte"],
)
def test_other_formats_are_refused(data: bytes) -> None:
    assert reason_of(data) == "UNSUPPORTED_FORMAT"


def test_the_name_of_a_format_is_not_believed() -> None:
    header = read_header(valid_files()["png"], DecodeLimits())
    assert header.format == "png"


@pytest.mark.parametrize("name", CONTAINERS)
def test_too_many_bytes_are_refused(name: str) -> None:
    data = valid_files()[name]
    limits = DecodeLimits(max_bytes=len(data) - 1)
    assert reason_of(data, limits) == "PHOTO_TOO_LARGE"
    with pytest.raises(PhotoLimitError):
        decode_photo(data, limits)


@pytest.mark.parametrize("name", valid_files())
def test_too_many_pixels_are_refused_before_decode(name: str) -> None:
    data = valid_files()[name]
    assert reason_of(data, DecodeLimits(max_pixels=160 * 120 - 1)) == "PHOTO_TOO_LARGE"
    assert reason_of(data, DecodeLimits(max_side=159)) == "PHOTO_TOO_LARGE"
    assert reason_of(data, DecodeLimits(min_side=121)) == "PHOTO_TOO_SMALL"
    header = read_header(data, DecodeLimits(max_pixels=160 * 120, max_side=160, min_side=120))
    assert (header.width, header.height) == (160, 120)


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_refused_before_decode(name: str, share: float) -> None:
    data = valid_files()[name]
    assert reason_of(data[: int(len(data) * share)]) == "PHOTO_TRUNCATED"


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive"])
def test_a_jpeg_cut_short_and_closed_again_is_refused_by_the_decoder(name: str) -> None:
    data = valid_files()[name]
    with pytest.raises(PhotoError) as caught:
        decode_photo(data[: len(data) // 2] + b"\xff\xd9")
    assert caught.value.reason == "PHOTO_TRUNCATED"


def test_animations_are_refused() -> None:
    frames = [Image.fromarray(portrait()), Image.fromarray(255 - portrait())]
    several = {"save_all": True, "append_images": frames[1:]}
    assert reason_of(write(frames[0], "PNG", **several)) == "ANIMATED_PHOTO"
    assert reason_of(write(frames[0], "WEBP", **several)) == "ANIMATED_PHOTO"
    assert reason_of(write(frames[0], "AVIF", speed=10, **several)) == "ANIMATED_PHOTO"
    assert reason_of(write(frames[0], "TIFF", **several)) == "ANIMATED_PHOTO"


def test_a_second_frame_of_png_is_found_behind_the_pixels() -> None:
    png = valid_files()["png"]
    late = png[:-12] + png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png[-12:]
    assert reason_of(late) == "ANIMATED_PHOTO"


def test_a_huge_png_of_a_few_bytes_is_refused_as_truncated_without_memory() -> None:
    head = struct.pack(">IIBBBBB", 7000, 7000, 8, 6, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body
    with at_most_mib(8):
        assert reason_of(png) == "PHOTO_TRUNCATED"


@pytest.mark.parametrize(
    "chunk",
    [
        lambda data: png_chunk(b"iCCP", b"p\0\0" + data),
        lambda data: png_chunk(b"zTXt", b"Comment\0\0" + data),
        lambda data: png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + data),
    ],
    ids=["iCCP", "zTXt", "iTXt"],
)
def test_a_bomb_in_png_metadata_stays_small(chunk: object) -> None:
    png = png_with_chunks(valid_files()["png"], chunk(bomb()))  # type: ignore[operator]
    with at_most_mib(24):
        photo = decode_photo(png)
    np.testing.assert_array_equal(photo.pixels, portrait())


def test_more_pixel_data_than_the_header_allows_are_not_unpacked() -> None:
    head = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    body = png_chunk(b"IDAT", bomb()) + png_chunk(b"IEND", b"")
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body
    with at_most_mib(24):
        assert decode_photo(png).pixels.shape == (64, 64, 3)


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = valid_files()["jpeg-progressive"]
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert reason_of(data[:-2] + scan * 200 + b"\xff\xd9") == "PHOTO_TOO_COMPLEX"


def test_scans_behind_a_hidden_end_marker_are_counted() -> None:
    data = valid_files()["jpeg-progressive"]
    scan = data[data.rindex(b"\xff\xda") : -2]
    comment = b"\xff\xfe\0\4\xff\xd9"
    assert reason_of(data[:-2] + comment + scan * 200 + b"\xff\xd9") == "PHOTO_TOO_COMPLEX"


def test_a_motion_clip_behind_a_jpeg_is_not_mistaken_for_scans() -> None:
    clip = np.random.default_rng(0).integers(0, 256, 10 * 2**20, dtype=np.uint8).tobytes()
    assert clip.count(b"\xff\xda") > 100
    assert read_header(valid_files()["jpeg"] + clip, DecodeLimits()).width == 160


def test_millions_of_tiny_segments_are_refused_quickly() -> None:
    started = time.process_time()
    jpeg = b"\xff\xd8" + b"\xff\xfe\0\2" * 2_000_000 + b"\xff\xd9"
    assert reason_of(jpeg) == "PHOTO_TOO_COMPLEX"
    png = png_with_chunks(valid_files()["png"], png_chunk(b"tEXt", b"") * 1_000_000)
    assert reason_of(png) == "PHOTO_TOO_COMPLEX"
    assert reason_of(b"\xff\xd8\xff" + b"\xff" * 10_000_000) in ("PHOTO_TRUNCATED", "CORRUPT_PHOTO")
    assert time.process_time() - started < 3


def test_rare_kinds_of_jpeg_are_refused() -> None:
    data = bytearray(valid_files()["jpeg"])
    frame = data.index(b"\xff\xc0")
    twelve_bit, lossless, no_lines = (bytearray(data) for _ in range(3))
    twelve_bit[frame + 4] = 12
    lossless[frame + 1] = 0xC3
    no_lines[frame + 5 : frame + 7] = b"\0\0"
    assert reason_of(bytes(twelve_bit)) == "UNSUPPORTED_FORMAT"
    assert reason_of(bytes(lossless)) == "UNSUPPORTED_FORMAT"
    assert reason_of(bytes(no_lines)) == "CORRUPT_PHOTO"


def tiff_with(changes: dict[int, tuple[int, int, int]], name: str = "tiff") -> bytes:
    """The sample with directory entries (tag -> type, count, raw value) replaced or added."""
    data = bytearray(valid_files()[name])
    (offset,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    entries = {
        tag: (kind, values, raw)
        for tag, kind, values, raw in struct.iter_unpack(
            "<HHII", bytes(data[offset + 2 : offset + 2 + 12 * count])
        )
    }
    entries |= changes
    start = len(data)
    struct.pack_into("<I", data, 4, start)
    data += struct.pack("<H", len(entries))
    for tag, (kind, values, raw) in sorted(entries.items()):
        data += struct.pack("<HHII", tag, kind, values, raw)
    return bytes(data + b"\0\0\0\0")


def test_a_rewritten_tiff_still_decodes() -> None:
    np.testing.assert_array_equal(decode_photo(tiff_with({})).pixels, portrait())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({256: (4, 1, 2**31)}, "PHOTO_TOO_LARGE"),
        ({256: (4, 1, 0)}, "CORRUPT_PHOTO"),
        ({273: (4, 2**30, 8)}, "PHOTO_TRUNCATED"),
        ({273: (4, 3_000, 8)}, "CORRUPT_PHOTO"),
        ({279: (4, 1, 2**31)}, "PHOTO_TRUNCATED"),
        ({278: (4, 1, 0)}, "CORRUPT_PHOTO"),
        ({258: (3, 60_000, 8)}, "PHOTO_TRUNCATED"),
        ({258: (3, 6, 8)}, "CORRUPT_PHOTO"),
        ({259: (3, 1, 34661)}, "UNSUPPORTED_FORMAT"),
        ({259: (3, 1, 6)}, "UNSUPPORTED_FORMAT"),
        ({339: (3, 1, 3)}, "UNSUPPORTED_FORMAT"),
        ({277: (3, 1, 60_000)}, "UNSUPPORTED_FORMAT"),
        ({262: (3, 1, 32803)}, "UNSUPPORTED_FORMAT"),
        ({322: (4, 1, 2**20), 323: (4, 1, 2**20), 324: (4, 1, 8), 325: (4, 1, 8)}, "CORRUPT_PHOTO"),
    ],
)
def test_absurd_tiff_tags_are_refused(
    changes: dict[int, tuple[int, int, int]], reason: str
) -> None:
    with at_most_mib(8):
        assert reason_of(tiff_with(changes)) == reason


def test_private_tiff_tags_never_reach_the_decoder() -> None:
    size = len(valid_files()["tiff"])
    # 400 private tags that each claim the whole file.
    private = {60_000 + i: (1, size - 8, 8) for i in range(400)}
    with at_most_mib(8):
        np.testing.assert_array_equal(decode_photo(tiff_with(private)).pixels, portrait())


def test_a_tiff_directory_that_points_to_itself_is_refused() -> None:
    data = bytearray(valid_files()["tiff"])
    (offset,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    struct.pack_into("<I", data, offset + 2 + 12 * count, offset)
    assert reason_of(bytes(data)) == "ANIMATED_PHOTO"


def test_short_uncompressed_strips_are_refused() -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, portrait(), photometric="rgb")
    data = out.getvalue()
    header = read_header(data, DecodeLimits())
    assert (header.width, header.height) == (160, 120)
    assert reason_of(data[:-5000]) == "PHOTO_TRUNCATED"


def test_heif_sizes_are_checked_wherever_they_stand() -> None:
    for name in ("heic", "avif", "heic-rgba"):
        data = bytearray(valid_files()[name])
        at = data.index(b"ispe") + 8
        struct.pack_into(">II", data, at, 60_000, 60_000)
        assert reason_of(bytes(data)) == "PHOTO_TOO_LARGE"


def test_a_heif_grid_of_far_too_many_pixels_is_refused() -> None:
    meta = _meta_of(valid_files()["heic"])
    meta.items = {1: b"grid", **dict.fromkeys(range(2, 302), b"hvc1")}
    small = next(i for i, box in enumerate(meta.properties, 1) if box.kind == b"ispe")
    meta.associations = {item: [small] for item in meta.items}
    meta.parts = {1: list(range(2, 302))}
    with pytest.raises(PhotoLimitError) as caught:
        heif._codec(meta, 1, 160 * 120)
    assert caught.value.reason == "PHOTO_TOO_COMPLEX"


@pytest.mark.parametrize(("name", "config"), [("heic", b"hvcC"), ("avif", b"av1C")])
def test_the_size_inside_the_coded_stream_is_read(name: str, config: bytes) -> None:
    data = valid_files()[name]
    meta = _meta_of(data)
    assert meta.primary is not None
    record = next(box.body for box in meta.of(meta.primary) if box.kind == config)
    sizes = parameter_sizes if name == "heic" else sequence_sizes
    found = set(sizes(record, meta.payload(meta.primary, data)))
    assert found == {(160, 120)}


def _meta_of(data: bytes):  # type: ignore[no-untyped-def]
    start, end = next((s, e) for k, s, e in boxes(data, 0, len(data), top=True) if k == b"meta")
    return parse_meta(data[start:end])


def test_a_photo_for_which_there_is_no_memory_is_too_large_and_not_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", exhausted)
    with pytest.raises(PhotoLimitError) as caught:
        decode_photo(valid_files()["jpeg"])
    assert caught.value.reason == "PHOTO_TOO_LARGE"


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_library_error_escapes_from_mutated_files(name: str) -> None:
    _decode_mutations(valid_files()[name], 120, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", valid_files())
def test_no_library_error_escapes_from_a_thousand_mutations(name: str) -> None:
    with at_most_mib(64):
        refused = _decode_mutations(valid_files()[name], 1000, seed=2)
    assert refused > 300


def _decode_mutations(data: bytes, count: int, seed: int) -> int:
    generator = np.random.default_rng(seed)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(count):
            try:
                photo = decode_photo(mutate(data, generator), long_side=100)
            except PhotoError as error:
                assert error.reason.isupper()
                refused += 1
            else:
                assert max(photo.pixels.shape[:2]) <= 100
    return refused


PREFIXES = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"RIFF\x40\0\0\0WEBP")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from((*PREFIXES, b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavif")), st.binary())
def test_random_bytes_are_refused_with_a_reason(prefix: bytes, tail: bytes) -> None:
    with pytest.raises(PhotoError) as caught:
        decode_photo(prefix + tail)
    assert caught.value.reason.isupper()


def test_long_side_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        decode_photo(valid_files()["jpeg"], long_side=0)


@pytest.mark.parametrize("make", [display_p3_profile, press_profile], ids=["matrix", "tables"])
def test_damaged_profiles_convert_or_are_refused(make: Callable[[], bytes]) -> None:
    generator = np.random.default_rng(3)
    rgb = np.ascontiguousarray(portrait())
    pixels = np.dstack([rgb, rgb[..., 0]]) if make is press_profile else rgb
    outcomes = set()
    for _ in range(150):
        try:
            conversion = to_srgb(mutate(make(), generator), pixels.shape[2])
        except ProfileError:
            outcomes.add("refused")
        else:
            assert conversion.apply(pixels).shape == (120, 160, 3)
            outcomes.add("converted")
    assert outcomes == {"refused", "converted"}
