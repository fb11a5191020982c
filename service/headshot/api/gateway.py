"""The composition root of one gateway process: everything is made once, and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import cv2
import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection

from headshot.api.admission import AdmissionController, AdmissionLimits
from headshot.api.audit_trail import AuditTrail
from headshot.api.draining import stop_server
from headshot.api.grpc_server import make_server
from headshot.api.health import HealthServicer
from headshot.api.idle_memory import IdleMemory, keep
from headshot.api.interceptors import OpenCalls, server_interceptors
from headshot.api.servicer import HeadshotServicer
from headshot.api.session import Sessions
from headshot.api.start_checks import check_start
from headshot.api.templates import Templates
from headshot.config import Settings
from headshot.core_dumps import forbid_core_dumps
from headshot.deadline import Deadline
from headshot.errors import ModelContractError
from headshot.models.licences import LicenceError, LicenceMode, check_served
from headshot.models.manifest import load_manifest
from headshot.pipeline.engine import Engine
from headshot.pipeline.service import Pipeline
from headshot.pipeline.workers import Workers
from headshot.security.credentials import CredentialStore
from headshot.security.keyring import KeyRing, watched_keyring
from headshot.security.templates import TemplateSealer
from headshot.security.tls import TlsFiles, server_credentials
from headshot.telemetry import tracing
from headshot.telemetry.audit import AuditLog, key_from_environment
from headshot.telemetry.heartbeat import LoopHeartbeat
from headshot.telemetry.http import Health, OperationsServer, plain_address
from headshot.telemetry.logs import get_logger
from headshot.telemetry.metrics import Metrics
from headshot.triton.client import InferenceClient
from headshot.triton.connect import connect
from headshot.triton.contracts import ModelSet
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig
from headshot.v1 import headshot_service_pb2, headshot_service_pb2_grpc

_log = get_logger(__name__)

SERVICE = headshot_service_pb2.DESCRIPTOR.services_by_name["HeadshotService"].full_name
_WATCH_S = 0.5


@dataclass
class Gateway:
    """A running gateway.

    Attributes:
        address: host:port of the gRPC port.
        operations_port: port of /metrics, /livez and /readyz.
        client: the Triton client.
        triton: the embedded server, None with external ones.
        pipeline: what serves.
        metrics: what is counted.
    """

    address: str
    operations_port: int
    client: InferenceClient
    triton: EmbeddedTriton | None
    pipeline: Pipeline
    metrics: Metrics
    _server: grpc.aio.Server
    _health: HealthServicer
    _calls: OpenCalls
    _settings: Settings
    _draining: asyncio.Event

    async def drain(self) -> None:
        """Refuse new requests, let running ones finish within the drain time, then stop."""
        if self._draining.is_set():
            return
        self._draining.set()
        self.metrics.ready(False)
        self._health.drain()
        await stop_server(self._server, self._calls, self._settings.drain_s)

    @property
    def readiness(self) -> Health:
        """Whether requests can be served now."""
        reasons = []
        if self._draining.is_set():
            reasons.append("draining")
        if not any(endpoint.healthy for endpoint in self.client.endpoints):
            reasons.append("no Triton endpoint is healthy")
        return Health(ok=not reasons, reasons=tuple(reasons))


@asynccontextmanager
async def run_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Start everything, yield the running gateway, stop everything in reverse order.

    Raises:
        InsecureListenError: the address is not allowed without TLS and credentials.
        MissingExtraError: a setting needs packages that are not installed.
        ModelContractError: the served models are not what the gateway expects.
        ModelUnavailableError: Triton did not become ready.
        OSError: the operations port is not free.
        ValueError: a file that a setting names is not what it should be.
    """
    check_start(settings)
    forbid_core_dumps()
    # One pool of threads works on pixels; OpenCV's own threads would only compete with it and with
    # the model runtime.
    cv2.setNumThreads(1)
    keep()
    metrics = Metrics()
    tracer = tracing.configure(settings.otlp_endpoint)
    async with AsyncExitStack() as stack:
        stack.callback(tracer.shutdown)
        triton = await embedded_triton(settings, stack)
        urls = list(settings.triton_url) or ([triton.grpc_url] if triton else [])
        client, models = await connect(
            lambda: InferenceClient(
                urls,
                facts_dir=triton.facts_dir if triton else settings.triton_facts,
                shared_memory=settings.shared_memory,
            ),
            Deadline.after(settings.triton_ready_s),
            # The embedded server has loaded what it can; others may still start.
            wait=triton is None,
        )
        await stack.enter_async_context(client)
        _describe_models(metrics, models, settings)
        workers = Workers(settings.imaging_threads)
        stack.callback(workers.close)
        pipeline = Pipeline(Engine(client, models, workers, metrics), settings)
        await pipeline.warm_up()
        credentials = (
            CredentialStore(settings.credentials, metrics=metrics) if settings.credentials else None
        )
        admission = _admission(settings, metrics, credentials)
        calls = OpenCalls(f"/{SERVICE}/")
        chain = server_interceptors(metrics, tracer, credentials, message_s=settings.max_deadline_s)
        server = make_server(settings, [calls, *chain])
        audit = (
            AuditLog(settings.audit_log, key=key_from_environment(), metrics=metrics)
            if settings.audit_log
            else None
        )
        if audit is not None:
            stack.callback(audit.close)
        draining = asyncio.Event()
        servicer = HeadshotServicer(
            settings,
            pipeline,
            Sessions(settings, admission, metrics, tracer),
            Templates(
                _sealer(settings, metrics), models.encoder.recogniser, settings.template_ttl_s
            ),
            AuditTrail(audit),
            draining,
        )
        headshot_service_pb2_grpc.add_HeadshotServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        checks = HealthServicer(("", SERVICE))
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        names = [SERVICE, HEALTH]
        metrics.known_methods(_methods())
        if settings.reflection:
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        port = _bind(server, settings, metrics)
        gateway = Gateway(
            f"{settings.host}:{port}",
            0,
            client,
            triton,
            pipeline,
            metrics,
            server,
            checks,
            calls,
            settings,
            draining,
        )
        heartbeat = LoopHeartbeat(metrics)
        operations = OperationsServer(
            metrics,
            readiness=lambda: gateway.readiness.also(heartbeat.health()),
            liveness=heartbeat.health,
            triton_metrics_url=lambda: triton.metrics_url if triton else None,
            host=settings.operations_host,
            port=settings.operations_port,
        )
        operations.start()
        stack.callback(operations.stop)
        gateway.operations_port = operations.port
        memory = IdleMemory(lambda: admission.admitted, lambda: admission.in_flight)
        for task in (heartbeat.run(), memory.run(), _watch(gateway, checks)):
            stack.push_async_callback(_cancel, asyncio.ensure_future(task))
        await server.start()
        stack.push_async_callback(gateway.drain)
        _log.info("serving", address=gateway.address, operations_port=operations.port)
        yield gateway


async def serve_until(
    stop: asyncio.Event, settings: Settings, started: Callable[[Gateway], None]
) -> None:
    """Run a gateway until `stop` is set, which also ends one that is still waiting for models.

    Raises:
        As `run_gateway`.
    """
    begun = False

    async def serve() -> None:
        nonlocal begun
        async with run_gateway(settings) as gateway:
            begun = True
            started(gateway)
            await stop.wait()
            _log.info("draining")

    serving, stopped = asyncio.ensure_future(serve()), asyncio.ensure_future(stop.wait())
    await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not begun and not serving.done():
        await _cancel(serving)
        return
    await serving


async def embedded_triton(settings: Settings, stack: AsyncExitStack) -> EmbeddedTriton | None:
    """Start the embedded Triton, unless external ones are configured."""
    if settings.triton_url:
        return None
    return await stack.enter_async_context(
        EmbeddedTriton(
            EmbeddedTritonConfig(
                settings.model_repository,
                config_name=settings.model_config_name,
                cache_dir=settings.triton_cache,
                ready_timeout_s=settings.triton_ready_s,
            )
        )
    )


def free_shared_port(host: str) -> int:
    """Return a port that is free now, for processes that share it."""
    family, plain = plain_address(host)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((plain, 0))
        port: int = probe.getsockname()[1]
        return port


def _bind(server: grpc.aio.Server, settings: Settings, metrics: Metrics) -> int:
    address = f"{settings.host}:{settings.port}"
    if settings.tls_certificate is None or settings.tls_key is None:
        return server.add_insecure_port(address)
    files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    return server.add_secure_port(address, server_credentials(files, metrics=metrics))


def _admission(
    settings: Settings, metrics: Metrics, credentials: CredentialStore | None
) -> AdmissionController:
    limits = AdmissionLimits(permits=float(settings.max_concurrency), queue=settings.max_queue)
    if credentials is None:
        return AdmissionController(limits, metrics)
    return AdmissionController(limits, metrics, quota=credentials.quota)


def _sealer(settings: Settings, metrics: Metrics) -> TemplateSealer:
    if settings.template_keys is not None:
        return TemplateSealer(
            watched_keyring(settings.template_keys, metrics=metrics), metrics=metrics
        )
    ring = KeyRing.ephemeral()
    return TemplateSealer(lambda: ring, metrics=metrics)


def _describe_models(metrics: Metrics, models: ModelSet, settings: Settings) -> None:
    mode = LicenceMode.RESEARCH if settings.research_mode else LicenceMode.COMMERCIAL
    parameters = {model.name: model.parameters for model in models.all()}
    try:
        check_served(parameters, mode, load_manifest())
    except LicenceError as error:
        raise ModelContractError(str(error), reason="LICENCE_NOT_ALLOWED") from error
    metrics.mode_info(models.profile, research=settings.research_mode)
    metrics.match_threshold(models.encoder.match_threshold)
    for model in models.all():
        metrics.model_info(
            model.name,
            model.parameters.get("version", "1"),
            models.profile,
            model.parameters.get("recogniser", ""),
        )


def _methods() -> list[str]:
    service = headshot_service_pb2.DESCRIPTOR.services_by_name["HeadshotService"]
    return [f"{SERVICE}/{method.name}" for method in service.methods] + [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ]


async def _watch(gateway: Gateway, checks: HealthServicer) -> None:
    """Keep health, readiness and the endpoint gauges in step with Triton."""
    restarts = 0
    while True:
        state = gateway.readiness
        gateway.metrics.ready(state.ok)
        for endpoint in gateway.client.endpoints:
            gateway.metrics.triton_endpoint(endpoint.url, up=endpoint.healthy)
        while gateway.triton is not None and restarts < gateway.triton.restarts:
            gateway.metrics.triton_restarted()
            restarts += 1
        checks.set(serving=state.ok)
        await asyncio.sleep(_WATCH_S)


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
