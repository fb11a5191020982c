"""Dashboards of the gateway: objectives, requests, admission, stages."""

from __future__ import annotations

from panels import RATE, SERVICE, UP, Dashboard, Panel, Query, mean, quantiles, rate

GOOD_BELOW_ONE = ((None, "green"), (1.0, "orange"), (6.0, "red"))

OVERVIEW = Dashboard(
    "headshot-overview",
    "Headshot / Overview",
    (
        (
            "Objectives",
            (
                Panel(
                    "Availability, 3 days",
                    (Query("1 - headshot:rpc_error_ratio:rate3d", instant=True),),
                    "Share of requests (RPCs, and items of team calls) that did not fail by the"
                    " service's own fault or for lack of room. Objective 99.5 %.",
                    kind="stat",
                    unit="percentunit",
                    width=4,
                    height=6,
                    thresholds=((None, "red"), (0.995, "green")),
                ),
                Panel(
                    "Fast headshots, 3 days",
                    (Query("1 - headshot:rpc_slow_ratio:rate3d", instant=True),),
                    "Share of headshots within the latency objective. Objective 95 %.",
                    kind="stat",
                    unit="percentunit",
                    width=4,
                    height=6,
                    thresholds=((None, "red"), (0.95, "green")),
                ),
                Panel(
                    "Error budget burn rate",
                    tuple(
                        Query(f"headshot:rpc_error_ratio:rate{window} / 0.005", window)
                        for window in ("5m", "1h", "6h", "3d")
                    ),
                    "1 uses up exactly the budget; 14.4 over an hour pages.",
                    width=8,
                    height=6,
                    thresholds=GOOD_BELOW_ONE,
                ),
                Panel(
                    "Latency budget burn rate",
                    tuple(
                        Query(f"headshot:rpc_slow_ratio:rate{window} / 0.05", window)
                        for window in ("5m", "1h", "6h", "3d")
                    ),
                    "1 uses up exactly the budget.",
                    width=8,
                    height=6,
                    thresholds=GOOD_BELOW_ONE,
                ),
            ),
        ),
        (
            "Rate, errors, duration",
            (
                Panel(
                    "Requests by method",
                    (rate("headshot_rpc_started_total", "method"),),
                    "RPCs that arrived, each second.",
                    unit="reqps",
                ),
                Panel(
                    "Outcomes by code",
                    (
                        rate("headshot_rpc_finished_total", "code", SERVICE),
                        Query(
                            f"sum by (code) (rate(headshot_team_items_total[{RATE}]))",
                            "team items: {{code}}",
                        ),
                    ),
                    "Finished RPCs and ended items of team calls by gRPC code, each second.",
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "CreateHeadshot duration",
                    quantiles(
                        "headshot_rpc_duration_seconds",
                        match='method="headshot.v1.HeadshotService/CreateHeadshot",code="OK"',
                    ),
                    "Successful calls, from arrival to the last byte. Exemplars hold request ids.",
                    unit="s",
                ),
                Panel(
                    "p95 by method",
                    (
                        Query(
                            "histogram_quantile(0.95, sum by (le, method)"
                            f" (rate(headshot_rpc_duration_seconds_bucket{{{SERVICE}}}[{RATE}])))",
                            "{{method}}",
                        ),
                    ),
                    "95th percentile of each method, all codes.",
                    unit="s",
                    width=12,
                ),
                Panel(
                    "In flight",
                    (Query("sum by (method) (headshot_rpc_in_flight)", "{{method}}"),),
                    "RPCs being served now.",
                    width=12,
                ),
            ),
        ),
        (
            "Admission",
            (
                Panel(
                    "Permits and queue",
                    (
                        Query(
                            "sum by (priority) (headshot_admission_in_flight)", "out {{priority}}"
                        ),
                        Query(
                            "sum by (priority) (headshot_admission_queued)", "queued {{priority}}"
                        ),
                        Query("sum(headshot_admission_limit)", "permit limit"),
                        Query("sum(headshot_admission_queue_limit)", "queue limit"),
                    ),
                    "The gateway's own queue, where it really is.",
                ),
                Panel(
                    "Admitted by tenant",
                    (rate("headshot_admission_admitted_total", "tenant"),),
                    "Permits given, each second.",
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Shed by reason and tenant",
                    (
                        Query(
                            "sum by (reason, tenant)"
                            f" (rate(headshot_admission_shed_total[{RATE}]))",
                            "{{reason}} {{tenant}}",
                        ),
                    ),
                    "Requests refused for load or quota, each second.",
                    unit="reqps",
                ),
                Panel(
                    "Wait for a permit",
                    quantiles("headshot_admission_wait_seconds"),
                    "Of the requests that got one.",
                    unit="s",
                ),
                Panel(
                    "Deadlines",
                    (
                        Query(
                            f"sum by (reason) (rate(headshot_admission_expired_total[{RATE}]))",
                            "refused early: {{reason}}",
                        ),
                        Query(
                            f"sum by (stage) (rate(headshot_deadline_missed_total[{RATE}]))",
                            "missed in {{stage}}",
                        ),
                    ),
                    "Requests whose deadline could not be met.",
                    unit="reqps",
                ),
                Panel(
                    "Degraded by policy",
                    (rate("headshot_degraded_total", "action"),),
                    "What was given up because the deadline was near; one request may show thrice.",
                    unit="reqps",
                ),
            ),
        ),
        (
            "Processes",
            (
                Panel(
                    "Ready",
                    (Query("min by (instance) (headshot_ready)", "{{instance}}"),),
                    "1 when the gateway serves.",
                    kind="stat",
                    width=4,
                    height=5,
                    thresholds=UP,
                ),
                Panel(
                    "Event loop lag",
                    quantiles("headshot_event_loop_lag_seconds"),
                    "How late timers run; high when something blocks the loop.",
                    unit="s",
                    width=10,
                    height=5,
                ),
                Panel(
                    "Builds and models",
                    (
                        Query("headshot_build_info", "{{version}}", instant=True),
                        Query("headshot_model_info", "{{model}} {{version}}", instant=True),
                        Query("headshot_mode_info", "{{profile}}", instant=True),
                    ),
                    "What runs.",
                    kind="table",
                    width=10,
                    height=5,
                ),
            ),
        ),
    ),
)

STAGES = Dashboard(
    "headshot-stages",
    "Headshot / Stages",
    (
        (
            "Where the time goes",
            (
                Panel(
                    "Seconds a second, by stage",
                    (
                        Query(
                            f"sum by (stage) (rate(headshot_stage_duration_seconds_sum[{RATE}]))",
                            "{{stage}}",
                        ),
                    ),
                    "Busy seconds of each stage: the stage that takes the most is the one to tune.",
                    unit="s",
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Mean by stage and part",
                    (Query("headshot:stage_seconds:mean5m", "{{stage}} {{part}}"),),
                    "Queue, wire and compute of one stage call.",
                    unit="s",
                    width=12,
                ),
                *(
                    Panel(
                        f"{part.capitalize()}, p95 by stage",
                        (
                            Query(
                                "histogram_quantile(0.95, sum by (le, stage)"
                                f' (rate(headshot_stage_duration_seconds_bucket{{part="{part}"}}'
                                f"[{RATE}])))",
                                "{{stage}}",
                            ),
                        ),
                        text,
                        unit="s",
                    )
                    for part, text in (
                        ("queue", "Waiting, in the gateway and in Triton."),
                        ("wire", "Moving and (de)serialising tensors."),
                        ("compute", "Models and image work."),
                    )
                ),
            ),
        ),
        (
            "Denoise",
            (
                Panel(
                    "Mean batch",
                    (mean("headshot_denoise_batch_size"),),
                    "Rows of the Triton execution that served a step; above 1, steps of different"
                    " callers were merged.",
                ),
                Panel(
                    "Batch sizes",
                    (
                        Query(
                            f"sum by (le) (increase(headshot_denoise_batch_size_bucket[{RATE}]))",
                            "{{le}}",
                            heatmap=True,
                        ),
                    ),
                    "Distribution over time.",
                    kind="heatmap",
                ),
                Panel(
                    "Steps of a candidate",
                    (mean("headshot_denoise_steps"),),
                    "Fewer than configured when the deadline was near.",
                ),
            ),
        ),
    ),
)
