"""Publishes an image to a registry, by the OCI distribution specification 1.1."""
