"""Dashboards of what the models do: Triton and the GPU, identity and quality."""

from __future__ import annotations

from panels import RATE, UP, Dashboard, Panel, Query, mean, quantiles, rate

TRITON = Dashboard(
    "headshot-triton",
    "Headshot / Triton and GPU",
    (
        (
            "Servers",
            (
                Panel(
                    "Endpoints up",
                    (Query("min by (endpoint) (headshot_triton_endpoint_up)", "{{endpoint}}"),),
                    "As the gateways see them.",
                    kind="stat",
                    width=6,
                    height=6,
                    thresholds=UP,
                ),
                Panel(
                    "Restarts of the embedded server, 1 h",
                    (Query("sum(increase(headshot_triton_restarts_total[1h]))", instant=True),),
                    "It is restarted when it dies.",
                    kind="stat",
                    width=6,
                    height=6,
                    thresholds=((None, "green"), (1.0, "orange"), (3.0, "red")),
                ),
                Panel(
                    "Failed calls from the gateway",
                    (
                        Query(
                            "sum by (model, reason)"
                            f" (rate(headshot_triton_failures_total[{RATE}]))",
                            "{{model}} {{reason}}",
                        ),
                    ),
                    "After retries on other endpoints.",
                    unit="reqps",
                    width=12,
                    height=6,
                ),
            ),
        ),
        (
            "Models",
            (
                Panel(
                    "Requests by model",
                    (rate("nv_inference_request_success", "model"),),
                    "Successful inferences.",
                    unit="reqps",
                ),
                Panel(
                    "Failures by model and reason",
                    (
                        Query(
                            f"sum by (model, reason) (rate(nv_inference_request_failure[{RATE}]))",
                            "{{model}} {{reason}}",
                        ),
                    ),
                    "REJECTED is a full queue, CANCELED a caller that went away.",
                    unit="reqps",
                ),
                Panel(
                    "Mean batch by model",
                    (
                        Query(
                            f"sum by (model) (rate(nv_inference_count[{RATE}]))"
                            f" / (sum by (model) (rate(nv_inference_exec_count[{RATE}])) > 0)",
                            "{{model}}",
                        ),
                    ),
                    "Rows per execution; what dynamic batching gains.",
                ),
                Panel(
                    "Waiting requests by model",
                    (Query("sum by (model) (nv_inference_pending_request_count)", "{{model}}"),),
                    "Scale out when this stays above the batch size.",
                ),
                Panel(
                    "Queue time by model",
                    (
                        Query(
                            f"sum by (model) (rate(nv_inference_queue_duration_us[{RATE}]))"
                            f" / (sum by (model) (rate(nv_inference_request_success[{RATE}])) > 0)"
                            " / 1e6",
                            "{{model}}",
                        ),
                    ),
                    "Mean wait in Triton's queue.",
                    unit="s",
                ),
                Panel(
                    "Compute time by model",
                    (
                        Query(
                            f"sum by (model) (rate(nv_inference_compute_infer_duration_us[{RATE}]))"
                            # Triton adds an execution's time once for each request in it.
                            f" / (sum by (model) (rate(nv_inference_request_success[{RATE}])) > 0)"
                            " / 1e6",
                            "{{model}}",
                        ),
                    ),
                    "Mean time of the execution (a whole batch) that a request was part of.",
                    unit="s",
                ),
            ),
        ),
        (
            "Hardware",
            (
                Panel(
                    "GPU utilisation",
                    (Query("max by (gpu_uuid) (nv_gpu_utilization)", "{{gpu_uuid}}"),),
                    "No data on a machine without a GPU.",
                    unit="percentunit",
                    maximum=1.0,
                ),
                Panel(
                    "GPU memory",
                    (
                        Query(
                            "max by (gpu_uuid)"
                            " (nv_gpu_memory_used_bytes / nv_gpu_memory_total_bytes)",
                            "{{gpu_uuid}}",
                        ),
                    ),
                    "Share in use. No data on a machine without a GPU.",
                    unit="percentunit",
                    maximum=1.0,
                ),
                Panel(
                    "GPU power",
                    (Query("max by (gpu_uuid) (nv_gpu_power_usage)", "{{gpu_uuid}}"),),
                    "No data on a machine without a GPU.",
                    unit="watt",
                ),
                Panel(
                    "Gateway CPU",
                    (
                        Query(
                            "sum by (instance)"
                            f' (rate(process_cpu_seconds_total{{job="headshot"}}[{RATE}]))',
                            "{{instance}}",
                        ),
                    ),
                    "Cores in use. No data with several workers.",
                    width=12,
                ),
                Panel(
                    "Gateway memory",
                    (
                        Query(
                            'max by (instance) (process_resident_memory_bytes{job="headshot"})',
                            "{{instance}}",
                        ),
                    ),
                    "Resident set. No data with several workers.",
                    unit="bytes",
                    width=12,
                ),
            ),
        ),
    ),
)

QUALITY = Dashboard(
    "headshot-quality",
    "Headshot / Quality and identity",
    (
        (
            "Identity",
            (
                Panel(
                    "Similarity to the person",
                    (
                        *quantiles("headshot_identity_similarity", window="5m"),
                        Query("max(headshot_identity_match_threshold)", "threshold"),
                    ),
                    "Cosine similarity of headshots to the template. A falling median is drift.",
                ),
                Panel(
                    "Similarity, distribution",
                    (
                        Query(
                            f"sum by (le) (increase(headshot_identity_similarity_bucket[{RATE}]))",
                            "{{le}}",
                            heatmap=True,
                        ),
                    ),
                    "Two clouds would mean two populations.",
                    kind="heatmap",
                ),
                Panel(
                    "Mean similarity, now and a day ago",
                    (
                        Query("headshot:identity_similarity:mean1h", "now"),
                        Query("headshot:identity_similarity:mean1h offset 1d", "a day ago"),
                    ),
                    "The drift alert compares these two.",
                ),
                Panel(
                    "Verification outcomes",
                    (rate("headshot_verifications_total", "outcome"),),
                    "Of all finished headshots, also those refused as another person.",
                    stacked=True,
                    unit="reqps",
                ),
                Panel(
                    "Other person, 1 h",
                    (Query("headshot:other_person_ratio:rate1h", "share"),),
                    "Share of headshots that are not the person.",
                    unit="percentunit",
                ),
                Panel(
                    "Made again",
                    (Query(f"sum(rate(headshot_regenerations_total[{RATE}]))", "candidates"),),
                    "Candidates made again at another strength.",
                    unit="reqps",
                ),
            ),
        ),
        (
            "Pictures",
            (
                Panel(
                    "Headshots by outcome",
                    (rate("headshot_headshots_total", "outcome"),),
                    "Verified, unverified, or the reason there is none.",
                    stacked=True,
                    unit="reqps",
                ),
                Panel(
                    "Quality by aspect",
                    (mean("headshot_quality_score", "aspect"),),
                    "Mean scores of returned headshots, 0 to 1.",
                    maximum=1.0,
                ),
                Panel(
                    "Rejected by quality",
                    (rate("headshot_quality_rejections_total", "reason"),),
                    "Candidates made again because they failed this measure.",
                    unit="reqps",
                ),
                Panel(
                    "Failed measures of headshots",
                    (rate("headshot_quality_failed_measures_total", "measure"),),
                    "Measures that returned headshots failed; callers see them as warnings.",
                    unit="reqps",
                ),
                Panel(
                    "Photos",
                    (
                        Query(f"sum(rate(headshot_photos_total[{RATE}]))", "received"),
                        Query(
                            f"sum by (reason) (rate(headshot_photo_refusals_total[{RATE}]))",
                            "refused: {{reason}}",
                        ),
                    ),
                    "A new reason that dominates points at a caller's change.",
                    unit="reqps",
                    width=12,
                ),
                Panel(
                    "Refused photos, 1 h",
                    (Query("headshot:photo_refusal_ratio:rate1h", "share"),),
                    "Share of all photos.",
                    unit="percentunit",
                    width=12,
                ),
            ),
        ),
        (
            "Security and privacy",
            (
                Panel(
                    "Refused callers",
                    (rate("headshot_auth_failures_total", "reason"),),
                    "Calls without valid credentials.",
                    unit="reqps",
                ),
                Panel(
                    "Sealed templates",
                    (rate("headshot_templates_total", "event"),),
                    "Sealed, opened, or the reason of the refusal.",
                    unit="reqps",
                ),
                Panel(
                    "Audit records and reloads",
                    (
                        rate("headshot_audit_records_total", "outcome"),
                        Query(
                            f"sum by (file, outcome) (rate(headshot_config_reloads_total[{RATE}]))",
                            "{{file}} {{outcome}}",
                        ),
                    ),
                    "Any failed record pages.",
                    unit="reqps",
                ),
            ),
        ),
    ),
)
