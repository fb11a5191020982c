"""Pure functions on numpy images; knows neither gRPC nor Triton."""
