"""What the channels of an epoch are opened with: the part of an epoch's keys that depends on the kind of channel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mcbn_protocol.key_schedule import CombinedKey, EpochSecret, Psk, derive, psk_identity
from mcbn_protocol.manifest import AgreedManifest, ChannelKind
from mcbn_protocol.psk_terms import PROFILE_IDENTITY
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.engine import Acceptor, Engine, EngineFactory
from mcbn_workload.channels.psk import NO_TERMS, Terms, Watch
from mcbn_workload.epoch_keys.engines import PURPOSES, PskEngines, psk_engines
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.kinds import EngineName


@dataclass(frozen=True)
class Material:
    """What an epoch's keys are derived from.

    Attributes:
        agreed: The manifest.
        secret: The epoch secret.
        combined: A legacy combination's raw output, where the manifest makes it the PSK; else None.
    """

    agreed: AgreedManifest
    secret: EpochSecret
    combined: CombinedKey | None = None


class EpochChannel(Protocol):
    """The keys of one kind of channel in one epoch."""

    @property
    def identity(self) -> str:
        """What names the peer's key in `Negotiated.identity`."""

    @property
    def names(self) -> Mapping[str, str]:
        """What two ends may compare in their logs, by the name of the field. Nothing of it is secret."""

    @property
    def psk(self) -> Psk | CombinedKey | None:
        """The PSK, if that is what the channels are keyed by."""

    @property
    def terms(self) -> Terms:
        """What the manifest adds to the channels' own defaults."""

    def client_engine(self) -> Engine:
        """Return the engine of a new channel, for the client's end."""


LiveChannels = Callable[[], Sequence[EpochChannel]]
"""Gives the channels of the live epochs, the newest first."""

WatchMaker = Callable[[AgreedManifest], Watch | None]
"""Says whether a manifest's channels may be read along, and how; see `key_log`."""


class Opener(Protocol):
    """Derives the channels' keys of each epoch, for one kind of channel."""

    @property
    def slow(self) -> bool:
        """Whether deriving takes so long that it must not hold up the event loop."""

    def derive(self, material: Material) -> EpochChannel:
        """Derive one epoch's keys.

        Raises:
            NoKeysError: No key follows from this secret.
            ConfigurationError: The manifest's terms do not fit this image.
        """

    def server(self, live: LiveChannels) -> EngineFactory | Acceptor:
        """Return what makes the server's engines, for all epochs that are live at a handshake."""


class PskChannel:
    """One epoch's PSK."""

    def __init__(self, identity: str, psk: Psk | CombinedKey, engines: PskEngines, terms: Terms) -> None:
        self.identity = identity
        self.names = {"psk_identity": identity}
        self.psk: Psk | CombinedKey | None = psk
        self.terms = terms
        self._key = psk
        self._engines = engines
        self._client: Callable[[], Engine] | None = None

    def client_engine(self) -> Engine:
        """Return the engine of a new channel."""
        if self._client is None:
            self._client = self._engines.client(self.identity, self._key, self.terms)
        return self._client()


def no_watch(_agreed: AgreedManifest) -> None:
    """Let nobody read along."""


class PskOpener:
    """The channels that are keyed by a PSK."""

    slow = False

    def __init__(
        self,
        channel: ChannelKind = ChannelKind.TLS13_PSK,
        engines: PskEngines | None = None,
        watch: WatchMaker = no_watch,
    ) -> None:
        """Make ready.

        Args:
            channel: The kind of channel.
            engines: What makes its engines; by default OpenSSL's.
            watch: Says whether its channels may be read along.
        """
        self._channel = channel
        self._engines = engines or psk_engines(channel, EngineName.PYOPENSSL)
        self._watch = watch

    def derive(self, material: Material) -> PskChannel:
        """Derive the PSK, or take an old system's."""
        agreed = material.agreed
        manifest = agreed.manifest
        terms = Terms(tuple(one.value for one in manifest.insecure_psk_suites), self._watch(agreed))
        if manifest.insecure_psk_profile is not None:
            if material.combined is None:
                raise ConfigurationError("insecure_psk_profile needs the raw output of a legacy combination")
            return PskChannel(PROFILE_IDENTITY[manifest.insecure_psk_profile], material.combined, self._engines, terms)
        purpose = PURPOSES[self._channel]
        psk = derive(material.secret, purpose, agreed.hash, manifest.epoch)
        return PskChannel(psk_identity(agreed.hash, manifest.epoch, purpose), psk, self._engines, terms)

    def server(self, live: LiveChannels) -> EngineFactory | Acceptor:
        """Return what makes the server's engines. The newest manifest's terms hold for all new channels."""
        return self._engines.server(
            lambda unverified_identity: find_psk(live(), unverified_identity), lambda: newest_terms(live())
        )


def find_psk(channels: Sequence[EpochChannel], unverified_identity: bytes) -> Secret | None:
    """Return the PSK of this name; None if there is none."""
    found = [one.psk for one in channels if one.identity.encode("ascii") == unverified_identity]
    return found[0] if found else None


def newest_terms(channels: Sequence[EpochChannel]) -> Terms:
    """Return the terms of the newest live epoch."""
    return channels[0].terms if channels else NO_TERMS
