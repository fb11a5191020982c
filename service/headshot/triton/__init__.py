"""Triton: client, model contracts, embedded server, Python-based backends."""
