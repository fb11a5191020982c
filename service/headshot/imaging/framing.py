"""Framing: the square portrait a photo can give, and the crops of each aspect from it."""

from __future__ import annotations

from headshot.imaging.crops import limit_to_photo, parse_aspect, plan_crop
from headshot.imaging.framing_model import Crop, EdgeTouch, FrameNote, FramingSpec, PortraitFrame
from headshot.imaging.portrait import edges_touched, plan_portrait, settle

__all__ = [
    "Crop",
    "EdgeTouch",
    "FrameNote",
    "FramingSpec",
    "PortraitFrame",
    "edges_touched",
    "limit_to_photo",
    "parse_aspect",
    "plan_crop",
    "plan_portrait",
    "settle",
]
