"""The DTLS 1.2 engine keyed by an external PSK (RFC 6347, RFC 4279), on pyOpenSSL: ECDHE-PSK with an AEAD (RFC 7905).

OpenSSL keeps the replay window (RFC 6347 section 4.1.2.6), puts lost and reordered handshake messages right, and drops
what does not verify. What it wants from us: one datagram at a time, a clock, and nothing above the MTU, which it would
drop without a word.
"""

import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from OpenSSL import SSL

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import openssl
from mcbn_workload.channels.engine import DatagramEngine, Negotiated
from mcbn_workload.channels.errors import (
    ChannelBrokenError,
    ChannelClosedError,
    ChannelLimitError,
    HandshakeError,
    HandshakeTimeoutError,
)
from mcbn_workload.channels.openssl_engine import make_alert_uniform, new_tls_context
from mcbn_workload.channels.psk import NO_TERMS, PskClient, PskEngine, PskLookup, PskServer, Terms, Version
from mcbn_workload.channels.tls_psk import TLS12_GROUPS, TLS12_SUITES, tls12_ciphers
from mcbn_workload.kinds import MTU

DTLS12: Final = 0xFEFD  # RFC 6347 section 4.1
COOKIE_BYTES: Final = 16
COOKIE_SECONDS: Final = 60.0  # RFC 6347 section 4.2.1: whoever once had an address must not use its cookies for ever
_HANDSHAKE: Final = b"\x16"
_CLIENT_HELLO: Final = b"\x01"
QUEUED_DATAGRAMS_MAX: Final = 64  # fed and not yet read: more are dropped, as a full socket buffer would


def _dtls12_context(suites: tuple[str, ...]) -> SSL.Context:
    context = new_tls_context(lowest=DTLS12, highest=DTLS12, groups=TLS12_GROUPS, method=SSL.DTLS_METHOD)
    context.set_options(int(SSL.OP_NO_QUERY_MTU or 0) | int(SSL.OP_COOKIE_EXCHANGE or 0))
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)  # as in `tls_psk`
    context.set_cipher_list(tls12_ciphers(suites))
    return context


DTLS12_PSK: Final = Version("DTLSv1.2", TLS12_SUITES, _dtls12_context)


class DtlsPskClient:
    """Makes the client's engines for one identity and its key."""

    def __init__(self, identity: str, psk: Secret, *, terms: Terms = NO_TERMS, mtu: int = MTU) -> None:
        """Prepare the context that all engines of this factory share.

        Args:
            identity: the PSK identity, ASCII, at most 128 characters.
            psk: the 32-byte key, derived for this direction and for DTLS 1.2.
            terms: what the manifest adds.
            mtu: the largest datagram to send, in bytes.

        Raises:
            ConfigurationError: an identity or key of another shape.
        """
        self._client = PskClient(DTLS12_PSK, identity, psk, terms)
        self._mtu = mtu

    @property
    def context(self) -> SSL.Context:
        """The context that all engines of this factory share."""
        return self._client.context

    def __call__(self) -> DatagramEngine:
        """Make the engine of one channel."""
        connection = openssl.DatagramConnection(self._client.context, server=False, mtu=self._mtu)
        return DtlsPskEngine(self._client, connection, server=False)


class DtlsPskServer:
    """Accepts channels for every identity that a lookup knows; see `engine.Acceptor`.

    One connection at a time listens for all strangers. It becomes a peer's own when its ClientHello has the cookie: a
    keyed digest of its address and of the time.
    """

    def __init__(
        self,
        lookup: PskLookup,
        *,
        terms: Callable[[], Terms] = lambda: NO_TERMS,
        mtu: int = MTU,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make ready; a context is made for each set of terms, with the first stranger under them.

        Args:
            lookup: called during each handshake; must match identities exactly and answer at once.
            terms: asked for each channel: what the newest manifest adds.
            mtu: the largest datagram to send, in bytes.
            clock: seconds that rise steadily; a cookie serves for one to two times `COOKIE_SECONDS`.
        """
        self._lookup = lookup
        self._terms = terms
        self._mtu = mtu
        self._clock = clock
        self._cookie_key = secrets.token_bytes(32)
        self._under: Terms | None = None
        self._server: PskServer | None = None
        self._listening: openssl.DatagramConnection | None = None

    def accept(self, datagram: bytes | bytearray | memoryview, address: bytes) -> DatagramEngine | None:
        """Judge a stranger's datagram; see `Acceptor.accept`."""
        if not _may_be_client_hello(datagram):
            return None
        server, listening = self._listener()
        listening.belongs_to(address)
        listening.feed(datagram)
        try:
            if not listening.answer():
                return None
        except openssl.OpenSslError:
            self._listening = None  # whatever state it is in
            return None
        self._listening = None
        return DtlsPskEngine(server, listening, server=True)

    def outgoing(self) -> list[bytes | bytearray]:
        """Hand over the answer to the last stranger."""
        return [] if self._listening is None else [*self._listening.datagrams()]

    def _listener(self) -> tuple[PskServer, openssl.DatagramConnection]:
        terms = self._terms()
        if self._server is None or terms != self._under:
            self._under, self._server, self._listening = terms, self._new_server(terms), None
        if self._listening is None:
            self._listening = openssl.DatagramConnection(self._server.context, server=True, mtu=self._mtu)
        return self._server, self._listening

    def _new_server(self, terms: Terms) -> PskServer:
        server = PskServer(DTLS12_PSK, self._lookup, terms)
        # Asked in `accept`, and again in the handshake, when other strangers may have come since.
        server.context.set_cookie_generate_callback(lambda connection: self._cookie(connection, self._period()))
        server.context.set_cookie_verify_callback(
            lambda connection, unverified: any(
                hmac.compare_digest(unverified, self._cookie(connection, self._period() - past)) for past in (0, 1)
            )
        )
        return server

    def _period(self) -> int:
        return int(self._clock() // COOKIE_SECONDS)

    def _cookie(self, connection: SSL.Connection, period: int) -> bytes:
        """RFC 6347 section 4.2.1: so that whoever sends from another's address learns nothing and costs nothing."""
        message = period.to_bytes(8, "big", signed=True) + connection.get_app_data()
        return hmac.digest(self._cookie_key, message, "sha256")[:COOKIE_BYTES]


class DtlsPskEngine(PskEngine):
    """One end of one DTLS channel; see `engine.DatagramEngine`. Made by `DtlsPskClient` and `DtlsPskServer`."""

    connection: openssl.DatagramConnection

    def __init__(self, factory: PskClient | PskServer, connection: openssl.DatagramConnection, *, server: bool) -> None:
        super().__init__(factory, DTLS12_PSK, connection, server=server)
        self._arrived: deque[bytes] = deque(maxlen=QUEUED_DATAGRAMS_MAX)
        self._max_plaintext = 0

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Take one datagram. OpenSSL would take two for one, so it gets them one by one."""
        self._arrived.append(bytes(ciphertext))

    def handshake(self) -> bool:
        """Go on with the handshake; see `Engine.handshake`."""
        while not super().handshake():
            if not self._arrived:
                return False
            self.connection.feed(self._arrived.popleft())
        return True

    def read(self, size: int) -> bytes | None:
        """Give the content of one datagram; see `Engine.read`. One of more than `size` bytes is dropped."""
        self._require_authenticated()
        while True:
            try:
                data = self.connection.read_record()
            except openssl.WantInputError:
                if not self._arrived:
                    return None
                self.connection.feed(self._arrived.popleft())
            except openssl.PeerClosedError:
                return b""
            except openssl.OpenSslError as error:
                raise self._fail(ChannelBrokenError(f"the channel broke while reading: {error}")) from error
            else:
                if len(data) <= size:
                    return data

    def write(self, plaintext: bytes | bytearray | memoryview) -> int:
        """Encrypt one datagram; see `Engine.write`. An empty one cannot be told from nothing, so it is refused."""
        self._require_authenticated()
        if self._closed:
            raise ChannelClosedError("this end has already closed its writing direction")
        if not 0 < len(plaintext) <= self._max_plaintext:
            raise ChannelLimitError(f"a datagram of {len(plaintext)} bytes: 1 to {self._max_plaintext} fit in one here")
        return super().write(plaintext)

    def outgoing(self) -> list[bytes | bytearray]:
        """Hand over what is to be transmitted, each as one datagram."""
        records = self.connection.datagrams()
        if self._failed_in_handshake:
            for record in records:
                make_alert_uniform(record)
        return [*records]

    def next_timeout(self) -> float | None:
        """Seconds until `on_timeout` is due; None when nothing waits for an answer."""
        return None if self._failure is not None else self.connection.next_timeout()

    def on_timeout(self) -> None:
        """Send the last flight again, if it is time."""
        try:
            self.connection.on_timeout()
        except openssl.OpenSslError as error:
            raise self._fail(self._explain(str(error))) from error

    def stalled(self) -> HandshakeError:
        """Say why the handshake may have stalled; see `DatagramEngine.stalled`."""
        if self._server and self.psk_identity is not None:
            return self._mismatch()
        return HandshakeTimeoutError(
            "the peer's part of the handshake did not arrive: it does not listen there, datagrams are lost on the way, "
            "or it holds another key, which it can say in its own log only"
        )

    def _authenticated(self) -> Negotiated:
        negotiated = super()._authenticated()
        self._max_plaintext = self.connection.max_plaintext
        return Negotiated(
            negotiated.protocol, negotiated.suite, negotiated.group, negotiated.identity, self._max_plaintext
        )


def _may_be_client_hello(datagram: bytes | bytearray | memoryview) -> bool:
    """Look at the record's type, version and epoch, and the message's type: RFC 6347 sections 4.1 and 4.2.2."""
    kind, major, epoch = datagram[:1], datagram[1:2], datagram[3:5]
    message = datagram[openssl.RECORD_HEADER : openssl.RECORD_HEADER + 1]
    return (bytes(kind), bytes(major), bytes(epoch), bytes(message)) == (_HANDSHAKE, b"\xfe", b"\0\0", _CLIENT_HELLO)
