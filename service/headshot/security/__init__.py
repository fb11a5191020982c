"""Credentials, TLS, sealed identity templates."""
