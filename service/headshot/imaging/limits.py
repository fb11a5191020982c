"""What may be decoded: limits, and the check of a file against them without decoding a pixel."""

from __future__ import annotations

from headshot.imaging.containers.header import Header
from headshot.imaging.containers.sniff import read_header
from headshot.imaging.refusals import DecodeLimits

__all__ = ["DecodeLimits", "Header", "read_header"]
