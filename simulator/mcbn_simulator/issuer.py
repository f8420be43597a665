"""The attestation service: a name, its keys, and tokens for simulated machines."""

import time
from collections.abc import Callable
from typing import Any, Final

from mcbn_simulator.certificates import TokenCertificates
from mcbn_simulator.claims import claims_for
from mcbn_simulator.document_faults import DocumentFaults
from mcbn_simulator.errors import ServiceError, SimulatorError
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.signing_keys import ALGORITHM, KeyRing, SigningKey, encoded_claims
from mcbn_simulator.token_options import TokenOptions

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
PKI_ROOT_PATH: Final = "/.well-known/attestation-pki-root"
ROOT_PATH: Final = "/.well-known/simulated_confidential_space_root.crt"
PKI: Final = "PKI"
TOKEN_TYPES: Final = ("OIDC", PKI)
JWKS_PATH: Final = "/v1/metadata/jwk/signer@simulated-confidential-space"
_CLAIMS_SUPPORTED: Final = (
    *("sub", "aud", "exp", "iat", "iss", "jti", "nbf"),
    *("dbgstat", "eat_nonce", "google_service_accounts", "hwmodel", "oemid"),
    *("secboot", "submods", "swname", "swversion"),
)


class Issuer:
    """An in-memory counterpart of Google's attestation service.

    Args:
        issuer_url: The `iss` of its tokens, without a slash at the end; None until it is served or named.
        clock: Unix seconds; a test may move it.

    Attributes:
        certificates: What vouches for PKI tokens.
        faults: What is wrong with the published documents now.
    """

    def __init__(self, issuer_url: str | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._url: str | None = None
        self._clock = clock
        self._keys = KeyRing()
        self.certificates: Final = TokenCertificates(clock())
        self.faults = DocumentFaults()
        if issuer_url is not None:
            self.issuer_url = issuer_url

    @property
    def is_named(self) -> bool:
        """Whether it has a name yet."""
        return self._url is not None

    @property
    def issuer_url(self) -> str:
        """The issuer's name.

        Raises:
            SimulatorError: It has none yet.
        """
        if self._url is None:
            raise SimulatorError("The issuer has no name yet: set issuer_url, or serve it.")
        return self._url

    @issuer_url.setter
    def issuer_url(self, url: str) -> None:
        if url.endswith("/"):
            raise SimulatorError(f"The issuer name {url!r} must not end in a slash.")
        self._url = url

    @property
    def signing_key(self) -> SigningKey:
        """The key that signs now."""
        return self._keys.current

    def discovery(self) -> dict[str, Any]:
        """The provider metadata (OpenID Connect Discovery 1.0, section 3)."""
        return {
            "issuer": self.issuer_url,
            "jwks_uri": self.issuer_url + JWKS_PATH,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": list(_CLAIMS_SUPPORTED),
            "scopes_supported": ["openid"],
        }

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The key set: the previous key and the current one."""
        return self._keys.jwks()

    def pki_root(self) -> dict[str, str]:
        """Where the root certificate of PKI tokens is."""
        return {"root_ca_uri": self.issuer_url + ROOT_PATH}

    def rotate(self) -> None:
        """Make a new signing key; the set keeps the last one and forgets the one before."""
        self._keys.rotate()

    def sign(self, claims: dict[str, Any], *, headers: dict[str, Any] | None = None) -> str:
        """A token over exactly these claims; nothing is added, `iss` neither."""
        return self.signing_key.sign(encoded_claims(claims), headers)

    def issue(self, machine: SimulatedMachine, options: TokenOptions) -> str:
        """What the service answers to a launcher.

        Raises:
            ServiceError: InvalidArgument for nonces outside the limits, Unimplemented for a type not in `TOKEN_TYPES`.
        """
        if options.token_type not in TOKEN_TYPES:
            names = " and ".join(TOKEN_TYPES)
            raise ServiceError("Unimplemented", f"token type {options.token_type!r} is not simulated, only {names}")
        claims = claims_for(
            machine,
            issuer=self.issuer_url,
            audience=options.audience,
            nonces=options.nonces,
            now=self._clock(),
        )
        return self.sign(claims, headers=self._headers(options.token_type))

    def _headers(self, token_type: str) -> dict[str, Any]:
        return {"x5c": self.certificates.chain(self.signing_key.private_key)} if token_type == PKI else {}

    async def token(self, machine: SimulatedMachine, options: TokenOptions) -> str:
        """`issue` in the form that a launcher in the same process awaits."""
        return self.issue(machine, options)
