"""`headshot keys`: make API keys and template keys; `headshot keys audit` checks an audit log."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError

from headshot.security.credentials import load_credentials, new_api_key
from headshot.security.keyring import new_key
from headshot.telemetry.audit import GENESIS, key_from_environment, verify

keys_app = typer.Typer(help="Make keys; check files that hold them.", no_args_is_help=True)


@keys_app.command("api")
def api_key(
    credential: Annotated[str, typer.Argument(help="Id of the new credential, for the logs.")],
    tenant: Annotated[str, typer.Argument(help="Tenant that it belongs to.")],
) -> None:
    """Make an API key: the key once on stderr, its entry for the credentials file on stdout."""
    key, entry = new_api_key(credential, tenant)
    typer.echo(f"the key, shown only now: {key}", err=True)
    typer.echo(yaml.safe_dump([entry], sort_keys=False), nl=False)


@keys_app.command("template")
def template_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key, for instance 2026-11.")],
) -> None:
    """Make an entry for the key file that seals identity templates; keep it secret."""
    entry = {"id": key_id, "key": new_key(), "active": True}
    typer.echo(yaml.safe_dump([entry], sort_keys=False), nl=False)


@keys_app.command("check")
def check(
    credentials: Annotated[Path, typer.Argument(help="Credentials file.", exists=True)],
) -> None:
    """Check a credentials file before it is put in place; shows tenants and quotas, no hashes."""
    try:
        entries = load_credentials(credentials).credentials
    except (OSError, ValueError) as error:
        typer.echo(f"{credentials.name}: {_reason(error)}", err=True)
        raise typer.Exit(1) from None
    for entry in entries:
        typer.echo(f"{entry.id}: tenant {entry.tenant}, {entry.priority}, {entry.quota!r}")


@keys_app.command("audit")
def audit(
    log: Annotated[Path, typer.Argument(help="Audit log.", exists=True, dir_okay=False)],
    after: Annotated[
        str,
        typer.Option(help="Head of the file before this one; without it the chain begins here."),
    ] = GENESIS,
) -> None:
    """Check an audit log's chain; HEADSHOT_AUDIT_KEY (hex) holds the key of a keyed log."""
    try:
        key = key_from_environment()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with log.open("rb") as lines:
        verdict = verify(lines, key, start=after)
    typer.echo(json.dumps(dataclasses.asdict(verdict)))
    if not verdict.ok:
        raise typer.Exit(1)


def _reason(error: OSError | ValueError) -> str:
    """Return in one line what is wrong with a file; its values are not quoted."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if not isinstance(error, ValidationError):
        return str(error)
    found = []
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(map(str, one["loc"]))
        what = one["msg"].removeprefix("Value error, ")
        found.append(f"{where}: {what}" if where else what)
    return "; ".join(found)
