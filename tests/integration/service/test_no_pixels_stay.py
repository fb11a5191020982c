"""After a call nothing of its pixels is left in the gateway's memory."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from headshot.client import photo
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import style_pb2

# Smaller than any crop that shows a person: 160 x 160 x 3.
_PICTURE_BYTES = 76_800


async def test_no_block_as_large_as_a_picture_stays_after_a_call(client, astronaut):
    request = pb.CreateHeadshotRequest(
        photos=[photo(astronaut)],
        options=pb.HeadshotOptions(
            renditions=[style_pb2.RenditionSpec(name="mine", width=480)], include_intermediates=True
        ),
    )
    await client.create_headshot(request)  # caches that hold no pictures are filled by now
    tracemalloc.start(12)
    try:
        await client.create_headshot(request)
        seen = tracemalloc.get_traced_memory()[1]
        await asyncio.sleep(0)
        gc.collect()
        left = [
            trace
            for trace in tracemalloc.take_snapshot().traces
            if trace.size >= _PICTURE_BYTES
            and any("/headshot/" in frame.filename for frame in trace.traceback)
            and not any("/headshot/client.py" in frame.filename for frame in trace.traceback)
        ]
    finally:
        tracemalloc.stop()
    assert seen > 20 * _PICTURE_BYTES, "the probe saw no pictures at all"
    assert not left, [f"{item.size} bytes: {item.traceback.format()[-3:]}" for item in left[:5]]
