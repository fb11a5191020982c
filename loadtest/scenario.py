"""Scenarios as YAML: what is sent, how often, by whom, for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from loadtest.arrivals import Arrivals, Shape

Kind = Literal["encode_identity", "denoise", "matte", "upscale", "verify", "create", "team"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Work(_Strict):
    """One kind of request in a mix.

    Attributes:
        kind: the RPC.
        weight: share of the mix.
        renditions: presets, for create and team; empty takes the style's own.
        candidates: for create and team.
        photos: how many photos a request carries.
        members: items of one team call.
        tenant: API key's name in the environment variable LOADTEST_KEY_<TENANT>; empty for none.
        priority: interactive or batch.
        timeout_s: deadline of each request.
    """

    kind: Kind
    weight: Annotated[float, Field(gt=0)] = 1.0
    renditions: tuple[str, ...] = ()
    candidates: Annotated[int, Field(ge=1, le=8)] = 1
    photos: Annotated[int, Field(ge=1, le=16)] = 1
    members: Annotated[int, Field(ge=1, le=64)] = 4
    tenant: str = ""
    priority: Literal["interactive", "batch"] = "interactive"
    timeout_s: Annotated[float, Field(gt=0)] = 30.0


class Scenario(_Strict):
    """One run.

    Attributes:
        name: of the scenario.
        description: what it shows.
        arrivals: shape of the schedule.
        rate: requests a second; 0 means `load` times the capacity that is measured first.
        load: share of the measured capacity, where rate is 0.
        seconds: length after the warm-up.
        warmup_s: discarded beginning.
        peak: last rate of step arrivals, in the units of `rate` or `load`.
        seed: of schedule and mix.
        work: the mix.
        slo_p99_s: latency that the search holds p99 under.
        memory_growth: share by which memory may grow after the warm-up; 0 for no limit. With a
            limit, a request that does not work fails the run too.
    """

    name: str
    description: str
    arrivals: Shape = "poisson"
    rate: Annotated[float, Field(ge=0)] = 0.0
    load: Annotated[float, Field(gt=0, le=10)] = 0.7
    seconds: Annotated[float, Field(gt=0, le=7200)] = 30.0
    warmup_s: Annotated[float, Field(ge=0)] = 5.0
    peak: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 1
    work: Annotated[tuple[Work, ...], Field(min_length=1)]
    slo_p99_s: Annotated[float, Field(gt=0)] = 4.0
    memory_growth: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def schedule(self, rate: float) -> Arrivals:
        """Return the schedule at `rate`, warm-up included."""
        peak = self.peak * rate / self.load if self.rate == 0 else self.peak
        return Arrivals(self.arrivals, rate, self.seconds + self.warmup_s, self.seed, peak)


def load_scenario(source: str) -> Scenario:
    """Return a scenario of this package by name, or of a YAML file by path."""
    path = Path(source)
    if not path.suffix:
        path = Path(__file__).parent / "scenarios" / f"{source}.yaml"
    return Scenario.model_validate(yaml.safe_load(path.read_text()))
