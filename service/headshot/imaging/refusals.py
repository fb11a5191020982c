"""What a photo may cost, and the errors that refuse one; see `headshot.imaging.limits`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headshot.errors import PhotoError, PhotoLimitError

MAX_ICC_BYTES: Final = 4 * 2**20
"""Larger colour profiles are ignored; real ones are below 1 MiB (big CMYK profiles: 2.7 MiB)."""


@dataclass(frozen=True)
class DecodeLimits:
    """Bounds that are enforced before any pixel is decoded.

    Attributes:
        max_bytes: size of the file in bytes.
        max_pixels: width x height.
        max_side: longer side in pixels.
        min_side: shorter side in pixels.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 64

    def check_bytes(self, count: int) -> None:
        """Refuse no bytes (EMPTY_PHOTO) and too many (PHOTO_TOO_LARGE)."""
        if count == 0:
            raise PhotoError("The photo is empty; send the bytes of a file.", reason="EMPTY_PHOTO")
        if count > self.max_bytes:
            raise PhotoLimitError(
                f"The photo has {count} bytes; at most {self.max_bytes} are allowed.",
                metadata={"bytes": str(count), "max_bytes": str(self.max_bytes)},
            )

    def check_size(self, width: int, height: int) -> None:
        """Refuse sizes of zero (CORRUPT_PHOTO), too large and too small ones."""
        if width < 1 or height < 1:
            raise corrupt("its size is zero")
        size = {"width": str(width), "height": str(height)}
        if max(width, height) > self.max_side or width * height > self.max_pixels:
            raise PhotoLimitError(
                f"The photo is {width}x{height}; at most {self.max_pixels} pixels and"
                f" {self.max_side} a side are allowed.",
                metadata=size
                | {"max_pixels": str(self.max_pixels), "max_side": str(self.max_side)},
            )
        if min(width, height) < self.min_side:
            raise PhotoError(
                f"The photo is {width}x{height}; each side must have at least"
                f" {self.min_side} pixels.",
                reason="PHOTO_TOO_SMALL",
                metadata=size | {"min_side": str(self.min_side)},
            )


def corrupt(what: str) -> PhotoError:
    """CORRUPT_PHOTO: the file breaks its own format."""
    return PhotoError(
        f"The photo is damaged: {what}; save it again and send that.", reason="CORRUPT_PHOTO"
    )


def truncated(what: str = "its end is missing") -> PhotoError:
    """PHOTO_TRUNCATED: the file ends before its data do."""
    return PhotoError(
        f"The photo is cut short: {what}; send the whole file.", reason="PHOTO_TRUNCATED"
    )


def unsupported(what: str) -> PhotoError:
    """UNSUPPORTED_FORMAT: not one of the formats, or a variant of one that no photo needs."""
    return PhotoError(
        f"{what} is not supported; send a JPEG, PNG, WebP, HEIC, AVIF or TIFF photo.",
        reason="UNSUPPORTED_FORMAT",
    )


def animated(what: str) -> PhotoError:
    """ANIMATED_PHOTO: more than one frame or page."""
    return PhotoError(f"{what} was sent; send a single still photo.", reason="ANIMATED_PHOTO")


def too_complex(what: str) -> PhotoLimitError:
    """PHOTO_TOO_COMPLEX: small on the outside, but unreasonably costly to read."""
    return PhotoLimitError(
        f"The photo has {what}, more than any camera writes; save it again and send that.",
        reason="PHOTO_TOO_COMPLEX",
    )
