"""Every setting of the service: from defaults, a TOML file, HEADSHOT_* variables, then the CLI.

Field descriptions are the documentation; `headshot settings` prints them. Unknown keys are refused,
and so are variables that look like a misspelt setting.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "HEADSHOT_CONFIG"
# Only Linux knows affinity; the client and its commands run elsewhere, too.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_PREFIX = "HEADSHOT_"
# Variables of the command line and of the embedded server's backends, which are no settings.
_NO_SETTINGS = frozenset({"triton_facts_dir"})
_ALIKE = 0.8
# An address may begin with a bracket, too: [::1]:8001.
_JSON_LIST = re.compile(r"\s*\[\s*[\]\"]")


def _listed(value: object) -> object:
    """Return the items of a list that is given as text, JSON or with commas between them."""
    if not isinstance(value, str):
        return value
    if not _JSON_LIST.match(value):
        return [item.strip() for item in value.split(",") if item.strip()]
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"is not a JSON list: {error}") from None


def _bracketed(value: object) -> object:
    """Return an IPv6 address as it stands before a port; anything else as it is."""
    try:
        return f"[{ipaddress.IPv6Address(value)}]" if isinstance(value, str) else value
    except ValueError:
        return value


def _named(value: object) -> object:
    """Return None for an empty text, which would be the working folder as a path."""
    return None if isinstance(value, str) and not value.strip() else value


Host = Annotated[str, BeforeValidator(_bracketed)]
# What is given as nothing, as in `HEADSHOT_AUDIT_LOG=`, is not given.
MaybePath = Annotated[Path | None, BeforeValidator(_named)]
# NoDecode: the variable's text comes to `_listed` as it is, as the command line's does.
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class Settings(BaseSettings):
    """Settings of `headshot serve`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        extra="forbid",
        frozen=True,
    )

    # Listening
    host: Host = Field("127.0.0.1", description="Address of the gRPC port.")
    port: int = Field(8051, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    operations_host: Host = Field("127.0.0.1", description="Address of the operations port.")
    operations_port: int = Field(
        8052,
        ge=0,
        le=65535,
        description="Port of /metrics, /livez and /readyz; 0 picks a free one.",
    )
    workers: int = Field(1, ge=1, le=64, description="Gateway processes that share the gRPC port.")
    drain_s: float = Field(30.0, ge=0, description="Longest wait for running requests on SIGTERM.")
    reflection: bool = Field(True, description="Serve gRPC reflection.")

    # Triton
    triton_url: Texts = Field(
        (), description="External Triton servers, host:port; empty runs one here."
    )
    model_repository: Path = Field(
        Path("model_repository"), description="Model folder for the embedded Triton."
    )
    model_config_name: str | None = Field(
        None, description="Use configs/<name>.pbtxt of each model, as Triton's flag of that name."
    )
    triton_cache: MaybePath = Field(None, description="Where the embedded server is installed.")
    triton_facts: MaybePath = Field(
        None, description="Folder of execution facts of a Triton that another process embeds."
    )
    triton_ready_s: float = Field(
        180.0,
        gt=0,
        description="Longest wait for models: of the embedded server, or of external ones.",
    )
    shared_memory: bool = Field(
        True, description="Move large tensors through shared memory where Triton shares the host."
    )

    # Requests
    default_deadline_s: float = Field(60.0, gt=0, description="For callers that send none.")
    max_deadline_s: float = Field(600.0, gt=0, description="Longer deadlines are cut to this.")
    max_photo_bytes: int = Field(
        20 * 2**20,
        ge=1024,
        le=32 * 2**20,  # what the contract allows in Photo.data
        description="Largest photo, bytes.",
    )
    max_photo_pixels: int = Field(50_000_000, ge=4096, description="Largest photo, pixels.")
    max_message_bytes: int = Field(64 * 2**20, ge=2**20, description="Largest gRPC message.")
    working_side: int = Field(
        2048, ge=640, le=8192, description="Photos are shrunk to this long side while decoded."
    )
    default_style: str = Field("corporate-finance", description="Style of requests that name none.")
    styles: MaybePath = Field(None, description="Folder of an organisation's own style guides.")
    cmyk_profile: MaybePath = Field(None, description="ICC profile for CMYK renditions.")
    c2pa_certificate: MaybePath = Field(
        None,
        description="PEM chain that signs content credentials (C2PA), with the extra "
        "headshot[c2pa]; unsigned when empty.",
    )
    c2pa_key: MaybePath = Field(None, description="PEM private key of that chain.")
    c2pa_algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = (
        Field("es256", description="Signature algorithm of that key.")
    )
    max_regenerations: int = Field(
        2, ge=0, le=8, description="How often a candidate that fails is made again."
    )
    imaging_threads: int = Field(_CORES, ge=1, le=256, description="Threads for work on pixels.")

    # Admission
    max_concurrency: int = Field(
        2 * _CORES, ge=1, description="Requests worked on at the same time."
    )
    max_queue: int = Field(64, ge=0, description="Requests that wait for a permit.")

    # Security and privacy
    insecure: bool = Field(
        False, description="Allow listening beyond loopback without TLS and credentials."
    )
    tls_certificate: MaybePath = Field(None, description="PEM certificate chain.")
    tls_key: MaybePath = Field(None, description="PEM private key.")
    tls_client_ca: MaybePath = Field(None, description="PEM CA of client certificates (mTLS).")
    credentials: MaybePath = Field(None, description="YAML file of hashed API keys.")
    require_consent: bool = Field(False, description="Refuse requests without a consent reference.")
    audit_log: MaybePath = Field(None, description="Append-only audit log; none when empty.")
    template_keys: MaybePath = Field(
        None, description="Key ring that seals identity templates; a key for this run when empty."
    )
    template_ttl_s: int = Field(
        30 * 86400, ge=60, description="Longest validity of identity templates, and the usual one."
    )
    research_mode: bool = Field(False, description="Allow models whose weights are research-only.")

    # Telemetry
    log_level: str = Field("info", description="debug, info, warning or error.")
    otlp_endpoint: str | None = Field(
        None,
        description="OTLP endpoint of traces, with the extra headshot[tracing]; off when empty.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse half of a pair, and variables whose name is nearly a setting's."""
        for certificate, key in (
            ("tls_certificate", "tls_key"),
            ("c2pa_certificate", "c2pa_key"),
        ):
            if (getattr(self, certificate) is None) != (getattr(self, key) is None):
                raise ValueError(f"{certificate} and {key} belong together: give both or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        known = set(type(self).model_fields)
        for variable in os.environ:
            name = variable.removeprefix(_PREFIX).lower()
            if not variable.startswith(_PREFIX) or name in known | _NO_SETTINGS:
                continue
            if meant := difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE):
                raise ValueError(
                    f"{variable} is no setting; did you mean {_PREFIX}{meant[0].upper()}?"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, TOML file.

        Raises:
            SettingsError: a file is named and cannot be read as TOML.
        """
        named = settings_cls.model_config.get("toml_file") or os.environ.get(CONFIG_VARIABLE)
        sources = (init_settings, env_settings)
        return (*sources, _toml(settings_cls, Path(str(named)))) if named else sources


def _toml(settings_cls: type[BaseSettings], path: Path) -> TomlConfigSettingsSource:
    """Return the settings of a file that must be there: pydantic-settings passes over others."""
    try:
        with path.open("rb"):
            return TomlConfigSettingsSource(settings_cls, path)
    except OSError as error:
        raise SettingsError(f"the settings file {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from None
