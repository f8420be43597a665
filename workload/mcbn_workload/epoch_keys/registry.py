"""The channels under our keys: ended by epoch, and explained when a handshake shows another key at the far end."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from mcbn_workload.brokers.leases import Clock
from mcbn_workload.channels.errors import PeerKeyError, PeerRefusedError, PskIdentityError, PskMismatchError
from mcbn_workload.channels.registry import ChannelRegistry, OpenChannel
from mcbn_workload.channels.throttle import Throttle
from mcbn_workload.epoch_keys.epoch import EpochKeys
from mcbn_workload.errors import WorkloadError

_log: Final = logging.getLogger("mcbn.workload.keys")

EXPLAIN_SECONDS: Final = 10  # a flood of failing peers must not become a flood of explanations
_ANOTHER_KEY: Final = (PskMismatchError, PskIdentityError, PeerKeyError, PeerRefusedError)


class EpochRegistry(ChannelRegistry):
    """Knows every channel, handshake or not, and under which epoch's key it was opened."""

    def __init__(self, epochs: Callable[[], Sequence[EpochKeys]], clock: Clock) -> None:
        super().__init__(clock.boottime)
        self._epochs = epochs
        self._explanations = Throttle(EXPLAIN_SECONDS, clock.boottime)

    def epoch_of(self, identity: str | None) -> int | None:
        """Return the live epoch whose key this names; the newest, where several have one name."""
        return next((keys.epoch for keys in reversed(self._epochs()) if keys.identity == identity), None)

    def abort_epoch(self, identity: str, reason: WorkloadError) -> int:
        """End the channels under one key, and unfinished handshakes, whose key is not known yet.

        Returns:
            How many were ended.
        """
        ended = [channel for channel in self if channel.identity in {identity, None}]
        for channel in ended:
            channel.abort(reason)
        return len(ended)

    def discard(self, channel: OpenChannel) -> None:
        """Let a channel go, and explain what a failed handshake may mean."""
        super().discard(channel)
        if isinstance(channel.reason, _ANOTHER_KEY):
            self._explain(channel)

    def _explain(self, channel: OpenChannel) -> None:
        if self._explanations.admit() is None:
            return
        for keys in self._epochs():
            _log.warning(
                "%s does not hold the same key: it is not the agreed peer, or it follows another manifest or epoch, "
                "or its image has another roster, or its leases have ended. Compare these values with its log",
                channel.peer,
                extra={
                    "event": "psk_mismatch",
                    "peer": channel.peer,
                    **keys.names,
                    "key_check": keys.key_check,
                    "manifest_hash": keys.agreed.hash.hex(),
                    "epoch": keys.epoch,
                },
            )
