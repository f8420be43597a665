"""Which broker addresses may be used, and how TLS to them is checked. Secrecy never rests on this TLS."""

import importlib.util
import ssl
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from mcbn_protocol.errors import MalformedError
from mcbn_protocol.manifest import BrokerAddress
from mcbn_protocol.participants import check_broker_url, plain_http_beyond_loopback
from mcbn_workload.errors import ConfigurationError

if importlib.util.find_spec("sniffio") is None:
    # httpcore tries to import it at every lock and every wait. Remembering that it is not there (Python reference,
    # section 5.3.1) spares a search of the disk each time: a third of the CPU of a gathering.
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # None is the documented mark

_HEADERS: Final = {"User-Agent": "mcbn-workload", "Accept-Encoding": "identity"}
_UNUSED: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it trusts nobody; without one, httpx loads its own roots
_LIMITS: Final = httpx.Limits(max_connections=2, max_keepalive_connections=1)


def check_scheme(url: str, *, insecure_http: bool) -> str:
    """Return a URL that may be used: https, or http to a loopback literal or where the signed manifest allows it.

    Raises:
        MalformedError: Not a broker's URL.
        ConfigurationError: Plain http to anywhere else.
    """
    check_broker_url(url)
    if plain_http_beyond_loopback(url) and not insecure_http:
        raise ConfigurationError(
            f"{url}: plain http is only for loopback literals, or where the signed manifest says insecure_http"
        )
    return url


class Connector:
    """Makes HTTP clients that share their TLS contexts: loading a set of roots costs more than a request."""

    def __init__(self) -> None:
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def client(self, address: BrokerAddress, *, insecure_http: bool) -> httpx.AsyncClient:
        """Return a client for one broker: no proxies, no redirects, nothing taken from the environment.

        Raises:
            ConfigurationError: A URL that may not be used, or a CA that cannot be read.
        """
        try:
            return httpx.AsyncClient(
                base_url=check_scheme(address.url, insecure_http=insecure_http).rstrip("/"),
                transport=self.transport(address),
                headers=_HEADERS,
                timeout=None,  # noqa: S113  # each exchange has a deadline of its own, over everything
                trust_env=False,
            )
        except (MalformedError, httpx.InvalidURL) as error:
            raise ConfigurationError(f"{address.url} cannot be used: {error}") from error

    def transport(self, address: BrokerAddress) -> httpx.AsyncBaseTransport:
        """Return what carries the requests to a broker."""
        is_tls = urlsplit(address.url).scheme == "https"
        context = self._context(address.tls_ca) if is_tls else _UNUSED
        return httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=_LIMITS)

    def _context(self, tls_ca: str | None) -> ssl.SSLContext:
        if tls_ca not in self._contexts:
            self._contexts[tls_ca] = _new_context(tls_ca)
        return self._contexts[tls_ca]


def _new_context(tls_ca: str | None) -> ssl.SSLContext:
    """Make a context by hand: `ssl.create_default_context` follows SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if tls_ca is None:
            paths = ssl.get_default_verify_paths()
            context.load_verify_locations(cafile=_if_present(paths.openssl_cafile), capath=paths.openssl_capath)
        else:
            context.load_verify_locations(cadata=tls_ca)
    except (ssl.SSLError, OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"the CA of a broker cannot be used: {error}") from error
    return context


def _if_present(path: str) -> str | None:
    return path if Path(path).is_file() else None
