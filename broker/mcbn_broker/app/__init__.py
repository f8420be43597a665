"""Puts one broker together and runs it: store, verifier, release service, two listeners, signals."""

from mcbn_broker.app.serve import serve

__all__ = ["serve"]
