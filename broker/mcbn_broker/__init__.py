"""One participant's broker: holds its share, and releases it only to attested workloads of the agreed manifest."""

from mcbn_protocol import __version__

__all__ = ["__version__"]
