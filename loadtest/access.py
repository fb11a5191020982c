"""How a run gets into a service: its address, the tenants' API keys, the CA of its certificate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import yaml
from headshot.client import AsyncHeadshotClient, RetryPolicy
from headshot.security.credentials import new_api_key

from loadtest.scenario import Scenario

# The tenant of work that names none, in a service that asks everybody for a key.
_NO_TENANT = "loadtest"


class NoKeyError(Exception):
    """A tenant of the scenario has no API key for the service."""


@dataclass(frozen=True)
class Access:
    """Where a service is and who may call it.

    Attributes:
        target: host:port.
        keys: API key of each tenant, "" for work that names no tenant; a tenant without one calls
            without a key.
        ca: PEM of the CA of the service's certificate; None for plain text.
    """

    target: str
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: bytes | None = None

    def client(self, tenant: str = "") -> AsyncHeadshotClient:
        """Return a tenant's client; belongs to the event loop in which it is made."""
        return AsyncHeadshotClient(
            self.target,
            api_key=self.keys.get(tenant),
            credentials=None if self.ca is None else grpc.ssl_channel_credentials(self.ca),
            # A refusal is a result here; a retry would hide it.
            retry=RetryPolicy(attempts=1),
        )


def keys_from_environment(scenario: Scenario) -> dict[str, str]:
    """Return the keys in LOADTEST_KEY_<TENANT>.

    Raises:
        NoKeyError: a tenant has none; without keys the service takes all callers for one.
    """
    keys = {}
    for tenant in sorted({work.tenant for work in scenario.work} - {""}):
        variable = f"LOADTEST_KEY_{tenant.upper()}"
        if not os.environ.get(variable):
            raise NoKeyError(f"{variable} must hold the API key of tenant {tenant}")
        keys[tenant] = os.environ[variable]
    return keys


def new_keys(scenario: Scenario, file: Path) -> dict[str, str]:
    """Make a key for each tenant and write the credentials file of a service that knows them.

    Returns:
        The keys; empty, without a file, for a scenario that names no tenant.
    """
    tenants = sorted({work.tenant for work in scenario.work})
    if tenants == [""]:
        return {}
    keys, entries = {}, []
    for tenant in tenants:
        name = tenant or _NO_TENANT
        keys[tenant], entry = new_api_key(name, name)
        entries.append(entry)
    file.write_text(yaml.safe_dump({"credentials": entries}))
    return keys
