"""What Triton's Python backend loads: copied into a model repository, not imported."""
