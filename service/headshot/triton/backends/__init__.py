"""Python-based Triton backends, named as NVIDIA's native backends so that configs fit both."""
