"""The command line: create | verify | info | inspect | models | keys | serve | settings."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import grpc
import typer
import uvloop
from google.protobuf import json_format
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from headshot.api.gateway import Gateway, run_gateway, serve_until
from headshot.api.supervisor import serve_with_workers
from headshot.client import AsyncHeadshotClient, HeadshotCallError, photo
from headshot.config import Settings
from headshot.contact_sheet import contact_sheet
from headshot.errors import HeadshotError
from headshot.imaging.metadata import read_metadata
from headshot.models.cli import models_app
from headshot.security.cli import keys_app
from headshot.security.listen_policy import InsecureListenError
from headshot.telemetry import logs
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2

T = TypeVar("T")

app = typer.Typer(help="Verified professional headshots from selfies.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
console = Console(stderr=True)
# Not 1, a failed call, and not 2, a wrong command line: a script must tell them apart.
_DIFFERENT_PERSON = 3
_GRADIENT = "gradient:"  # as in style guides
# A gateway that lives as long as one call is reached by that call alone, in plain text and without
# a key, whatever this machine's service is configured for.
_ALONE = {
    "host": "127.0.0.1",
    "port": 0,
    "operations_host": "127.0.0.1",
    "operations_port": 0,
    "workers": 1,
    "credentials": None,
    "tls_certificate": None,
    "tls_key": None,
    "tls_client_ca": None,
}

Target = Annotated[
    str, typer.Option(help="host:port of a running service; empty starts one for this call.")
]
Key = Annotated[str, typer.Option(envvar="HEADSHOT_API_KEY", help="API key of the caller.")]
Ca = Annotated[
    Path | None,
    typer.Option(
        help="PEM CA of the service's certificate; turns TLS on.", exists=True, dir_okay=False
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting as name=value; `headshot settings` lists them."),
]


def _settings(changes: list[str] | None, **given: Any) -> Settings:
    """Return the settings of files and environment with the command line's on top."""
    values = {name: value for name, value in given.items() if value is not None}
    for change in changes or []:
        name, separator, value = change.partition("=")
        if not separator:
            raise typer.BadParameter(f"--set wants name=value, not {change!r}")
        values[name.replace("-", "_")] = value
    try:
        return Settings(**values)
    except ValidationError as error:
        lines = [
            "  " + ": ".join(part for part in (".".join(map(str, e["loc"])), e["msg"]) if part)
            for e in error.errors()
        ]
    except SettingsError as error:
        lines = [f"  {error}"]
    raise typer.BadParameter("settings are not as documented:\n" + "\n".join(lines))


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command; what can be foreseen becomes one line and exit code 1."""
    with _in_one_line():
        return uvloop.run(work())


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Tell errors of calls, files and values without a traceback; exit code 1."""
    try:
        yield
    except (
        HeadshotError,
        HeadshotCallError,
        InsecureListenError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    # The text is no markup: rich would take the brackets of "headshot[c2pa]" for a style.
    console.print(str(error), style="red", markup=False, highlight=False)
    raise typer.Exit(1) from None


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings.", exists=True, dir_okay=False)
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address of the gRPC port.")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC port; 0 picks a free one.")] = None,
    operations_port: Annotated[int | None, typer.Option(help="Port of /metrics, /readyz.")] = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes.")] = None,
    triton_url: Annotated[
        list[str] | None, typer.Option(help="External Triton, host:port; may be repeated.")
    ] = None,
    model_repository: Annotated[Path | None, typer.Option(help="Folder of models.")] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="See `settings`.")] = None,
    changes: Changes = None,
) -> None:
    """Serve headshots over gRPC until SIGTERM or SIGINT."""
    if config is not None:
        Settings.model_config["toml_file"] = str(config)
    settings = _settings(
        changes,
        host=host,
        port=port,
        operations_port=operations_port,
        workers=workers,
        triton_url=tuple(triton_url) if triton_url else None,
        model_repository=model_repository,
        insecure=insecure,
    )
    with _in_one_line():
        logs.configure(settings.log_level)
    if settings.workers > 1:
        _run(lambda: serve_with_workers(settings))
        return

    async def work() -> None:
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)

        def started(gateway: Gateway) -> None:
            console.print(f"serving on {gateway.address}", highlight=False)
            console.print(
                f"metrics on http://{settings.operations_host}:{gateway.operations_port}/metrics",
                highlight=False,
            )

        await serve_until(stop, settings, started)

    _run(work)


@app.command()
def settings() -> None:
    """List all settings with their defaults."""
    for name, field in Settings.model_fields.items():
        typer.echo(f"{name} = {field.get_default()!r}\n    {field.description}")


def _tls(ca: Path | None) -> grpc.ChannelCredentials | None:
    return grpc.ssl_channel_credentials(ca.read_bytes()) if ca else None


@asynccontextmanager
async def _client(target: str, key: str, ca: Path | None) -> AsyncIterator[AsyncHeadshotClient]:
    """Yield a client of a running service, or of one that lives as long as this call."""
    if target:
        async with AsyncHeadshotClient(
            target, api_key=key or None, credentials=_tls(ca), timeout_s=300
        ) as client:
            yield client
        return
    logs.configure("warning")
    with console.status("starting Triton and the gateway (the first time installs the server)"):
        gateway = run_gateway(_settings(None).model_copy(update=_ALONE))
        running = await gateway.__aenter__()
    try:
        async with AsyncHeadshotClient(running.address, timeout_s=300) as client:
            yield client
    finally:
        await gateway.__aexit__(None, None, None)


@app.command()
def create(
    photos: Annotated[
        list[Path], typer.Argument(help="Photos of one person.", exists=True, dir_okay=False)
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures.", file_okay=False, writable=True)
    ] = Path("out"),
    target: Target = "",
    api_key: Key = "",
    ca: Ca = None,
    style: Annotated[str, typer.Option(help="Style guide.")] = "",
    background: Annotated[
        str,
        typer.Option(
            help="auto, blur, a colour (a name or #RRGGBB), gradient:COLOUR, or a picture file; "
            "empty lets the style decide."
        ),
    ] = "",
    candidates: Annotated[int, typer.Option(help="Candidates to choose from.", min=1, max=8)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the noise.", min=0, max=2**64 - 1)] = 0,
    retouch: Annotated[str, typer.Option(help="none, light or standard.")] = "",
    lift: Annotated[
        bool, typer.Option("--lift", help="Expose a face that is in the dark; skin gets lighter.")
    ] = False,
    allow_unverified: Annotated[
        bool,
        typer.Option(
            "--allow-unverified",
            help="Write the best candidate even when none was verified as the same person.",
        ),
    ] = False,
    consent: Annotated[str, typer.Option(help="Consent reference.")] = "",
    sheet: Annotated[bool, typer.Option(help="Also write a contact sheet.")] = True,
) -> None:
    """Make headshots of one person from photos."""
    with _in_one_line():
        options = pb.HeadshotOptions(
            style_id=style,
            candidates=candidates,
            seed=seed,
            allow_unverified=allow_unverified,
            include_intermediates=sheet,
            lift_dark_face=lift,
        )
        if background:
            options.background.CopyFrom(_background(background))
        if retouch:
            if retouch not in ("none", "light", "standard"):
                raise typer.BadParameter(
                    f"--retouch wants none, light or standard, not {retouch!r}"
                )
            options.MergeFrom(pb.HeadshotOptions(retouch=f"RETOUCH_LEVEL_{retouch.upper()}"))
        request = pb.CreateHeadshotRequest(
            photos=[photo(path) for path in photos], options=options, consent_reference=consent
        )
        # Before the call: where the pictures cannot be kept, they need not be made.
        out.mkdir(parents=True, exist_ok=True)

    async def work() -> pb.HeadshotResult:
        async with _client(target, api_key, ca) as client:
            with console.status("making the headshot") as status:
                result = pb.HeadshotResult()
                async for response in client.create_headshot_events(request):
                    kind = response.WhichOneof("event")
                    if kind == "stage" and not response.stage.finished:
                        status.update(f"{response.stage.stage}")
                    elif kind == "progress":
                        step = response.progress
                        status.update(
                            f"denoise: candidate {step.candidate + 1}, "
                            f"step {step.step} of {step.steps}"
                        )
                    elif kind == "result":
                        result = response.result
                return result

    result = _run(work)
    with _in_one_line():
        for rendition in result.renditions:
            path = out / rendition.filename
            path.write_bytes(rendition.data)
            size = f"{rendition.width} x {rendition.height}, {len(rendition.data)} bytes"
            typer.echo(f"{path}  {size}")
        if sheet:
            path = out / "contact-sheet.jpg"
            path.write_bytes(contact_sheet([item.read_bytes() for item in photos], result))
            typer.echo(f"{path}  input, candidates, matte, crops, scores")
    for line in _remarks(result):
        console.print(line, highlight=False)
    verified = result.verification
    console.print(
        f"{'same person' if verified.same_person else 'NOT verified'}: similarity "
        f"{verified.similarity:.3f}, threshold {verified.threshold:.3f} ({verified.recogniser}); "
        f"{result.timings.total_ms:.0f} ms",
        highlight=False,
    )


def _remarks(result: pb.HeadshotResult) -> Iterator[str]:
    """Yield what the caller should know of the photos and of the result."""
    for verdict in result.photos:
        if not verdict.used:
            code = photo_pb2.PhotoCode.Name(verdict.code).removeprefix("PHOTO_CODE_")
            yield f"{verdict.photo_id} was left out, {code}: {' '.join(verdict.advice)}"
    yield from (item.message for item in result.advice)
    if result.degraded:
        yield f"given up for the deadline: {', '.join(result.degraded)}"
    if result.warnings:
        yield f"warnings: {', '.join(result.warnings)}"


def _background(text: str) -> style_pb2.Background:
    if text == "auto":
        return style_pb2.Background(auto=True)
    if text == "blur":
        return style_pb2.Background(blurred_scene=True)
    if text.startswith(_GRADIENT):
        return style_pb2.Background(gradient=text.removeprefix(_GRADIENT))
    path = Path(text)
    if path.suffix and path.is_file():
        return style_pb2.Background(image=path.read_bytes())
    return style_pb2.Background(colour=text)


@app.command()
def verify(
    picture: Annotated[
        Path, typer.Argument(help="The picture in question.", exists=True, dir_okay=False)
    ],
    references: Annotated[
        list[Path], typer.Argument(help="Photos of the person.", exists=True, dir_okay=False)
    ],
    target: Target = "",
    api_key: Key = "",
    ca: Ca = None,
) -> None:
    """Say whether a picture shows the person of other photos.

    The exit code is 0 for the same person, 3 for a different one, 1 where the call failed and 2
    where the command was wrong.
    """
    with _in_one_line():
        request = pb.VerifyRequest(
            photo=photo(picture), references=[photo(path) for path in references]
        )

    async def work() -> pb.VerifyResponse:
        async with _client(target, api_key, ca) as client:
            return await client.verify(request)

    verification = _run(work).verification
    word = "same person" if verification.same_person else "different person"
    typer.echo(
        f"{word}: similarity {verification.similarity:.3f}, threshold {verification.threshold:.3f} "
        f"at a false match rate of {verification.false_match_rate:g} ({verification.recogniser})"
    )
    if not verification.same_person:
        raise typer.Exit(_DIFFERENT_PERSON)


@app.command()
def info(target: Target = "", api_key: Key = "", ca: Ca = None) -> None:
    """Tell version, profile, models, limits and styles of a service, as JSON."""

    async def work() -> dict[str, Any]:
        async with _client(target, api_key, ca) as client:
            service = await client.get_service_info()
            styles = await client.list_styles()
        return {
            "service": json_format.MessageToDict(service),
            "styles": json_format.MessageToDict(styles),
        }

    typer.echo(json.dumps(_run(work), indent=2))


@app.command()
def inspect(
    file: Annotated[
        Path, typer.Argument(help="A picture this service made.", exists=True, dir_okay=False)
    ],
) -> None:
    """Show a picture's provenance: source type, software, style, size, DPI, signature."""
    with _in_one_line():
        found = read_metadata(file.read_bytes())
    typer.echo(json.dumps(found, indent=2, default=str))
