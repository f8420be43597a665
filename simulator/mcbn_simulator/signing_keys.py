"""The issuer's RSA keys: made anew for each run, never stored, two published at a time."""

import dataclasses
import json
import secrets
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from mcbn_simulator.errors import SimulatorError

ALGORITHM: Final = "RS256"
_RSA_BITS: Final = 2048
_RSA_EXPONENT: Final = 65537


@dataclasses.dataclass(frozen=True)
class SigningKey:
    """One RSA-2048 key pair under its key id.

    Attributes:
        kid: 40 lower-case hexadecimal digits, at random.
        private_key: Signs tokens; tests may craft malformed tokens with it.
    """

    kid: str
    private_key: RSAPrivateKey = dataclasses.field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """A fresh key under a fresh id."""
        return cls(secrets.token_hex(20), generate_private_key(_RSA_EXPONENT, _RSA_BITS))

    def jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517): kty, n, e, kid, alg, use."""
        public = RSAAlgorithm.to_jwk(self.private_key.public_key(), as_dict=True)
        return {"kty": "RSA", "n": public["n"], "e": public["e"], "kid": self.kid, "alg": ALGORITHM, "use": "sig"}

    def sign(self, payload: bytes, headers: dict[str, Any] | None = None) -> str:
        """A compact JWS (RFC 7515) over bytes that are taken as they are.

        Args:
            payload: Normally a JSON object; nothing is checked.
            headers: More header members, such as `x5c`, or replacements of `kid` and `typ`.

        Raises:
            SimulatorError: A header member `alg`, or one that PyJWT does not write.
        """
        if headers and "alg" in headers:
            raise SimulatorError("Tokens are always RS256; craft any other header with private_key.")
        try:
            return jwt.PyJWS().encode(payload, self.private_key, ALGORITHM, {"kid": self.kid} | (headers or {}))
        except jwt.PyJWTError as error:
            raise SimulatorError(f"A token with these headers cannot be written: {error}") from error


class KeyRing:
    """The two keys that are published: the previous one, and the one that signs."""

    def __init__(self) -> None:
        self._previous = SigningKey.generate()
        self._current = SigningKey.generate()

    @property
    def current(self) -> SigningKey:
        """The key that signs."""
        return self._current

    def rotate(self) -> None:
        """Sign with a new key; tokens of the last one stay verifiable until the next rotation."""
        self._previous, self._current = self._current, SigningKey.generate()

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The published key set (RFC 7517, section 5)."""
        return {"keys": [self._previous.jwk(), self._current.jwk()]}


def encoded_claims(claims: dict[str, Any]) -> bytes:
    """Claims as the compact JSON of a token's payload."""
    return json.dumps(claims, separators=(",", ":")).encode()
