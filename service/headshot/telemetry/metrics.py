"""The gateway's Prometheus metrics: what the code calls, with bounded labels and exemplars."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import grpc
import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

import headshot
from headshot.telemetry import context as request_context
from headshot.telemetry import multiprocess
from headshot.telemetry.families import Families
from headshot.telemetry.labels import BoundedLabel

DEFAULT_MAX_TENANTS: Final = 50
# A `_created` series beside every counter and histogram would double the series for nothing.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

# gRPC codes whose first occurrence on a process must already show as an increase.
_OWN_FAULT: Final = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED")
_CODE_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_EXEMPLAR_LIMIT: Final = 128  # OpenMetrics: UTF-8 characters of all names and values together.


class Metrics:
    """All series of one gateway process.

    Args:
        registry: where to register; None makes one with process and platform collectors.
        max_tenants: how many tenants get a label of their own; the rest share "other".
        runs_workers: this process runs workers that share their values: it shows theirs, and with
            them its own count of Triton's restarts and its own readiness.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        max_tenants: int = DEFAULT_MAX_TENANTS,
        runs_workers: bool = False,
    ) -> None:
        if registry is None:
            registry = CollectorRegistry(auto_describe=True)
            prometheus_client.ProcessCollector(registry=registry)
            prometheus_client.PlatformCollector(registry=registry)
            prometheus_client.GCCollector(registry=registry)
        self.registry = registry
        self.families = Families(registry)
        self._own = (self.families.triton_restarts, self.families.ready) if runs_workers else ()
        self._tenant = BoundedLabel(max_tenants, closed=True)
        self._tenant.allow([request_context.ANONYMOUS])
        self._method = BoundedLabel(64, closed=True)
        self._method.allow(["unknown"])
        self._stage = BoundedLabel(48)
        self._reason = BoundedLabel(160)
        self._endpoint = BoundedLabel(64)
        self._model = BoundedLabel(48)
        self._start_at_zero()
        self.families.build.labels(
            headshot.__version__, platform.python_version(), grpc.__version__
        ).set(1)

    def _start_at_zero(self) -> None:
        """Make the series that alerts watch: a counter that appears with 1 shows no increase."""
        for outcome in ("written", "failed"):
            self.families.audit_records.labels(outcome)
        for file in ("credentials", "tls", "template_keys"):
            for outcome in ("ok", "failed"):
                self.families.reloads.labels(self._reason(file), outcome)
            self.families.stale.labels(self._reason(file)).set(0)
        for event in ("sealed", "opened", "TEMPLATE_FORGED", "TEMPLATE_EXPIRED"):
            self.families.templates.labels(self._reason(event))
        for outcome in ("same_person", "other_person"):
            self.families.verifications.labels(self._reason(outcome))
        for code in ("OK", "RESOURCE_EXHAUSTED", *_OWN_FAULT):
            self.families.team_items.labels(code)
        for action in ("fewer_candidates", "fewer_steps", "smaller_renditions"):
            self.families.degraded.labels(self._reason(action))
        for reason in ("CREDENTIALS_MISSING", "CREDENTIALS_UNKNOWN", "CREDENTIALS_EXPIRED"):
            self.families.auth_failures.labels(self._reason(reason))
        for reason in (
            "QUEUE_FULL",
            "QUEUE_WAIT_TOO_LONG",
            "DISPLACED",
            "MODEL_QUEUE_FULL",
            "MODEL_QUEUE_TIMEOUT",
        ):
            self.families.admission_shed.labels(request_context.ANONYMOUS, self._reason(reason))
        for reason in ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT"):
            self.families.admission_expired.labels(request_context.ANONYMOUS, self._reason(reason))

    # -- labels ----------------------------------------------------------------------------------
    def known_tenants(self, tenants: Iterable[str]) -> None:
        """Give these tenants labels of their own, up to the limit."""
        self._tenant.allow(tenants)

    def known_methods(self, methods: Iterable[str]) -> None:
        """Give these methods ("package.Service/Method") labels of their own."""
        names = list(methods)
        self._method.allow(names)
        for name in names:
            self.families.rpc_started.labels(self._method(name))
            self.families.rpc_in_flight.labels(self._method(name))
            for code in ("OK", *_OWN_FAULT):
                self.families.rpc_finished.labels(self._method(name), code)

    def tenant_label(self, tenant: str) -> str:
        """Return the tenant's label: its name, or "other"."""
        return self._tenant(tenant)

    # -- RPCs ------------------------------------------------------------------------------------
    def rpc_started(self, method: str) -> None:
        """Count an RPC that arrived."""
        label = self._method(method)
        self.families.rpc_started.labels(label).inc()
        self.families.rpc_in_flight.labels(label).inc()

    def rpc_finished(self, method: str, code: str, tenant: str, duration_s: float) -> None:
        """Count an RPC that ended with `code` ("OK", "UNAVAILABLE", ...) after `duration_s`."""
        label = self._method(method)
        self.families.rpc_in_flight.labels(label).dec()
        self.families.rpc_finished.labels(label, code).inc()
        self.families.rpc_duration.labels(label, code).observe(duration_s, exemplar())
        self.families.tenant_rpcs.labels(self._tenant(tenant), code).inc()

    def team_item(self, code: int) -> None:
        """Count an item of a team call that ended with `code`, a number of google.rpc.Code."""
        self.families.team_items.labels(_CODE_NAMES.get(code, "UNKNOWN")).inc()

    # -- stages ----------------------------------------------------------------------------------
    def observe_stage(
        self, stage: str, queue_s: float = 0.0, wire_s: float = 0.0, compute_s: float = 0.0
    ) -> None:
        """Record one stage call's seconds, also on the access line of the current RPC."""
        label = self._stage(stage)
        found = exemplar()
        for part, seconds in (("queue", queue_s), ("wire", wire_s), ("compute", compute_s)):
            self.families.stage_duration.labels(label, part).observe(max(0.0, seconds), found)
        current = request_context.current()
        if current is not None:
            current.add_stage(label, queue_s, wire_s, compute_s)

    def observe_denoise_batch(self, rows: int) -> None:
        """Record how many rows shared the execution of one denoise step."""
        self.families.denoise_batch.observe(rows)

    def observe_denoise_steps(self, steps: int) -> None:
        """Record how many steps one candidate took."""
        self.families.denoise_steps.observe(steps)

    # -- admission -------------------------------------------------------------------------------
    def admission_limits(self, permits: float, queue: int) -> None:
        """Publish the limits that the queue gauges are read against."""
        self.families.admission_limit.set(permits)
        self.families.admission_queue_limit.set(queue)

    def admitted(self, tenant: str, priority: str, waited_s: float) -> None:
        """Count a permit given after `waited_s` in the queue."""
        self.families.admission_admitted.labels(self._tenant(tenant)).inc()
        self.families.admission_wait.labels(priority).observe(waited_s, exemplar())

    def admission_state(self, priority: str, in_flight: float, queued: int) -> None:
        """Publish how many permits are out and how many requests wait, for one priority."""
        self.families.admission_in_flight.labels(priority).set(in_flight)
        self.families.admission_queued.labels(priority).set(queued)

    def admission_service_time(self, kind: str, size: float, seconds: float) -> None:
        """Publish the moving average of the service time of one kind and size of work."""
        self.families.admission_service.labels(self._reason(kind), f"{size:g}").set(seconds)

    def shed(self, tenant: str, reason: str) -> None:
        """Count a request refused for load or quota."""
        self.families.admission_shed.labels(self._tenant(tenant), self._reason(reason)).inc()

    def expired(self, tenant: str, reason: str) -> None:
        """Count a request whose deadline could not be met before it had a permit."""
        self.families.admission_expired.labels(self._tenant(tenant), self._reason(reason)).inc()

    # -- identity and quality --------------------------------------------------------------------
    def observe_similarity(self, similarity: float) -> None:
        """Record a candidate's cosine similarity to the template."""
        self.families.similarity.observe(max(0.0, similarity))

    def match_threshold(self, threshold: float) -> None:
        """Publish the recogniser's threshold."""
        self.families.match_threshold.set(threshold)

    def verification(self, outcome: str) -> None:
        """Count the verification of a finished headshot: same_person or other_person."""
        self.families.verifications.labels(self._reason(outcome)).inc()

    def regenerated(self) -> None:
        """Count a candidate made again at another strength."""
        self.families.regenerations.inc()

    def quality_rejected(self, reason: str) -> None:
        """Count a candidate that is made again because it failed this measure."""
        self.families.quality_rejections.labels(self._reason(reason)).inc()

    def quality_failed(self, measure: str) -> None:
        """Count a quality measure that a returned headshot failed."""
        self.families.quality_failed_measures.labels(self._reason(measure)).inc()

    def observe_quality(self, scores: Mapping[str, float]) -> None:
        """Record the quality scores (0 to 1) of a returned headshot, by aspect."""
        for aspect, score in scores.items():
            self.families.quality_score.labels(self._reason(aspect)).observe(score)

    def photo_received(self) -> None:
        """Count a photo that arrived; the base of the refusal rate."""
        self.families.photos.inc()

    def photo_refused(self, reason: str) -> None:
        """Count a photo that was refused (BLURRED, NO_FACE, TRUNCATED, ...)."""
        self.families.photo_refusals.labels(self._reason(reason)).inc()

    def headshot(self, outcome: str) -> None:
        """Count a headshot request by outcome: verified, unverified, or an error's reason."""
        self.families.headshots.labels(self._reason(outcome)).inc()

    # -- Triton ----------------------------------------------------------------------------------
    def triton_endpoint(self, endpoint: str, *, up: bool) -> None:
        """Publish whether an endpoint ("host:port") is ready."""
        self.families.triton_up.labels(self._endpoint(_endpoint_label(endpoint))).set(int(up))

    def triton_restarted(self) -> None:
        """Count a restart of the embedded server."""
        self.families.triton_restarts.inc()

    def triton_failed(self, model: str, reason: str) -> None:
        """Count a failed call to Triton."""
        self.families.triton_failures.labels(self._model(model), self._reason(reason)).inc()

    # -- deadlines and policy --------------------------------------------------------------------
    def deadline_missed(self, stage: str) -> None:
        """Count a deadline that passed in `stage`."""
        self.families.deadline_missed.labels(self._stage(stage)).inc()

    def deadline_hopeless(self) -> None:
        """Count a request that missed a deadline which nobody could have met."""
        self.families.deadline_hopeless.inc()

    def degraded(self, actions: Collection[str]) -> None:
        """Count a request done with less: fewer_candidates, fewer_steps, smaller_renditions.

        None of them is a request done in full, which is not counted.
        """
        for action in actions:
            self.families.degraded.labels(self._reason(action)).inc()
        if actions:
            self.families.degraded_requests.inc()

    # -- security and privacy --------------------------------------------------------------------
    def auth_failed(self, reason: str) -> None:
        """Count a call that authentication refused."""
        self.families.auth_failures.labels(self._reason(reason)).inc()

    def reloaded(self, file: str, *, ok: bool) -> None:
        """Count a reload of a watched file, by its role (credentials, tls, template_keys).

        A file whose last reload failed is stale until one succeeds.
        """
        self.families.reloads.labels(self._reason(file), "ok" if ok else "failed").inc()
        self.families.stale.labels(self._reason(file)).set(int(not ok))

    def certificate_expires(self, unix_s: float) -> None:
        """Publish when the server certificate ends."""
        self.families.certificate_expiry.set(unix_s)

    def template(self, event: str) -> None:
        """Count a sealed template's event: sealed, opened, or the reason it was refused."""
        self.families.templates.labels(self._reason(event)).inc()

    def audited(self, *, ok: bool) -> None:
        """Count an audit record that was or could not be written."""
        self.families.audit_records.labels("written" if ok else "failed").inc()

    # -- the process -----------------------------------------------------------------------------
    def ready(self, ready: bool) -> None:
        """Publish readiness."""
        self.families.ready.set(int(ready))

    def observe_loop_lag(self, seconds: float) -> None:
        """Record how late the event loop woke a timer."""
        self.families.loop_lag.observe(max(0.0, seconds))

    def model_info(self, model: str, version: str, profile: str, recogniser: str = "") -> None:
        """Publish what a model serves."""
        self.families.model.labels(self._model(model), version, profile, recogniser).set(1)

    def mode_info(self, profile: str, *, research: bool) -> None:
        """Publish the profile and whether research-only checkpoints are in use."""
        self.families.mode.labels(profile, str(research).lower()).set(1)

    # -- exposition ------------------------------------------------------------------------------
    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all series and their content type, in the format that `accept` asks for.

        With several workers the answer sums up all of them, whichever worker is asked; exemplars
        and the process collectors are then left out (prometheus-client cannot aggregate them).
        """
        encoder, content_type = choose_encoder(accept)
        return encoder(multiprocess.collector_for(self.registry, self._own)), content_type


def exemplar() -> dict[str, str] | None:
    """Return the exemplar of the current RPC: its trace id, when it has one, and request id."""
    current = request_context.current()
    if current is None:
        return None
    labels = {"request_id": current.request_id}
    if current.trace_id:
        labels["trace_id"] = current.trace_id
    size = sum(len(key) + len(value) for key, value in labels.items())
    if size > _EXEMPLAR_LIMIT:
        del labels["request_id"]
    return labels or None


def _endpoint_label(endpoint: str) -> str:
    """Return the endpoint in the label's alphabet; it must start with a letter."""
    return f"at:{endpoint.rsplit('/', 1)[-1].strip('[]')}".replace("]", "").replace("[", "")
