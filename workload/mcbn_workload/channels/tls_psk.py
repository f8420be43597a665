"""The TLS engines keyed by an external PSK, on pyOpenSSL: TLS 1.3 (RFC 8446 section 2.2, RFC 9257), and TLS 1.2.

In TLS 1.3 only `psk_dhe_ke` (OpenSSL's default for both ends), so that a later leak of every share does not open
recorded traffic; its suites are those with SHA-256, the hash that other implementations assume for an external PSK.

TLS 1.2 is for peers that have no TLS 1.3: ECDHE-PSK with an AEAD (RFC 7905), which has forward secrecy too.
"""

from collections.abc import Callable
from typing import Final

from OpenSSL import SSL

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import openssl
from mcbn_workload.channels.engine import Engine
from mcbn_workload.channels.openssl_engine import TLS13, TLS13_SUITES, new_tls13_context, new_tls_context
from mcbn_workload.channels.psk import NO_TERMS, PskClient, PskEngine, PskLookup, PskServer, Terms, Version

PROTOCOL: Final = TLS13
SUITES: Final = TLS13_SUITES
TLS12_SUITES: Final = ("ECDHE-PSK-CHACHA20-POLY1305",)
TLS12_GROUPS: Final = b"X25519:P-256"
_CCM8: Final = "PSK-AES128-CCM8"


def tls12_ciphers(suites: tuple[str, ...]) -> bytes:
    """Return OpenSSL's cipher list for these suites before TLS 1.3. A tag of eight bytes is below its level 1."""
    return (":".join(suites) + ("@SECLEVEL=0" if _CCM8 in suites else "")).encode("ascii")


def _tls12_context(suites: tuple[str, ...]) -> SSL.Context:
    context = new_tls_context(lowest=SSL.TLS1_2_VERSION, highest=SSL.TLS1_2_VERSION, groups=TLS12_GROUPS)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)  # forward secrecy, if a peer can, whatever it prefers
    context.set_cipher_list(tls12_ciphers(suites))
    return context


TLS13_PSK: Final = Version(PROTOCOL, SUITES, lambda _suites: new_tls13_context())
TLS12_PSK: Final = Version("TLSv1.2", TLS12_SUITES, _tls12_context)


class TlsPskClient:
    """Makes the client's engines for one identity and its key."""

    def __init__(self, identity: str, psk: Secret, *, version: Version = TLS13_PSK, terms: Terms = NO_TERMS) -> None:
        """Prepare the context that all engines of this factory share.

        Args:
            identity: the PSK identity, ASCII, at most 128 characters.
            psk: the 32-byte key, derived for this direction and this version.
            version: the protocol version.
            terms: what the manifest adds.

        Raises:
            ConfigurationError: an identity or key of another shape.
        """
        self._version = version
        self._client = PskClient(version, identity, psk, terms)

    @property
    def context(self) -> SSL.Context:
        """The context that all engines of this factory share."""
        return self._client.context

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        connection = openssl.MemoryConnection(self.context, server=False)
        return PskEngine(self._client, self._version, connection, server=False)


class TlsPskServer:
    """Makes the server's engines for every identity that a lookup knows, such as one for each live epoch."""

    def __init__(
        self, lookup: PskLookup, *, version: Version = TLS13_PSK, terms: Callable[[], Terms] = lambda: NO_TERMS
    ) -> None:
        """Make ready; a context is made for each set of terms, with the first engine under them.

        Args:
            lookup: called during each handshake; must match identities exactly and answer at once.
            version: the protocol version.
            terms: asked for each channel: what the newest manifest adds.
        """
        self._version = version
        self._lookup = lookup
        self._terms = terms
        self._servers: dict[Terms, PskServer] = {}

    @property
    def context(self) -> SSL.Context:
        """The context that engines share now."""
        return self._server().context

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        server = self._server()
        connection = openssl.MemoryConnection(server.context, server=True)
        return PskEngine(server, self._version, connection, server=True)

    def _server(self) -> PskServer:
        terms = self._terms()
        if terms not in self._servers:
            self._servers = {terms: PskServer(self._version, self._lookup, terms)}  # the engines keep the one before
        return self._servers[terms]
