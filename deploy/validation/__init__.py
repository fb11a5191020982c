"""Checks of the deployment files that need no cluster, no Docker and no network."""
