"""What answers tell of the work behind them."""

from __future__ import annotations

import time

import numpy as np
from headshot.api import present
from headshot.deadline import Deadline
from headshot.pipeline.call import Call
from headshot.pipeline.results import Intermediates, Verification

from tests.unit.api.parts import headshot_result


def test_the_timings_of_a_headshot_tell_of_its_pictures_from_the_way() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (1500, 1500, 3), np.uint8)
    result = headshot_result(
        Verification(0.9, 0.4, "recogniser", 1e-4), Intermediates(noise, (), noise[..., 0], None)
    )
    call = Call(Deadline.after(60))
    begun = time.perf_counter()
    between = present.intermediates(result.intermediates)  # type: ignore[arg-type]
    encoding_ms = (time.perf_counter() - begun) * 1e3
    before_ms = call.total_s * 1e3
    message = present.headshot(result, call)
    assert message.intermediates == between
    assert message.timings.total_ms - before_ms > encoding_ms / 3
