"""Requests of each kind, built once before the run."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from google.rpc import error_details_pb2, status_pb2
from headshot.client import AsyncHeadshotClient
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2
from PIL import Image

from loadtest.scenario import Work

_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff")
_PRIORITIES = {"interactive": pb.PRIORITY_INTERACTIVE, "batch": pb.PRIORITY_BATCH}


class ItemFailedError(Exception):
    """One item of a team call failed; the text is its reason."""


def example_photos(folder: Path | None) -> list[bytes]:
    """Return the photos of a folder, or the astronaut of scikit-image at a phone's size.

    Raises:
        ValueError: no photo lies in the folder.
        OSError: it cannot be read.
    """
    if folder is not None:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PHOTOS)
        if not found:
            raise ValueError(f"no photo in {folder}: {', '.join(_PHOTOS)} are looked for")
        return [path.read_bytes() for path in found]
    image = Image.fromarray(np.asarray(skimage.data.astronaut())).resize((2048, 2048))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return [out.getvalue()]


def _reason(error: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in error.details:
        if detail.Unpack(info):
            return info.reason
    return error.message


class RequestMaker:
    """Makes and sends requests of one kind of work.

    Args:
        work: what to send.
        photos: encoded photos, used in turn; a request with several photos repeats one person.
    """

    def __init__(self, work: Work, photos: list[bytes]) -> None:
        self.work = work
        self._photos = photos

    def _photo(self, index: int) -> photo_pb2.Photo:
        return photo_pb2.Photo(data=self._photos[index % len(self._photos)])

    def _options(self, index: int) -> pb.HeadshotOptions:
        return pb.HeadshotOptions(
            candidates=self.work.candidates,
            seed=index,
            renditions=[style_pb2.RenditionSpec(name=name) for name in self.work.renditions],
            allow_unverified=True,
        )

    async def send(self, client: AsyncHeadshotClient, index: int) -> Any:  # noqa: PLR0911
        """Send request `index` and return the message that carries its timings, or None.

        Raises:
            HeadshotCallError: the call failed.
            ItemFailedError: an item of a team call failed.
        """
        photo, timeout = self._photo(index), self.work.timeout_s
        if self.work.kind == "encode_identity":
            photos = [photo] * self.work.photos
            return await client.encode_identity(pb.EncodeIdentityRequest(photos=photos), timeout)
        if self.work.kind == "matte":
            return await client.matte(pb.MatteRequest(photo=photo), timeout)
        if self.work.kind == "upscale":
            return await client.upscale(pb.UpscaleRequest(photo=photo), timeout)
        if self.work.kind == "verify":
            return await client.verify(pb.VerifyRequest(photo=photo, references=[photo]), timeout)
        if self.work.kind == "denoise":
            request = pb.DenoiseRequest(photo=photo, candidates=self.work.candidates, seed=index)
            last = None
            async for response in client.denoise(request, timeout):
                last = response
            return last.result if last is not None else None
        if self.work.kind == "team":
            return await self._team(client, index)
        return await client.create_headshot(self.create_request(index), timeout)

    def create_request(self, index: int) -> pb.CreateHeadshotRequest:
        """Return the CreateHeadshot request with number `index`."""
        return pb.CreateHeadshotRequest(
            photos=[self._photo(index)] * self.work.photos,
            options=self._options(index),
            priority=_PRIORITIES[self.work.priority],
        )

    async def _team(self, client: AsyncHeadshotClient, index: int) -> Any:
        items = (
            pb.TeamItem(item_id=f"m{member}", photos=[self._photo(index + member)])
            for member in range(self.work.members)
        )
        settings = pb.TeamSettings(options=self._options(index))
        last = None
        outcomes: AsyncIterator[Any] = client.create_headshots(settings, items, self.work.timeout_s)
        async for outcome in outcomes:
            if outcome.WhichOneof("outcome") == "error":
                raise ItemFailedError(_reason(outcome.error))
            last = outcome.result
        return last
