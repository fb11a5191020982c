"""Generated from proto/headshot/v1."""
