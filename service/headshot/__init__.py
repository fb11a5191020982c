"""Verified professional headshots from selfies, served over gRPC with NVIDIA Triton."""

__version__ = "0.1.0"
