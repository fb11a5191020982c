"""Every Prometheus series of the gateway: name, help, labels and buckets, in one place.

Seconds and bytes are base units. Buckets are chosen for a CPU laptop (tens of seconds for a whole
headshot) and for a GPU (hundreds of milliseconds) alike. Multiprocess modes say how the values of
several gateway workers become one.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

RPC_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 60.0,
    120.0,
)  # fmt: skip
STAGE_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
# Starts at 0: OpenMetrics leaves out the sum of a histogram with negative buckets.
SIMILARITY_BUCKETS = (
    0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0,
)  # fmt: skip
SCORE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
STEP_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 30, 50)


class Families:
    """The metric families, registered once on `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"headshot_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, mode: str = "livesum") -> Gauge:
            return Gauge(
                f"headshot_{name}",
                text,
                labels,
                registry=registry,
                multiprocess_mode=mode,  # type: ignore[arg-type]
            )

        def histogram(
            name: str, text: str, *labels: str, buckets: tuple[float, ...] = STAGE_BUCKETS
        ) -> Histogram:
            return Histogram(f"headshot_{name}", text, labels, registry=registry, buckets=buckets)

        # RPC: rate, errors, duration.
        self.rpc_started = counter("rpc_started", "RPCs that arrived.", "method")
        self.rpc_finished = counter("rpc_finished", "RPCs that ended.", "method", "code")
        self.rpc_in_flight = gauge("rpc_in_flight", "RPCs being served now.", "method")
        self.rpc_duration = histogram(
            "rpc_duration_seconds",
            "Whole RPC, from its arrival to its last byte.",
            "method",
            "code",
            buckets=RPC_BUCKETS,
        )
        self.tenant_rpcs = counter("tenant_rpcs", "Finished RPCs by tenant.", "tenant", "code")
        self.team_items = counter(
            "team_items", "Items of team calls that ended, each a request of its own.", "code"
        )

        # Stages.
        self.stage_duration = histogram(
            "stage_duration_seconds",
            "One stage call, split into queue, wire and compute.",
            "stage",
            "part",
        )

        # Admission.
        self.admission_limit = gauge("admission_limit", "Permits that can be out at once.")
        self.admission_in_flight = gauge("admission_in_flight", "Permits that are out.", "priority")
        self.admission_queued = gauge(
            "admission_queued", "Requests waiting for a permit.", "priority"
        )
        self.admission_queue_limit = gauge(
            "admission_queue_limit", "Requests that may wait for a permit."
        )
        self.admission_admitted = counter("admission_admitted", "Permits given.", "tenant")
        self.admission_shed = counter(
            "admission_shed", "Requests refused for load or quota.", "tenant", "reason"
        )
        self.admission_expired = counter(
            "admission_expired",
            "Requests refused or dropped because their deadline cannot be met.",
            "tenant",
            "reason",
        )
        self.admission_wait = histogram(
            "admission_wait_seconds", "Wait for a permit.", "priority", buckets=RPC_BUCKETS
        )
        self.admission_service = gauge(
            "admission_service_seconds",
            "Moving average of the time that one request's permits are held.",
            "kind",
            "size",
            mode="livemostrecent",
        )

        # Denoise.
        self.denoise_batch = histogram(
            "denoise_batch_size",
            "Rows of the Triton execution that served a denoise step.",
            buckets=BATCH_BUCKETS,
        )
        self.denoise_steps = histogram(
            "denoise_steps", "Denoise steps of one candidate.", buckets=STEP_BUCKETS
        )

        # Identity and quality.
        self.similarity = histogram(
            "identity_similarity",
            "Cosine similarity of a finished headshot to the template, negative ones as 0.",
            buckets=SIMILARITY_BUCKETS,
        )
        self.verifications = counter(
            "verifications", "Verifications of finished headshots by outcome.", "outcome"
        )
        self.match_threshold = gauge(
            "identity_match_threshold", "Similarity at and above which it is the same person.",
            mode="livemostrecent",
        )  # fmt: skip
        self.regenerations = counter("regenerations", "Candidates made again at another strength.")
        self.quality_rejections = counter(
            "quality_rejections",
            "Candidates made again because they failed a quality measure.",
            "reason",
        )
        self.quality_failed_measures = counter(
            "quality_failed_measures",
            "Quality measures that returned headshots failed.",
            "measure",
        )
        self.quality_score = histogram(
            "quality_score", "Quality of returned headshots, 0 to 1.", "aspect",
            buckets=SCORE_BUCKETS,
        )  # fmt: skip
        self.photo_refusals = counter("photo_refusals", "Photos refused.", "reason")
        self.photos = counter("photos", "Photos received.")
        self.headshots = counter("headshots", "Headshot requests by outcome.", "outcome")

        # Triton.
        self.triton_up = gauge(
            "triton_endpoint_up", "1 when the endpoint is ready.", "endpoint", mode="livemin"
        )
        self.triton_restarts = counter("triton_restarts", "Restarts of the embedded server.")
        self.triton_failures = counter(
            "triton_failures", "Failed calls to Triton.", "model", "reason"
        )

        # Deadlines and policy.
        self.deadline_missed = counter(
            "deadline_missed", "Deadlines that passed, by the stage that noticed.", "stage"
        )
        self.deadline_hopeless = counter(
            "deadline_hopeless",
            "Requests that missed a deadline shorter than the fastest such work ever took.",
        )
        self.degraded = counter(
            "degraded", "Requests done with less, by what was given up.", "action"
        )
        self.degraded_requests = counter(
            "degraded_requests", "Requests done with less, each once however much was given up."
        )

        # Security and privacy.
        self.auth_failures = counter("auth_failures", "Calls refused by authentication.", "reason")
        self.reloads = counter("config_reloads", "Reloads of watched files.", "file", "outcome")
        self.stale = gauge(
            "config_stale",
            "1 while the newest version of a watched file does not load.",
            "file",
            mode="livemax",
        )
        self.certificate_expiry = gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "End of the server certificate's validity, Unix seconds.",
            mode="livemin",
        )
        self.templates = counter("templates", "Sealed templates by event.", "event")
        self.audit_records = counter("audit_records", "Audit records by outcome.", "outcome")

        # The process.
        self.ready = gauge("ready", "1 when the gateway is ready to serve.", mode="livemin")
        self.loop_lag = histogram(
            "event_loop_lag_seconds", "How late the event loop runs its timers."
        )
        self.build = gauge("build_info", "Always 1.", "version", "python", "grpc", mode="livemax")
        self.model = gauge(
            "model_info",
            "Always 1: what each model serves.",
            "model",
            "version",
            "profile",
            "recogniser",
            mode="livemax",
        )
        self.mode = gauge(
            "mode_info",
            "Always 1: the profile, and whether research-only licences are in use.",
            "profile",
            "research",
            mode="livemax",
        )
