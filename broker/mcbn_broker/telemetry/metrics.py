"""The metrics of one broker, in a registry of their own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters that the request path raises, and gauges that are read when somebody looks."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.releases = Counter("mcbn_releases", "Shares released.", ["role"], registry=self._registry)
        self.refusals = Counter("mcbn_refusals", "Requests refused, by code.", ["code"], registry=self._registry)
        self.challenges = Counter("mcbn_challenges", "Challenges issued.", registry=self._registry)
        self.unknown_claims = Counter(
            "mcbn_unknown_claims", "Claims of genuine tokens that this program does not know.", registry=self._registry
        )
        self.seconds = Histogram(
            "mcbn_request_seconds", "Wall time of a request.", ["route"], registry=self._registry, buckets=_BUCKETS
        )

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read at each scrape."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def render(self) -> bytes:
        """Return the Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)
