"""External PSKs in OpenSSL, whatever the protocol version: the callbacks, and what a failed handshake means.

A node holds the key of one direction in one role only: the roles are in the key's purpose, so a flight reflected to its
sender (the Selfie attack, RFC 9257 section 4.1) meets an end that is not a server for that identity.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from OpenSSL import SSL

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import openssl
from mcbn_workload.channels.engine import Negotiated
from mcbn_workload.channels.errors import (
    HandshakeError,
    PeerNotAuthenticatedError,
    ProtocolRefusedError,
    PskIdentityError,
    PskMismatchError,
)
from mcbn_workload.channels.openssl_engine import TLS13, OpenSslEngine, refused_by_peer
from mcbn_workload.errors import ConfigurationError

PSK_BYTES: Final = 32
IDENTITY_BYTES_MAX: Final = 128  # OpenSSL's callback holds 256; ours have 28

IDENTITIES_MAX: Final = 16  # looked up for one client, which may offer thousands in one hello; ours offer one

_WRONG_BINDER: Final = "binder does not verify"  # TLS 1.3, a server that reads the client's first flight
_ANOTHER_KEY: Final = frozenset(
    {
        _WRONG_BINDER,
        "digest check failed",  # TLS 1.2, a client that reads the server's Finished
        "decryption failed or bad record mac",  # TLS 1.2, a server that reads the client's
        "cipher operation failed",  # the same, with an AEAD of AES
        "bad record mac",
    }
)

PskLookup = Callable[[bytes], Secret | None]
"""Finds the key of an identity that a client offers; None when this server holds none of that name."""

Watch = Callable[[SSL.Context], None]
"""Prepares a context whose sessions somebody is to read along, as the signed manifest must say."""

openssl.require_psk()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a signed manifest adds to a channel's own defaults. Each weakens the channel.

    Attributes:
        suites: Cipher suites without forward secrecy, by OpenSSL's names, for peers that have no others.
        watch: What lets the sessions be read along; None, as in every production image, does not.
    """

    suites: tuple[str, ...] = ()
    watch: Watch | None = None


NO_TERMS: Final = Terms()


@dataclass(frozen=True)
class Version:
    """One protocol version, as the PSK engines use it.

    Attributes:
        protocol: Its name, such as `TLSv1.3`.
        suites: The cipher suites that are allowed without further terms.
        new_context: Makes a context for these suites.
    """

    protocol: str
    suites: tuple[str, ...]
    new_context: Callable[[tuple[str, ...]], SSL.Context]

    def allowed(self, terms: Terms) -> tuple[str, ...]:
        """Return the cipher suites that are allowed under these terms, preferred first."""
        return (*self.suites, *(one for one in terms.suites if one not in self.suites))

    def context(self, terms: Terms) -> SSL.Context:
        """Return a context for these terms."""
        context = self.new_context(self.allowed(terms))
        if terms.watch is not None:
            terms.watch(context)
        return context


class PskClient:
    """What a client's engines for one identity and its key have in common."""

    def __init__(self, version: Version, identity: str, psk: Secret, terms: Terms) -> None:
        self.identity: Final = identity
        self.suites: Final = version.allowed(terms)
        self._identity_bytes = _checked_identity(identity)
        self._psk = checked_psk(psk)
        self.context: Final = version.context(terms)
        # Without this a server that ignores the PSK and shows any certificate is accepted.
        self.context.set_verify(SSL.VERIFY_PEER, _refuse_certificate)
        self._callback = openssl.set_psk_client(self.context, self._offer)

    def _offer(self, _ssl: Any, _hint: Any, identity: Any, _room: int, psk: Any, psk_room: int) -> int:
        if psk_room < PSK_BYTES:
            return 0
        terminated = self._identity_bytes + b"\0"
        openssl.ffi.memmove(identity, terminated, len(terminated))
        openssl.ffi.memmove(psk, self._psk.reveal(), PSK_BYTES)
        return PSK_BYTES


class PskServer:
    """What a server's engines under one set of terms have in common, for every identity that a lookup knows.

    The context holds no certificate, ever: with one, an unknown identity would fall through to certificate
    authentication.
    """

    def __init__(self, version: Version, lookup: PskLookup, terms: Terms) -> None:
        self._lookup = lookup
        self.suites: Final = version.allowed(terms)
        self.engines: Final[weakref.WeakValueDictionary[int, PskEngine]] = weakref.WeakValueDictionary()
        self.context: Final = version.context(terms)
        self._callback = openssl.set_psk_server(self.context, self._choose)

    def _choose(self, ssl: Any, identity: Any, psk: Any, room: int) -> int:
        engine = self.engines[openssl.address_of(ssl)]
        engine.psk_offers += 1
        if engine.psk_offers > IDENTITIES_MAX:
            return 0
        unverified_identity: bytes = openssl.ffi.string(identity)
        engine.psk_offered, engine.psk_identity = unverified_identity, None
        try:
            secret = self._lookup(unverified_identity)
            key = None if secret is None else checked_psk(secret).reveal()
        except Exception as error:  # noqa: BLE001  # must not pass through C; the engine raises it as the cause
            engine.fault = error.with_traceback(None)
            return 0
        if key is None or room < PSK_BYTES:
            return 0
        engine.psk_identity = unverified_identity.decode("ascii", "backslashreplace")
        openssl.ffi.memmove(psk, key, PSK_BYTES)
        return PSK_BYTES


class PskEngine(OpenSslEngine):
    """One end of one channel that is keyed by an external PSK."""

    def __init__(
        self, factory: PskClient | PskServer, version: Version, connection: openssl.MemoryConnection, *, server: bool
    ) -> None:
        super().__init__(factory, connection, server=server)
        self._protocol = version.protocol
        self._suites = factory.suites
        self.psk_offers = 0  # how many identities a client offered
        self.psk_offered: bytes | None = None  # the last of them that was looked up, known or not
        self.psk_identity: str | None = None  # the identity whose key OpenSSL was given
        if isinstance(factory, PskServer):
            factory.engines[self.address] = self
        else:
            self.psk_identity = factory.identity

    def _authenticated(self) -> Negotiated:
        """Check that the PSK, and nothing else, authenticated the peer: the library's defaults are not relied on."""
        protocol, suite, group = self.connection.facts()
        # Before TLS 1.3 the suite says whether there was a PSK, and all of the allowed ones do; since then the session.
        keyed = protocol != TLS13 or self.connection.used_psk()
        if self.connection.peer_has_certificate() or not keyed or self.psk_identity is None:
            raise PeerNotAuthenticatedError("the handshake completed without the PSK; the peer is not who it must be")
        if protocol != self._protocol or suite not in self._suites:
            raise ProtocolRefusedError(f"the handshake ended with {protocol} and {suite}, which are not allowed here")
        return Negotiated(protocol, suite, group, self.psk_identity)

    def _explain(self, reason: str) -> HandshakeError:
        if " alert " in reason:
            return refused_by_peer(reason)
        if reason in _ANOTHER_KEY:
            # In TLS 1.3 the binder shows another key, before any record is encrypted: those fail when they are changed.
            return self._mismatch() if self._protocol != TLS13 or reason == _WRONG_BINDER else self._changed()
        if reason == "certificate verify failed":
            return PeerNotAuthenticatedError(
                "the server ignored the PSK and showed a certificate: it is not the far end; check the address"
            )
        if self._server and reason in {"no suitable signature algorithm", "psk identity not found"}:
            return self._explain_no_psk()
        return ProtocolRefusedError(f"no common ground with the peer ({reason or 'no reason given'})")

    def _mismatch(self) -> PskMismatchError:
        return PskMismatchError(
            f"the peer names PSK identity {self.psk_identity} but holds another key: "
            "compare manifest hash, epoch and shares at both ends"
        )

    def _changed(self) -> HandshakeError:
        return HandshakeError(
            f"the handshake under PSK identity {self.psk_identity} was changed on the way, or the peer holds another "
            "key, which it can say in its own log"
        )

    def _explain_no_psk(self) -> HandshakeError:
        if self.fault is not None:
            return PskIdentityError(f"the key could not be looked up ({type(self.fault).__name__})")
        if self.psk_offered is None:
            return PeerNotAuthenticatedError("the client offered no PSK usable with this end's suites and psk_dhe_ke")
        return PskIdentityError(
            f"the client offers PSK identity {self.psk_offered[:IDENTITY_BYTES_MAX]!r}, which this end does not hold: "
            "compare manifest hash and epoch at both ends"
        )


def checked_psk(psk: Secret) -> Secret:
    """Return a key of the length that every derived PSK has.

    Raises:
        ConfigurationError: Another length.
    """
    if len(psk.reveal()) != PSK_BYTES:
        raise ConfigurationError(f"a PSK has {PSK_BYTES} bytes")
    return psk


def _checked_identity(identity: str) -> bytes:
    if not (identity.isascii() and identity.isprintable() and 0 < len(identity) <= IDENTITY_BYTES_MAX):
        raise ConfigurationError(f"a PSK identity has 1 to {IDENTITY_BYTES_MAX} printable ASCII characters")
    return identity.encode("ascii")


def _refuse_certificate(*_unverified: object) -> bool:
    return False
