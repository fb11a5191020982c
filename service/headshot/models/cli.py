"""`headshot models`: list and pull the public checkpoints of the studio profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from headshot.models.licences import LicenceError, LicenceMode, check_content
from headshot.models.manifest import Checkpoint, Manifest, Profile, load_manifest
from headshot.models.pull import PullError, PullOptions, pull, sha256_of, state_of

models_app = typer.Typer(
    name="models", help="Public checkpoints of the studio profile.", no_args_is_help=True
)

Folder = Annotated[
    Path,
    typer.Option(
        "--folder", envvar="HEADSHOT_CHECKPOINTS", help="Where the checkpoints lie.", dir_okay=True
    ),
]
ManifestFile = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="Another manifest than the shipped one.",
        exists=True,
        dir_okay=False,
    ),
]
DEFAULT_FOLDER = Path.home() / ".cache" / "headshot" / "checkpoints"


def _manifest(file: Path | None) -> Manifest:
    try:
        return load_manifest(file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"--manifest: {error}") from None


def _profile(name: str) -> Profile:
    if name == "studio":
        return "studio"
    if name == "research":
        return "research"
    raise typer.BadParameter(
        "studio or research (the compact profile ships with the repository: nothing to pull)"
    )


@models_app.command("list")
def list_models(
    folder: Folder = DEFAULT_FOLDER,
    manifest_file: ManifestFile = None,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file and check its sha256.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every checkpoint: stage, licence, size, and whether it is there."""
    manifest = _manifest(manifest_file)
    rows = [
        {
            "name": file.name,
            "stage": file.stage,
            "profile": file.profile,
            "licence": file.licence,
            "commercial": file.commercial,
            "required": file.required,
            "size": file.size,
            "sha256": file.sha256,
            "state": state_of(file, folder, check_hash=verify).value,
        }
        for file in manifest.files
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    line = "{:<21} {:<20} {:<35} {:<10} {:>10}  {}"
    typer.echo(f"checkpoints in {folder}")
    typer.echo(line.format("name", "stage", "licence", "commercial", "size", "state"))
    for row in rows:
        state = str(row["state"]) if row["required"] else f"{row['state']} (optional)"
        typer.echo(
            line.format(
                str(row["name"]),
                str(row["stage"]),
                str(row["licence"]),
                "yes" if row["commercial"] else "NO",
                _megabytes(row["size"]),
                state,
            )
        )


@models_app.command("pull")
def pull_models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Checkpoints by name; none: all required ones.")
    ] = None,
    profile: Annotated[str, typer.Option("--profile", help="studio or research.")] = "studio",
    folder: Folder = DEFAULT_FOLDER,
    manifest_file: ManifestFile = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--mirror",
            envvar="HEADSHOT_MODEL_MIRROR",
            help="Base URL that replaces scheme and host of every source.",
        ),
    ] = None,
    offline: Annotated[
        Path | None,
        typer.Option("--offline", help="Copy from this folder; no network is used."),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="The optional checkpoints of the profile, too.")
    ] = False,
    research: Annotated[
        bool,
        typer.Option("--research", help="I use these weights for non-commercial research only."),
    ] = False,
) -> None:
    """Download checkpoints: resumed where a pull broke off, each checked by sha256."""
    manifest = _manifest(manifest_file)
    mode = LicenceMode.RESEARCH if research else LicenceMode.COMMERCIAL
    try:
        chosen = manifest.select(_profile(profile), names=tuple(names or ()), optional=everything)
    except KeyError as error:
        raise typer.BadParameter(f"unknown in profile {profile}: {error.args[0]}") from error
    options = PullOptions(mirror=mirror, offline=offline)
    failed = _pull_all(chosen, folder, manifest, mode, options)
    if failed:
        raise typer.Exit(code=1)


@models_app.command("check")
def check_file(
    files: Annotated[
        list[Path], typer.Argument(help="Model files of any name.", exists=True, dir_okay=False)
    ],
    manifest_file: ManifestFile = None,
    *,
    research: Annotated[bool, typer.Option("--research", help="Allow research-only.")] = False,
) -> None:
    """Tell by content whether files are known, and refuse research-only ones."""
    manifest = _manifest(manifest_file)
    mode = LicenceMode.RESEARCH if research else LicenceMode.COMMERCIAL
    known = {file.sha256: file for file in manifest.files}
    refused = False
    for path in files:
        digest = sha256_of(path)
        try:
            check_content(digest, mode, manifest)
        except LicenceError as error:
            refused = True
            typer.echo(f"REFUSED  {path.name}: {error}", err=True)
            continue
        match = known.get(digest)
        typer.echo(
            f"ok       {path.name}: {match.name}, {match.licence}"
            if match
            else f"unknown  {path.name}: not in the manifest (sha256 {digest})"
        )
    if refused:
        raise typer.Exit(code=1)


def _pull_all(
    chosen: tuple[Checkpoint, ...],
    folder: Path,
    manifest: Manifest,
    mode: LicenceMode,
    options: PullOptions,
) -> list[str]:
    failed: list[str] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        for file in chosen:
            task = bar.add_task(file.name, total=file.size)

            def report(_: Checkpoint, done: int, total: int | None, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total)

            try:
                path = pull(file, folder, manifest, mode=mode, options=options, progress=report)
            except (LicenceError, PullError) as error:
                failed.append(file.name)
                bar.console.print(f"[red]failed[/red] {error}")
                continue
            size = path.stat().st_size
            bar.update(task, completed=size, total=size)
            bar.console.print(f"ready  {file.name}  {file.licence}  {path}")
    return failed


def _megabytes(size: object) -> str:
    return f"{size / 1e6:,.1f} MB" if isinstance(size, int) else "?"
