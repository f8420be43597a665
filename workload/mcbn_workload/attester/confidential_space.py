"""Tokens from Confidential Space's launcher: plain HTTP on a unix socket inside the VM."""

import asyncio
import re
import ssl
from pathlib import Path
from typing import Final

import httpx

from mcbn_protocol.encoding import canonical
from mcbn_protocol.limits import TOKEN_CHARS
from mcbn_workload.attester import AttesterError, TokenKind

_URL: Final = "http://localhost/v1/token"
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SHOWN_CHARS: Final = 200  # of an error text
_NO_ROOTS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used: without it each token loads a set of roots


class ConfidentialSpace:
    """Asks the launcher for tokens."""

    def __init__(
        self, socket: Path, *, deadline_seconds: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            socket: The launcher's unix socket.
            deadline_seconds: For one token, everything included.
            transport: What carries the request, if not the socket.
        """
        self._socket = socket
        self._deadline_seconds = deadline_seconds
        self._transport = transport

    async def token(self, kind: TokenKind, audience: str, nonces: tuple[str, ...]) -> str:
        """Return a token of this kind, with this audience and these nonces; see `Attester.token`."""
        body = canonical({"audience": audience, "nonces": list(nonces), "token_type": kind.value})
        try:
            async with asyncio.timeout(self._deadline_seconds):
                status, answer = await self._ask(body)
        except TimeoutError as error:
            raise AttesterError(
                f"the launcher gave no token within {self._deadline_seconds:g} s", transient=True
            ) from error
        except (httpx.HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        return _checked(status, answer)

    async def _ask(self, body: bytes) -> tuple[int, bytes]:
        transport = self._transport or httpx.AsyncHTTPTransport(
            uds=str(self._socket), verify=_NO_ROOTS, trust_env=False
        )
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(transport=transport, trust_env=False, timeout=None) as client,  # noqa: S113  # see token
            client.stream("POST", _URL, content=body, headers=headers) as response,
        ):
            return response.status_code, await _read(response)

    def _unreachable(self, error: Exception) -> AttesterError:
        if not self._socket.exists():
            return AttesterError(
                f"there is no launcher socket {self._socket}: keys are to be had only inside a Confidential Space VM",
                transient=False,
            )
        return AttesterError(f"the launcher does not answer: {type(error).__name__}: {error}", transient=True)


async def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > TOKEN_CHARS:
            raise AttesterError(f"the launcher's answer is longer than {TOKEN_CHARS} bytes", transient=False)
    return bytes(data)


def _checked(status: int, answer: bytes) -> str:
    if status != httpx.codes.OK:
        text = answer[:_SHOWN_CHARS].decode("utf-8", "backslashreplace")
        # 400 and 500 both come from the attestation service too, its quota included: asking again may help.
        raise AttesterError(f"the launcher answers {status}: {text!r}", transient=True)
    if not _TOKEN.fullmatch(answer):
        raise AttesterError(f"the launcher's answer of {len(answer)} bytes is not a token", transient=False)
    return answer.decode("ascii")
