"""Verifying a Confidential Space token beside the one thing in it that cannot be left out, the RSA signature."""

import functools
import time
from collections.abc import Awaitable, Callable
from typing import Final

import jwt
from bench.agreement import machine, now
from bench.harness import Goal, Options, Report, Sample, doubt, measure
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.confidential_space import (
    LEEWAY_SECONDS,
    MAXIMUM_AGE_SECONDS,
    ConfidentialSpaceVerifier,
)
from mcbn_protocol.encoding import b64u_decode
from mcbn_protocol.identifiers import Role
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.token_options import TokenOptions

RAW: Final = "RS256 verify alone"
OURS: Final = "ConfidentialSpaceVerifier, everything"
PYJWT: Final = "PyJWT decode, signature, aud, iss and times"

_AUDIENCE: Final = "mcbn:v1:" + "0" * 64 + ":alice"
_NONCES: Final = ("c" * 55, "b" * 43)
_OPERATIONS: Final = 1000
_LIMIT: Final = 12.0
_MICROSECONDS: Final = 1_000_000


class _OneKey:
    def __init__(self, key: RSAPublicKey) -> None:
        self._key = key

    async def key(self, _issuer: str, _key_id: str) -> RSAPublicKey:
        return self._key


async def run(options: Options) -> Report:
    """Measure all three on one token."""
    issuer = Issuer("http://127.0.0.1:9")
    token = issuer.issue(machine(Role.CLIENT, 0), TokenOptions(audience=_AUDIENCE, nonces=_NONCES))
    key = issuer.signing_key.private_key.public_key()
    operations = options.operations(_OPERATIONS)
    verifier = ConfidentialSpaceVerifier(
        _OneKey(key), maximum_age_seconds=MAXIMUM_AGE_SECONDS, leeway_seconds=LEEWAY_SECONDS
    )
    anchors = TrustAnchors(frozenset({issuer.issuer_url}), {})
    verify = functools.partial(
        verifier.verify,
        anchors=anchors,
        audience=_AUDIENCE,
        nonces=_NONCES,
        now=now(),
    )
    signing_input, _, signature = token.rpartition(".")
    raw = functools.partial(key.verify, b64u_decode(signature), signing_input.encode("ascii"), PKCS1v15(), SHA256())
    decode = functools.partial(
        jwt.decode, token, key, algorithms=["RS256"], audience=_AUDIENCE, issuer=issuer.issuer_url
    )
    variants = {
        RAW: functools.partial(_repeat, raw, operations),
        OURS: functools.partial(_repeat_async, functools.partial(verify, token), operations),
        PYJWT: functools.partial(_repeat, decode, operations),
    }
    series = await measure(options.rounds, "us CPU", variants)
    why_not = doubt(series[RAW], options.rounds)
    return Report(
        f"Tokens: {len(token)} characters, RS256-2048, {operations} operations a round",
        series[RAW],
        list(series.values()),
        [Goal("verification / RS256 alone", series[OURS].ratio(series[RAW]), _LIMIT, doubt=why_not)],
    )


async def _repeat(call: Callable[[], object], operations: int) -> Sample:
    started = time.thread_time()
    for _ in range(operations):
        call()
    return _each(started, operations)


async def _repeat_async(call: Callable[[], Awaitable[object]], operations: int) -> Sample:
    started = time.thread_time()
    for _ in range(operations):
        await call()
    return _each(started, operations)


def _each(started: float, operations: int) -> Sample:
    return Sample((time.thread_time() - started) / operations * _MICROSECONDS)
