"""Many small encoded images and their labels in two files: one to append to, one to look up.

`<name>.bin` holds the blobs one after another, `<name>.jsonl` one record a line:
``{"key": str, "blobs": {name: [offset, length]}, ...labels}``.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


class PackWriter:
    """Append records; a record is readable as soon as its line is written."""

    def __init__(self, stem: Path) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        self._blobs = stem.with_suffix(".bin").open("wb")
        self._index = stem.with_suffix(".jsonl").open("w")

    def add(self, key: str, blobs: dict[str, bytes], **labels: Any) -> None:
        """Write one record."""
        places = {}
        for name, data in blobs.items():
            places[name] = [self._blobs.tell(), len(data)]
            self._blobs.write(data)
        self._blobs.flush()
        self._index.write(json.dumps({"key": key, "blobs": places, **labels}) + "\n")
        self._index.flush()

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._blobs.close()
        self._index.close()


class Pack:
    """Read-only view of a pack; the blob file is memory-mapped."""

    def __init__(self, stem: Path) -> None:
        lines = stem.with_suffix(".jsonl").read_text().splitlines()
        self.records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._data = np.memmap(stem.with_suffix(".bin"), dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.records)

    def blob(self, index: int, name: str) -> npt.NDArray[np.uint8]:
        """Return the bytes of one blob, uint8 [length]."""
        offset, length = self.records[index]["blobs"][name]
        return np.asarray(self._data[offset : offset + length])

    def image(self, index: int, name: str = "image") -> npt.NDArray[np.uint8]:
        """Decode one blob to RGB uint8 [h,w,3]."""
        bgr = cv2.imdecode(self.blob(index, name), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"record {index}: {name} is not an image")
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

    def mask(self, index: int, name: str) -> npt.NDArray[np.uint8]:
        """Decode one blob to one channel, uint8 [h,w]."""
        grey = cv2.imdecode(self.blob(index, name), cv2.IMREAD_GRAYSCALE)
        return np.asarray(grey, np.uint8)


def encode_jpeg(rgb: npt.NDArray[np.uint8], quality: int = 93) -> bytes:
    """Encode RGB uint8 [h,w,3] as JPEG."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), flags)[1])


def encode_png(grey: npt.NDArray[np.uint8]) -> bytes:
    """Encode one channel uint8 [h,w] as PNG (fast compression)."""
    return bytes(cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])


def decode_rgb(data: bytes, longest: int) -> npt.NDArray[np.uint8] | None:
    """Decode to RGB uint8 [h,w,3] with sides <= `longest`; None for what is not an image."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        return None
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return fit_within(rgb.astype(np.uint8, copy=False), longest)


def fit_within(image: npt.NDArray[np.uint8], longest: int) -> npt.NDArray[np.uint8]:
    """Downscale (area) so that no side exceeds `longest`; never upscale."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
