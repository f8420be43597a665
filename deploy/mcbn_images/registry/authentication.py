"""Answers a registry's challenge: Basic (RFC 7617), or a Bearer token from the place that it names (RFC 6750)."""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final

import httpx

from mcbn_images.errors import RegistryError

_CHALLENGE: Final = re.compile(r"\s*(basic|bearer)\s+(.*)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r'([a-zA-Z_]+)="([^"\\]*)"')


@dataclass(frozen=True)
class Credentials:
    """Who pushes.

    Attributes:
        username: Sent beside the secret.
        secret: A password or an access token.
    """

    username: str
    secret: str = field(repr=False)


CredentialSource = Callable[[], Credentials | None]
"""Gives them when a registry first asks; None where there are none, and so an anonymous token is asked for."""


class RegistryAuth(httpx.Auth):
    """Adds what the registry asked for, to requests that go to the registry itself and nowhere else.

    Args:
        origin: The registry's scheme, host and port.
        credentials: Where credentials come from.
        is_allowed: Whether a secret may be sent to an address: by scheme and host.
    """

    requires_response_body = True

    def __init__(
        self, origin: httpx.URL, credentials: CredentialSource, is_allowed: Callable[[httpx.URL], bool]
    ) -> None:
        self._origin = origin
        self._credentials = credentials
        self._is_allowed = is_allowed
        self._header: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request; if it is challenged, answer once, and keep the answer for the next."""
        if not self._is_registry(request.url):
            yield request
            return
        if self._header is not None:
            request.headers["Authorization"] = self._header
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED or not self._is_registry(response.url):
            return
        scheme, parameters = _read_challenge(response)
        credentials = self._credentials()
        basic = None if credentials is None else httpx.BasicAuth(credentials.username, credentials.secret)
        if scheme == "basic":
            if basic is None:
                raise RegistryError(f"{request.url.host} wants a name and a password: see --username")
            authorized = next(basic.auth_flow(httpx.Request("GET", request.url)))
            self._header = authorized.headers["Authorization"]
        else:
            self._header = "Bearer " + _token((yield self._token_request(parameters, basic)))
        request.headers["Authorization"] = self._header
        yield request

    def _is_registry(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self._origin.scheme, self._origin.host, self._origin.port)

    def _token_request(self, parameters: dict[str, str], basic: httpx.BasicAuth | None) -> httpx.Request:
        try:
            realm = httpx.URL(parameters["realm"])
        except (KeyError, httpx.InvalidURL) as error:
            raise RegistryError("the registry's challenge names no place to get a token from") from error
        if not self._is_allowed(realm):
            raise RegistryError(
                f"the registry sends us for a token to {realm.scheme}://{realm.host}, which is not trusted with "
                "credentials: it has to be https, and for Google's credentials the registry itself"
            )
        for name in ("service", "scope"):
            if name in parameters:
                realm = realm.copy_set_param(name, parameters[name])
        request = httpx.Request("GET", realm)
        return request if basic is None else next(basic.auth_flow(request))


def _read_challenge(response: httpx.Response) -> tuple[str, dict[str, str]]:
    match = _CHALLENGE.match(response.headers.get("WWW-Authenticate", ""))
    if match is None:
        raise RegistryError("the registry refuses, and asks for neither Basic nor Bearer credentials")
    return match[1].lower(), {name.lower(): value for name, value in _PARAMETER.findall(match[2])}


def _token(response: httpx.Response) -> str:
    """Return the token of an answer, which is never shown: not in an error either."""
    if response.status_code != httpx.codes.OK:
        raise RegistryError(f"{response.url.host} gives no token: status {response.status_code}. Check the credentials")
    try:
        members = response.json()
        token = members.get("token") or members["access_token"]
    except (ValueError, KeyError, AttributeError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(f"{response.url.host} answers without a token")
    return token
