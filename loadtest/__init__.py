"""Open-loop load generation for headshot.v1, reports, and comparisons with other ways to serve."""
