"""The TLS 1.3 engine with a certificate at both ends (RFC 8446 section 4.4.2), on pyOpenSSL.

Both ends derive both roles' keys from the epoch's shares, so each knows the one key that the other's leaf may have. The
CA above that leaf decides nothing. There is no PSK, no ticket and no other way in.

During an overlap a server holds two epochs' keys. A client names the one that it knows in its server name (RFC 6066
section 3); any other name, or none, gets the newest.
"""

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from mcbn_protocol.identifiers import sha256
from mcbn_workload.channels import openssl
from mcbn_workload.channels.certificates import Credentials, PublicKey
from mcbn_workload.channels.engine import Engine, Negotiated
from mcbn_workload.channels.errors import (
    ChannelError,
    HandshakeError,
    PeerKeyError,
    PeerNotAuthenticatedError,
    ProtocolRefusedError,
)
from mcbn_workload.channels.openssl_engine import (
    TLS13,
    TLS13_SUITES,
    OpenSslEngine,
    new_tls13_context,
    refused_by_peer,
)
from mcbn_workload.channels.peer_certificate import (
    Judge,
    name_of,
    require_certificate,
    set_signatures,
    spki_of,
    spki_of_certificate,
    unfit_for_a_leaf,
)
from mcbn_workload.channels.psk import Watch

_log: Final = logging.getLogger("mcbn.workload.channels")

SIGNATURES: Final = b"rsa_pss_rsae_sha256:ed25519"
_NAME_BYTES: Final = 16
_CHAIN_DEPTH: Final = 2  # certificates between a leaf and its root


@dataclass(frozen=True, eq=False)
class MutualTlsKeys:
    """What one end goes by in one epoch.

    Attributes:
        credentials: What it shows.
        peer_key: The other role's key, the only one that it accepts; under `insecure_shared_key` its own.
        watch: What lets the sessions be read along; see `psk.Terms`.
    """

    credentials: Credentials
    peer_key: PublicKey
    watch: Watch | None = None

    @cached_property
    def own(self) -> str:
        """The public name of this end's key."""
        return name_of(spki_of(self.credentials.key.public_key()))

    @cached_property
    def peer(self) -> str:
        """The public name of the peer's key."""
        return name_of(self.peer_spki)

    @cached_property
    def peer_spki(self) -> bytes:
        """The peer's SubjectPublicKeyInfo, DER."""
        return spki_of(self.peer_key)

    def server_name(self, *, server: bool) -> bytes:
        """Return what a client calls this epoch's server, of which this end is the server or the client."""
        spki = spki_of(self.credentials.key.public_key()) if server else self.peer_spki
        return sha256(spki)[:_NAME_BYTES].hex().encode("ascii") + b".mcbn.invalid"  # RFC 6761 section 6.4


LiveKeys = Callable[[], Sequence[MutualTlsKeys]]
"""Gives the keys of the live epochs, the newest first; must answer at once."""


class MutualTlsClient:
    """Makes the client's engines for one epoch's keys."""

    def __init__(self, keys: MutualTlsKeys) -> None:
        """Prepare the context that all engines of this factory share."""
        self.keys: Final = keys
        self.engines: Final[_Engines] = weakref.WeakValueDictionary()
        self.context: Final = _new_context(keys)
        self._callback = require_certificate(self.context, _judge_of(self.engines))
        self._server_name = keys.server_name(server=False)

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        engine = MutualTlsEngine(self, server=False)
        engine.keys = self.keys
        engine.connection.name_server(self._server_name)
        return engine


class MutualTlsServer:
    """Makes the server's engines for every live epoch's keys."""

    def __init__(self, live: LiveKeys) -> None:
        """Prepare the context with which every handshake begins. It has no certificate: the epoch's replaces it.

        Args:
            live: Asked during each handshake.
        """
        self._live = live
        self._contexts: weakref.WeakKeyDictionary[MutualTlsKeys, SSL.Context] = weakref.WeakKeyDictionary()
        self.engines: Final[_Engines] = weakref.WeakValueDictionary()
        self.context: Final = _new_context(None)
        self._callback = require_certificate(self.context, _judge_of(self.engines))
        self.context.set_tlsext_servername_callback(self._choose)

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        return MutualTlsEngine(self, server=True)

    def _choose(self, connection: SSL.Connection) -> None:
        """Show the certificate of the epoch that the client names. Called with or without a name, in each hello."""
        engine = self.engines[openssl.address_of(connection._ssl)]  # noqa: SLF001  # no public handle
        try:
            engine.keys = self._named(connection.get_servername())
            connection.set_context(self._context(engine.keys))
        except Exception as error:  # noqa: BLE001  # must not pass through C; the engine raises it as the cause
            engine.keys, engine.fault = None, error.with_traceback(None)

    def _named(self, unverified_name: bytes | None) -> MutualTlsKeys:
        live = self._live()
        if not live:
            raise LookupError("no epoch is live")
        return next((keys for keys in live if keys.server_name(server=True) == unverified_name), live[0])

    def _context(self, keys: MutualTlsKeys) -> SSL.Context:
        if keys not in self._contexts:
            self._contexts[keys] = _new_context(keys)
        return self._contexts[keys]


class _CertificateConnection(openssl.MemoryConnection):
    """Adds what only a connection with certificates has."""

    def name_server(self, name: bytes) -> None:
        """Send this server name."""
        self._connection.set_tlsext_host_name(name)

    def peer_certificate(self) -> x509.Certificate | None:
        """Return the peer's leaf."""
        return self._connection.get_peer_certificate(as_cryptography=True)


class MutualTlsEngine(OpenSslEngine):
    """One end of one channel; see `engine.Engine`. Made by `MutualTlsClient` and `MutualTlsServer`."""

    connection: _CertificateConnection

    def __init__(self, factory: MutualTlsClient | MutualTlsServer, *, server: bool) -> None:
        super().__init__(factory, _CertificateConnection(factory.context, server=server), server=server)
        factory.engines[self.address] = self
        self.keys: MutualTlsKeys | None = None  # of the epoch that this channel belongs to
        self.refusal: HandshakeError | None = None  # what the peer's certificate was refused for

    def _broken(self, reason: str) -> ChannelError:
        """In TLS 1.3 a client learns only after its handshake that its certificate was refused."""
        if not self._server and not self._heard and " alert " in reason:
            return refused_by_peer(reason)
        return super()._broken(reason)

    def judge(self, objection: str, unverified: x509.Certificate | None) -> bool:
        """Decide on the peer's certificate; see `peer_certificate.Judge`."""
        try:
            self.refusal = self._refusal_of(objection, unverified)
        except Exception as error:  # noqa: BLE001  # must not pass through C; whatever cannot be read is refused
            self.refusal = PeerNotAuthenticatedError(f"the peer's certificate cannot be read ({type(error).__name__})")
        return self.refusal is None

    def _refusal_of(self, objection: str, unverified: x509.Certificate | None) -> HandshakeError | None:
        if objection or unverified is None or self.keys is None:
            return PeerNotAuthenticatedError(f"the peer's certificate is refused: {objection or 'no key to compare'}")
        shown = spki_of_certificate(unverified)
        if shown != self.keys.peer_spki:
            return self._another_key(self.keys, name_of(shown))
        unfit = unfit_for_a_leaf(unverified)
        return None if unfit is None else PeerNotAuthenticatedError(f"the peer's certificate is refused: {unfit}")

    def _another_key(self, keys: MutualTlsKeys, shown: str) -> HandshakeError:
        role = "client" if self._server else "server"
        if shown == keys.own:
            return PeerKeyError(
                f"the peer shows {shown}, this end's own key, where the {role}'s {keys.peer} was expected: "
                "it is this end itself, or plays the same role; check the address and the role at both ends"
            )
        return PeerKeyError(
            f"the peer shows {shown} where the {role}'s key {keys.peer} was expected: "
            "compare manifest hash, epoch and shares at both ends"
        )

    def _authenticated(self) -> Negotiated:
        """Check that the other role's key, and nothing else, authenticated the peer: no callback is relied on."""
        protocol, suite, group = self.connection.facts()
        leaf = self.connection.peer_certificate()
        if self.connection.used_psk() or leaf is None or self.refusal is not None or self.keys is None:
            raise PeerNotAuthenticatedError("the handshake completed without a certificate; the peer is nobody we know")
        if spki_of_certificate(leaf) != self.keys.peer_spki:
            raise self._another_key(self.keys, name_of(spki_of_certificate(leaf)))
        if protocol != TLS13 or suite not in TLS13_SUITES:
            raise ProtocolRefusedError(f"the handshake ended with {protocol} and {suite}, which are not allowed here")
        _log_keys(self.keys)
        return Negotiated(protocol, suite, group, self.keys.peer)

    def _explain(self, reason: str) -> HandshakeError:
        if self.refusal is not None:
            return openssl.without_traceback(self.refusal)
        if " alert " in reason:
            return refused_by_peer(reason)
        if reason == "peer did not return a certificate":
            return PeerNotAuthenticatedError("the client shows no certificate: it has no key of this network")
        if self.fault is not None:
            return ProtocolRefusedError(f"no live epoch's certificate could be shown ({type(self.fault).__name__})")
        return ProtocolRefusedError(f"no common ground with the peer ({reason or 'no reason given'})")


_Engines = weakref.WeakValueDictionary[int, MutualTlsEngine]


def _judge_of(engines: _Engines) -> Judge:
    """Hand each certificate to the engine of its connection, without holding the factory: OpenSSL keeps the context."""
    return lambda address, objection, certificate: engines[address].judge(objection, certificate)


def _new_context(keys: MutualTlsKeys | None) -> SSL.Context:
    context = new_tls13_context()
    set_signatures(context, SIGNATURES)
    # Each certificate above the leaf costs this end a signature check, for a stranger, before the key is compared.
    context.set_verify_depth(_CHAIN_DEPTH)
    if keys is not None:
        context.use_certificate(keys.credentials.leaf)
        context.add_extra_chain_cert(keys.credentials.authority)
        context.use_privatekey(keys.credentials.key)
        if keys.watch is not None:
            keys.watch(context)
    return context


def _log_keys(keys: MutualTlsKeys) -> None:
    _log.info(
        "mutual TLS: the peer holds %s, this end %s",
        keys.peer,
        keys.own,
        extra={"event": "keys_verified", "peer_key": keys.peer, "own_key": keys.own},
    )
