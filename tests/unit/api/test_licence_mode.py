"""Research-only weights: refused unless asked for, and then named to callers and operators."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from google.protobuf import text_format
from headshot.api.gateway import _describe_models
from headshot.api.servicer import HeadshotServicer
from headshot.config import Settings
from headshot.errors import ModelContractError
from headshot.models.manifest import load_manifest
from headshot.pipeline.engine import Engine
from headshot.pipeline.service import Pipeline
from headshot.telemetry.metrics import Metrics
from headshot.triton.contracts import ModelSet, check_models
from headshot.triton.model_config import describe
from headshot.v1 import headshot_service_pb2 as pb
from tritonclient.grpc import model_config_pb2

from tests.conftest import MODELS
from tests.unit.api.parts import Caller, Parts

RESEARCH = next(item.sha256 for item in load_manifest().research_only if "w600k_r50" in item.name)


@pytest.fixture(params=[{"source_sha256": RESEARCH}, {"licence_mode": "research"}], ids=str)
def models(request: pytest.FixtureRequest, model_repository: Path) -> ModelSet:
    """The committed models, the identity encoder made from research-only weights."""
    found = {}
    for name in MODELS:
        text = (model_repository / name / "config.pbtxt").read_text()
        found[name] = describe(text_format.Parse(text, model_config_pb2.ModelConfig()))
    encoder = found["identity_encoder"]
    found["identity_encoder"] = dataclasses.replace(
        encoder, parameters={**encoder.parameters, **request.param}
    )
    return check_models(found)


def test_commercial_mode_does_not_start_with_research_weights(models: ModelSet) -> None:
    with pytest.raises(ModelContractError, match="identity_encoder") as raised:
        _describe_models(Metrics(), models, Settings())
    assert raised.value.reason == "LICENCE_NOT_ALLOWED"


@pytest.mark.parametrize("research", [True, False])
async def test_research_mode_is_named_in_service_info_and_metrics(
    models: ModelSet, parts: Parts, research: bool
) -> None:
    settings = Settings(research_mode=research)
    metrics = Metrics()
    if research:
        _describe_models(metrics, models, settings)
        labels = {"profile": "compact", "research": "true"}
        assert metrics.registry.get_sample_value("headshot_mode_info", labels) == 1
    engine = Engine(None, models, None, metrics)  # type: ignore[arg-type]
    servicer = HeadshotServicer(
        settings,
        Pipeline(engine, settings),
        parts.sessions,
        parts.templates,
        parts.audit,
        asyncio.Event(),
    )
    info = await servicer.GetServiceInfo(pb.GetServiceInfoRequest(), Caller())
    assert info.research_only is research
