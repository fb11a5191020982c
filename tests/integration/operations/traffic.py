"""A bit of everything a gateway meets: good and bad photos, known and unknown callers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml
from headshot.security.credentials import new_api_key
from headshot.security.keyring import new_key
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc as pb_grpc
from headshot.v1 import photo_pb2, style_pb2
from PIL import Image

from tests.chaos.load import OPTIONS, portrait

PHOTO_NAME = "holiday-of-somebody.jpg"


@dataclass(frozen=True)
class Files:
    """Files of a gateway with callers, templates and an audit log."""

    settings: dict[str, Any]
    key: str
    throttled_key: str
    template_key: str
    audit: Path


def secured(folder: Path) -> Files:
    """Write credentials and a key ring; return the settings that use them."""
    key, entry = new_api_key("website-1", "website")
    throttled, throttled_entry = new_api_key("greedy-1", "greedy")
    throttled_entry["quota"] = {"rate_per_s": 0.01, "burst": 1}
    credentials, ring = folder / "credentials.yaml", folder / "keys.yaml"
    credentials.write_text(yaml.safe_dump({"credentials": [entry, throttled_entry]}))
    template_key = new_key()
    ring.write_text(yaml.safe_dump({"keys": [{"id": "k1", "key": template_key, "active": True}]}))
    audit = folder / "audit.log"
    settings: dict[str, Any] = {
        "credentials": credentials,
        "template_keys": ring,
        "audit_log": audit,
    }
    return Files(settings, key, throttled, template_key, audit)


def blank() -> bytes:
    """Return a photo without a face."""
    out = io.BytesIO()
    Image.new("RGB", (640, 640), (90, 120, 150)).save(out, "JPEG")
    return out.getvalue()


class Traffic:
    """Calls the gateway in every way that the metrics tell apart."""

    def __init__(self, address: str, files: Files) -> None:
        self._channel: Any = grpc.aio.insecure_channel(address, options=OPTIONS)
        stub: Any = pb_grpc.HeadshotServiceStub
        self._stub = stub(self._channel)
        self._files = files
        self.photo = portrait()
        self.answers: list[bytes] = []
        self.codes: list[str] = []

    async def close(self) -> None:
        await self._channel.close()

    def _metadata(self, key: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {key}"),) if key else ()

    async def _call(
        self, method: str, request: Any, key: str | None = None, timeout_s: float = 120
    ) -> Any:
        metadata = self._metadata(self._files.key if key is None else key)
        try:
            answer = await getattr(self._stub, method)(
                request, metadata=metadata, timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            self.codes.append(error.code().name)
            return None
        self.codes.append("OK")
        return answer

    async def create(self, data: bytes, timeout_s: float = 120) -> None:
        """Make a headshot; keep the pictures."""
        request = pb.CreateHeadshotRequest(
            photos=[photo_pb2.Photo(data=data, photo_id=PHOTO_NAME)],
            consent_reference="CONSENT-4711",
            options=pb.HeadshotOptions(
                candidates=1,
                allow_unverified=True,
                renditions=[
                    style_pb2.RenditionSpec(
                        name="avatar", width=256, height=256, format=style_pb2.IMAGE_FORMAT_JPEG
                    )
                ],
            ),
        )
        metadata = self._metadata(self._files.key)
        try:
            async for response in self._stub.CreateHeadshot(
                request, metadata=metadata, timeout=timeout_s
            ):
                if response.WhichOneof("event") == "result":
                    self.answers.append(response.result.renditions[0].data)
            self.codes.append("OK")
        except grpc.aio.AioRpcError as error:
            self.codes.append(error.code().name)

    async def template(self) -> bytes:
        """Make an identity template."""
        request = pb.EncodeIdentityRequest(
            photos=[photo_pb2.Photo(data=self.photo, photo_id=PHOTO_NAME)],
            consent_reference="CONSENT-4711",
        )
        answer = await self._call("EncodeIdentity", request)
        return bytes(answer.identity_template) if answer is not None else b""

    async def a_bit_of_everything(self) -> bytes:
        """Send one of each; return a sealed template."""
        picture = photo_pb2.Photo(data=self.photo, photo_id=PHOTO_NAME)
        await self.create(self.photo)
        await self.create(blank())
        await self.create(self.photo[: len(self.photo) // 2])
        await self.create(self.photo, timeout_s=0.2)
        sealed = await self.template()
        await self._call("Verify", pb.VerifyRequest(photo=picture, identity_template=sealed))
        await self._call("Verify", pb.VerifyRequest(photo=picture, identity_template=b"HST1 x"))
        await self._call("Matte", pb.MatteRequest(photo=picture))
        await self._call("Matte", pb.MatteRequest(photo=picture), key="")
        await self._call("Matte", pb.MatteRequest(photo=picture), key="hsk_unknown")
        # A small call costs a quarter of a permit, so that the burst of 1 allows four.
        for _ in range(5):
            await self._call("Matte", pb.MatteRequest(photo=picture), self._files.throttled_key)
        return sealed
