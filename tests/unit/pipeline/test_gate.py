"""What is counted of a finished headshot, and what only of one that is returned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from headshot.errors import VerificationFailedError
from headshot.imaging.quality import Layer
from headshot.pipeline.create import Maker
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry


def gate(
    metrics: Metrics, *, same_person: bool, failed: tuple[str, ...] = (), returned: bool = True
) -> None:
    """Let a draft through the gate, or refuse it; count what was returned."""
    measures = [SimpleNamespace(id=name, layer=Layer.REALISM, passed=False) for name in failed]
    report = SimpleNamespace(failed=measures, measures=measures, layer=lambda _layer: measures)
    verification = SimpleNamespace(similarity=0.6, threshold=0.35, same_person=same_person)
    maker = SimpleNamespace(engine=SimpleNamespace(metrics=metrics))
    draft = SimpleNamespace(verification=verification, report=report)
    options = SimpleNamespace(allow_unverified=False)
    Maker._gate(cast("Any", maker), cast("Any", draft), cast("Any", options))
    if returned:
        Maker._count(cast("Any", maker), cast("Any", draft))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"headshot_{name}", labels)


def test_a_returned_headshots_failed_measures_are_no_rejected_candidates() -> None:
    metrics = Metrics(CollectorRegistry())
    gate(metrics, same_person=True, failed=("realism.noise", "realism.detail_kept"))
    assert value(metrics, "quality_failed_measures_total", measure="realism.noise") == 1
    assert value(metrics, "quality_failed_measures_total", measure="realism.detail_kept") == 1
    assert value(metrics, "quality_rejections_total", reason="realism.noise") is None
    assert value(metrics, "quality_score_count", aspect="realism") == 1
    assert value(metrics, "headshots_total", outcome="verified") == 1


def test_a_headshot_whose_files_are_not_there_yet_is_verified_but_none_that_was_made() -> None:
    metrics = Metrics(CollectorRegistry())
    gate(metrics, same_person=True, failed=("realism.noise",), returned=False)
    assert value(metrics, "verifications_total", outcome="same_person") == 1
    assert value(metrics, "headshots_total", outcome="verified") is None
    assert value(metrics, "quality_failed_measures_total", measure="realism.noise") is None
    assert value(metrics, "quality_score_count", aspect="realism") is None


def test_a_refused_headshot_counts_as_a_verification_and_not_by_its_quality() -> None:
    metrics = Metrics(CollectorRegistry())
    with pytest.raises(VerificationFailedError):
        gate(metrics, same_person=False, failed=("realism.noise",))
    assert value(metrics, "verifications_total", outcome="other_person") == 1
    assert value(metrics, "identity_similarity_count") == 1
    assert value(metrics, "quality_failed_measures_total", measure="realism.noise") is None
    assert value(metrics, "quality_score_count", aspect="realism") is None
