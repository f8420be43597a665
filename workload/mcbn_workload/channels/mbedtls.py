"""The engines keyed by an external PSK on Mbed TLS: TLS 1.2 and DTLS 1.2, the second, independent implementation.

Its factories stand where `TlsPskClient` and `TlsPskServer` for TLS 1.2, and those of `dtls_psk`, stand. The states of a
channel and what is checked after a handshake are the same classes; the protocol underneath is another library's.

No certificate, ever: the cipher suites are PSK ones only, on both ends. Mbed TLS's own defaults would accept a rogue
server that shows a certificate, and TLS 1.0.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, cast

from mcbn_protocol.secret import Secret
from mcbn_workload.channels.dtls_psk import DTLS12_PSK, DtlsPskEngine, _may_be_client_hello
from mcbn_workload.channels.engine import DatagramEngine, Engine
from mcbn_workload.channels.mbedtls_datagrams import DatagramSession
from mcbn_workload.channels.mbedtls_session import (
    SUITES,
    Context,
    StreamSession,
    client_context,
    server_context,
)
from mcbn_workload.channels.psk import NO_TERMS, PskEngine, PskLookup, Terms, Version, _checked_identity, checked_psk
from mcbn_workload.channels.tls_psk import TLS12_PSK
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.kinds import MTU

if TYPE_CHECKING:
    from mcbn_workload.channels.openssl import DatagramConnection, MemoryConnection
    from mcbn_workload.channels.psk import PskClient


class _Keys(Mapping[str, bytes]):
    """What Mbed TLS takes for a table of keys.

    It asks by subscript, without saying for which session: the engine at work says so before.
    """

    def __init__(self, lookup: PskLookup) -> None:
        self._lookup = lookup
        self._engine: PskEngine | None = None

    @contextmanager
    def asked_by(self, engine: PskEngine) -> Iterator[None]:
        """Answer for this engine."""
        self._engine = engine
        try:
            yield
        finally:
            self._engine = None

    def __getitem__(self, unverified_identity: str) -> bytes:
        engine = self._engine
        if engine is None:
            raise KeyError("no handshake asks")
        engine.psk_offered, engine.psk_identity = unverified_identity.encode(), None
        try:
            secret = self._lookup(engine.psk_offered)
            key = None if secret is None else checked_psk(secret).reveal()
        except Exception as error:
            engine.fault = error.with_traceback(None)  # the library drops what is raised here
            raise
        if key is None:
            raise KeyError("unknown identity")
        engine.psk_identity = unverified_identity.encode("ascii", "backslashreplace").decode()
        return key

    def __iter__(self) -> Iterator[str]:
        return iter(())  # an open set: nobody lists it

    def __len__(self) -> int:
        return 0


class _End:
    """What the engines of one end, under one set of terms, have in common.

    Attributes:
        context: Mbed TLS's, with the only versions, suites and keys that it may use.
        suites: The suites, by OpenSSL's names.
        identity: What names a client's key; None for a server.
    """

    def __init__(self, context: Context, suites: tuple[str, ...], identity: str | None, keys: _Keys | None) -> None:
        self.context: Final = context
        self.suites: Final = suites
        self.identity: Final = identity
        self._keys = keys

    @property
    def server(self) -> bool:
        """Which role this end has."""
        return self._keys is not None

    def asked_by(self, engine: PskEngine) -> AbstractContextManager[None]:
        """Answer this engine's questions for keys, where this end is a server."""
        return nullcontext() if self._keys is None else self._keys.asked_by(engine)


class _StreamEngine(PskEngine):
    """One end of one stream channel; see `engine.Engine`."""

    def __init__(self, end: _End) -> None:
        # What the engine asks of either, both libraries have; the types name OpenSSL's.
        connection = cast("MemoryConnection", StreamSession(end.context))
        super().__init__(cast("PskClient", end), TLS12_PSK, connection, server=end.server)
        self._end = end

    def handshake(self) -> bool:
        """Go on with the handshake; see `Engine.handshake`."""
        with self._end.asked_by(self):
            return super().handshake()


class _DatagramEngine(DtlsPskEngine):
    """One end of one DTLS channel; see `engine.DatagramEngine`."""

    def __init__(self, end: _End, session: DatagramSession) -> None:
        connection = cast("DatagramConnection", session)  # as above
        super().__init__(cast("PskClient", end), connection, server=end.server)
        self._end = end

    def handshake(self) -> bool:
        """Go on with the handshake; see `Engine.handshake`."""
        with self._end.asked_by(self):
            return super().handshake()


class MbedTlsPskClient:
    """Makes the client's engines for one identity and its key, over TLS 1.2."""

    def __init__(self, identity: str, psk: Secret, *, terms: Terms = NO_TERMS) -> None:
        """Prepare the context that all engines of this factory share.

        Args:
            identity: the PSK identity, ASCII, at most 128 characters.
            psk: the 32-byte key, derived for this direction and for TLS 1.2.
            terms: what the manifest adds.

        Raises:
            ConfigurationError: an identity or key of another shape, or terms that Mbed TLS cannot keep.
        """
        self._end = _client_end(TLS12_PSK, identity, psk, terms)

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        return _StreamEngine(self._end)


class MbedTlsPskServer:
    """Makes the server's engines for every identity that a lookup knows, over TLS 1.2."""

    def __init__(self, lookup: PskLookup, *, terms: Callable[[], Terms] = lambda: NO_TERMS) -> None:
        """Make ready; a context is made for each set of terms.

        Args:
            lookup: called during each handshake; must match identities exactly and answer at once.
            terms: asked for each channel: what the newest manifest adds.

        Raises:
            ConfigurationError: terms that Mbed TLS cannot keep. The same from a call, if they change to such.
        """
        self._ends = _ServerEnds(TLS12_PSK, lookup, terms)

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        return _StreamEngine(self._ends.current())


class MbedDtlsPskClient:
    """Makes the client's engines for one identity and its key, over DTLS 1.2."""

    def __init__(self, identity: str, psk: Secret, *, terms: Terms = NO_TERMS, mtu: int = MTU) -> None:
        """Prepare the context that all engines of this factory share.

        Args:
            identity: the PSK identity, ASCII, at most 128 characters.
            psk: the 32-byte key, derived for this direction and for DTLS 1.2.
            terms: what the manifest adds.
            mtu: the largest datagram to send, in bytes.

        Raises:
            ConfigurationError: an identity or key of another shape, or terms that Mbed TLS cannot keep.
        """
        self._end = _client_end(DTLS12_PSK, identity, psk, terms)
        self._mtu = mtu

    def __call__(self) -> DatagramEngine:
        """Make the engine of one channel."""
        return _DatagramEngine(self._end, DatagramSession(self._end.context, mtu=self._mtu))


class MbedDtlsPskServer:
    """Accepts channels for every identity that a lookup knows, over DTLS 1.2; see `engine.Acceptor`.

    One session at a time listens for all strangers. It becomes a peer's own when its ClientHello has the cookie, which
    Mbed TLS makes of the time and the address, under a key of the context.
    """

    def __init__(self, lookup: PskLookup, *, terms: Callable[[], Terms] = lambda: NO_TERMS, mtu: int = MTU) -> None:
        """Make ready; a context is made for each set of terms.

        Args:
            lookup: called during each handshake; must match identities exactly and answer at once.
            terms: asked for each channel: what the newest manifest adds.
            mtu: the largest datagram to send, in bytes.

        Raises:
            ConfigurationError: terms that Mbed TLS cannot keep. The same from `accept`, if they change to such.
        """
        self._ends = _ServerEnds(DTLS12_PSK, lookup, terms)
        self._mtu = mtu
        self._end: _End | None = None
        self._listening: DatagramSession | None = None

    def accept(self, datagram: bytes | bytearray | memoryview, address: bytes) -> DatagramEngine | None:
        """Judge a stranger's datagram; see `Acceptor.accept`."""
        if not _may_be_client_hello(datagram):
            return None
        end, session = self._listener()
        if not session.answer(datagram, address):
            return None
        self._listening = None  # it is the peer's own now
        return _DatagramEngine(end, session)

    def outgoing(self) -> list[bytes | bytearray]:
        """Hand over the answer to the last stranger."""
        return [] if self._listening is None else [*self._listening.datagrams()]

    def _listener(self) -> tuple[_End, DatagramSession]:
        end = self._ends.current()
        if self._listening is None or end is not self._end:
            self._end, self._listening = end, DatagramSession(end.context, mtu=self._mtu)
        return end, self._listening


class _ServerEnds:
    """A server's end for the terms of the moment; engines under the terms before keep theirs."""

    def __init__(self, version: Version, lookup: PskLookup, terms: Callable[[], Terms]) -> None:
        self._version = version
        self._lookup = lookup
        self._terms = terms
        self._under = terms()
        self._end = self._new(self._under)

    def current(self) -> _End:
        """Return it.

        Raises:
            ConfigurationError: terms that Mbed TLS cannot keep.
        """
        terms = self._terms()
        if terms != self._under:
            self._end = self._new(terms)
            self._under = terms
        return self._end

    def _new(self, terms: Terms) -> _End:
        keys = _Keys(self._lookup)
        suites = _suites(self._version, terms)
        context = server_context(suites, keys, datagrams=self._version is DTLS12_PSK)
        return _End(context, suites, None, keys)


def _client_end(version: Version, identity: str, psk: Secret, terms: Terms) -> _End:
    _checked_identity(identity)
    key = (identity, checked_psk(psk).reveal())
    suites = _suites(version, terms)
    context = client_context(suites, key, datagrams=version is DTLS12_PSK)
    return _End(context, suites, identity, None)


def _suites(version: Version, terms: Terms) -> tuple[str, ...]:
    """Return the suites under these terms, preferred first, unless Mbed TLS cannot keep the terms."""
    if terms.watch is not None:
        raise ConfigurationError(
            "the manifest asks for a key log, which Mbed TLS cannot write: let the settings name the engine openssl"
        )
    suites = version.allowed(terms)
    unknown = [suite for suite in suites if suite not in SUITES]
    if unknown:
        raise ConfigurationError(f"Mbed TLS is not used with the suites {unknown}, only with {[*SUITES]}")
    return suites
