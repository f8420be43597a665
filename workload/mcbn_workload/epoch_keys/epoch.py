"""The keys of one epoch, for as long as enough participants' leases are live."""

import math
from collections.abc import Iterable
from typing import ClassVar, Final

from mcbn_protocol.errors import KeyScheduleError
from mcbn_protocol.key_schedule import CombinedKey, Psk, epoch_secret, key_check, legacy_combination
from mcbn_workload.brokers.leases import Clock, Lease
from mcbn_workload.brokers.quorum import Gathering
from mcbn_workload.channels.engine import Engine
from mcbn_workload.epoch_keys.openers import EpochChannel, Material, Opener, PskOpener
from mcbn_workload.errors import NoKeysError

DUE: Final = 0.6  # of a lease left: below half-life, and a little more, so that leases of one gathering stay together


class SharesRefusedError(NoKeysError):
    """Shares from which no key may be derived, although each matches its commitment."""

    code: ClassVar[str] = "shares_refused"


class LeaseEndedError(NoKeysError):
    """Fewer leases are live than the threshold asks for. `participants` are those whose leases have ended."""

    code: ClassVar[str] = "lease_ended"

    def __init__(self, participants: tuple[str, ...], reason: str) -> None:
        super().__init__(reason)
        self.participants = participants


class EpochKeys:
    """What one complete gathering gave. Shares and epoch secret are dropped as soon as the channels' keys are derived.

    Attributes:
        agreed: The manifest that opened the epoch.
        identity: What names the peer's key in a channel: the PSK's identity, or a digest of a public key.
        names: What two ends may compare in their logs; see `EpochChannel.names`.
        key_check: 64 hex digits by which two ends may compare their secrets.
    """

    def __init__(self, gathering: Gathering, clock: Clock, opener: Opener | None = None) -> None:
        """Derive the keys.

        Args:
            gathering: All shares.
            clock: The two clocks.
            opener: Derives the channels' keys; by default the PSK of TLS 1.3.

        Raises:
            QuorumIncompleteError: Shares are missing.
            SharesRefusedError: Two shares are equal, or no key follows from them.
        """
        gathering.require_complete()
        self.agreed: Final = gathering.agreed
        self._threshold = gathering.threshold
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._ends: list[tuple[float, float]] = []
        self._needed = 0
        self._retired_at = math.inf
        self.extend(one.lease for one in gathering.released.values())
        manifest, manifest_hash = self.agreed.manifest, self.agreed.hash
        material = _combine(gathering)
        channel = (opener or PskOpener()).derive(material)
        self._channel: EpochChannel | None = channel
        self.identity: Final = channel.identity
        self.names: Final = channel.names
        self.key_check: Final = key_check(material.secret, manifest_hash, manifest.epoch)

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.agreed.manifest.epoch

    @property
    def psk(self) -> Psk | CombinedKey | None:
        """The PSK, if that is the channels' key; None once it is forgotten."""
        return None if self._channel is None else self._channel.psk

    @property
    def channel(self) -> EpochChannel | None:
        """What channels are opened with; None once it is forgotten."""
        return self._channel

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The leases, in byte order of the participants' names."""
        return tuple(self._leases[name] for name in sorted(self._leases))

    def extend(self, leases: Iterable[Lease]) -> None:
        """Take new leases. Their shares were checked against the same commitments, so the keys stay."""
        self._leases |= {one.participant: one for one in leases}
        ends = [(one.started + one.seconds, float(one.issued_at + one.seconds)) for one in self._leases.values()]
        if self._threshold == len(ends):
            # The first to end decides, by either clock: one comparison, since this is asked for every record.
            ends = [(min(end for end, _ in ends), min(end for _, end in ends))]
        self._ends, self._needed = ends, min(self._threshold, len(ends))

    def retire(self, at: int) -> None:
        """Let the epoch end at this Unix time, if its leases or an earlier retirement do not end it before."""
        self._retired_at = min(self._retired_at, at)

    def due(self) -> tuple[str, ...]:
        """Return the participants whose leases are to be renewed: not those that the epoch does not outlive."""
        retires_in = self._retired_at - self._clock.wall()
        left = {one.participant: one.remaining(self._clock) for one in self.leases}
        return tuple(
            one.participant for one in self.leases if left[one.participant] <= min(one.seconds * DUE, retires_in)
        )

    def ended(self) -> tuple[str, ...]:
        """Return the participants whose leases have ended."""
        return tuple(one.participant for one in self.leases if not one.is_live(self._clock))

    def remaining(self) -> float:
        """Return the seconds until fewer leases are live than the threshold asks for; zero or below afterwards."""
        boottime, wall = self._clock.boottime(), self._clock.wall()
        left = sorted(min(by_boottime - boottime, by_wall - wall) for by_boottime, by_wall in self._ends)
        return min(left[-self._needed], self._retired_at - wall)

    def until_half_life(self) -> float:
        """Return the seconds until the first lease has passed half of its life."""
        return min(one.remaining(self._clock) - one.seconds / 2 for one in self.leases)

    def client_engine(self) -> Engine:
        """Return the engine of a new channel, for the client's end.

        Raises:
            LeaseEndedError: The key is forgotten.
        """
        if self._channel is None:
            raise LeaseEndedError((), f"the keys of epoch {self.epoch} are forgotten")
        return self._channel.client_engine()

    def forget(self) -> None:
        """Drop the keys and all that holds them. Python cannot wipe the memory."""
        self._channel = None


def _combine(gathering: Gathering) -> Material:
    agreed = gathering.agreed
    scheme, profile = agreed.manifest.scheme, agreed.manifest.insecure_psk_profile
    shares = {name: one.share for name, one in sorted(gathering.released.items())}
    try:
        secret = epoch_secret(scheme, shares)
        return Material(agreed, secret, None if profile is None else legacy_combination(scheme, [*shares.values()]))
    except KeyScheduleError as error:
        raise SharesRefusedError(f"{error}. The participants have to open a new epoch with fresh shares") from error
