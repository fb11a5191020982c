"""Metrics, tracing, structured logs, audit; imported by all, imports none of them."""
