"""The whole mix is measured, and each tenant of it calls with its own key."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from headshot.security.credentials import CredentialStore

from loadtest.__main__ import capacity, opened
from loadtest.access import Access, NoKeyError, keys_from_environment, new_keys
from loadtest.requests import RequestMaker
from loadtest.runner import Generator
from loadtest.scenario import Scenario, Work, load_scenario
from tests.unit.loadtest.fake_service import FakeServicer, serving
from tests.unit.security.certificates import Authority


async def test_capacity_is_that_of_the_mix_and_not_of_its_first_kind() -> None:
    work = (Work(kind="matte"), Work(kind="verify", weight=3))
    scenario = Scenario(name="t", description="", work=work)
    servicer = FakeServicer(takes_s=0.01)
    async with serving(servicer) as target:
        generator = Generator(Access(target), [b"x"])
        found = await capacity(generator, scenario, [b"x"], seconds=1.5, most=8)
    calls = {rpc: count for (rpc, _), count in servicer.callers.items()}
    assert calls["Verify"] > 1.5 * calls["Matte"]
    # Eight at once for 0.01 or 0.1 s: 103 a second of the mix, 800 a second of mattes alone.
    assert found.rate < 200


async def test_capacity_is_looked_for_with_as_many_requests_as_the_service_can_use() -> None:
    scenario = Scenario(name="t", description="", work=(Work(kind="matte"),))
    servicer = FakeServicer(takes_s=0.2, most=20)
    async with serving(servicer) as target:
        found = await capacity(Generator(Access(target), [b"x"]), scenario, [b"x"], seconds=1.0)
    # Eight at once are 40 a second, twenty 100; more are refused.
    assert found.concurrency in (16, 32)
    assert found.rate > 60


async def test_both_loops_call_with_the_key_of_the_works_tenant() -> None:
    work = (Work(kind="matte", tenant="a"), Work(kind="verify", tenant="b"), Work(kind="verify"))
    scenario = Scenario(
        name="t", description="", arrivals="constant", rate=40, seconds=0.5, warmup_s=0, work=work
    )
    servicer = FakeServicer(takes_s=0.001)
    async with serving(servicer) as target:
        generator = Generator(Access(target, {"a": "key-a", "b": "key-b"}), [b"x"])
        samples = await generator.closed([RequestMaker(one, [b"x"]) for one in work], 2, 0.3)
        closed = set(servicer.callers)
        servicer.callers.clear()
        samples += await generator.run(scenario, 40)
    assert {sample.code for sample in samples} == {"OK"}
    assert closed == {("Matte", "Bearer key-a"), ("Verify", "Bearer key-b"), ("Verify", "")}
    assert set(servicer.callers) == closed


def test_the_service_that_is_started_knows_every_tenant_by_its_own_key(tmp_path: Path) -> None:
    file = tmp_path / "credentials.yaml"
    keys = new_keys(load_scenario("tenants"), file)
    store = CredentialStore(file)
    told = {
        tenant: store.authenticate([("authorization", f"Bearer {key}")]).tenant
        for tenant, key in keys.items()
    }
    assert told == {"interactive": "interactive", "batch": "batch"}


def test_a_scenario_without_tenants_needs_no_credentials(tmp_path: Path) -> None:
    file = tmp_path / "credentials.yaml"
    assert new_keys(load_scenario("create-web"), file) == {}
    assert not file.exists()


def test_a_target_without_a_tenants_key_is_refused_by_the_variables_name(monkeypatch) -> None:
    monkeypatch.setenv("LOADTEST_KEY_BATCH", "one")
    with pytest.raises(NoKeyError, match="LOADTEST_KEY_INTERACTIVE"):
        keys_from_environment(load_scenario("tenants"))
    monkeypatch.setenv("LOADTEST_KEY_INTERACTIVE", "two")
    assert keys_from_environment(load_scenario("tenants")) == {"batch": "one", "interactive": "two"}


async def test_a_target_with_tls_is_called_by_its_ca(tmp_path: Path) -> None:
    authority = Authority()
    issued = authority.issue("server")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    credentials = grpc.ssl_server_credentials([(issued.key, issued.certificate)])
    scenario = load_scenario("create-web")
    async with serving(FakeServicer(), credentials) as target:
        with opened(scenario, target, ca) as (_, access):
            maker = RequestMaker(Work(kind="matte"), [b"x"])
            samples = await Generator(access, [b"x"]).closed([maker], 1, 0.1)
    assert {sample.code for sample in samples} == {"OK"}
