"""With a template from the caller, what does not match is told to differ from the template."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.errors import NoUsablePhotoError
from headshot.pipeline import capture, capture_advice
from headshot.pipeline.capture_advice import PhotoCode, SetCode
from headshot.pipeline.detect import Face
from headshot.pipeline.identity import Template
from headshot.pipeline.requests import PhotoInput
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry

from tests.unit.craft import material

SOMEBODY, SOMEBODY_ELSE = np.eye(2, 128, dtype=np.float32)


def looked_at(index: int, embedding: np.ndarray) -> capture._Photo:
    image, landmarks = material.astronaut_portrait(1280)
    # Each a picture of its own: no duplicates.
    image, landmarks = image[:, 90 * index :], landmarks - np.array([90 * index, 0], np.float32)
    return capture._Photo(
        index,
        PhotoInput(b"", field=f"photos[{index}]"),
        pixels=image,
        original_size=(image.shape[1], image.shape[0]),
        faces=1,
        face=Face(np.zeros(4, np.float32), landmarks, 0.9),
        facts=capture_advice.measure_photo(np.ascontiguousarray(image), 1, None, landmarks),
        embedding=embedding,
    )


def judge(*embeddings: np.ndarray) -> capture.SeenSet:
    encoder = SimpleNamespace(match_threshold=0.4)
    engine = SimpleNamespace(
        models=SimpleNamespace(encoder=encoder), metrics=Metrics(CollectorRegistry())
    )
    photos = [looked_at(index, vector) for index, vector in enumerate(embeddings)]
    template = Template(SOMEBODY, "recogniser")
    return capture._judge(cast("Any", engine), photos, template, strict=True)


def test_the_only_photo_is_not_compared_with_other_photos() -> None:
    with pytest.raises(NoUsablePhotoError) as caught:
        judge(SOMEBODY_ELSE)
    (violation,) = caught.value.violations
    assert violation.description.startswith("OTHER_PERSON: ")
    assert "identity template" in violation.description
    assert "other photos" not in violation.description


def test_of_two_photos_the_one_that_does_not_match_is_told_of_the_template() -> None:
    seen = judge(SOMEBODY, SOMEBODY_ELSE)
    assert [report.code for report in seen.reports] == [PhotoCode.OK, PhotoCode.OTHER_PERSON]
    assert "identity template" in seen.reports[1].advice[0]
    told = {item.code: item.message for item in seen.advice}
    assert "identity template" in told[SetCode.DIFFERENT_PEOPLE]
