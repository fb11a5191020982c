"""Metrics of each compact model on data that it never saw in training."""
