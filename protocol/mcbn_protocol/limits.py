"""The size and range limits of protocol objects, with their units, in one place."""

from typing import Final

REQUEST_BYTES: Final = 64 * 1024  # any request body that a broker reads
RESPONSE_BYTES: Final = 64 * 1024  # any answer to a challenge or release request that a workload reads
CARD_BYTES: Final = 16 * 1024  # a participant or commitment card, or a single signature file
ROSTER_BYTES: Final = 64 * 1024
MANIFEST_BYTES: Final = 512 * 1024  # a manifest bundle: the payload and every participant's signature

JSON_DEPTH: Final = 32  # arrays and objects within one another, in any JSON that is read
TOKEN_CHARS: Final = 32 * 1024  # an attestation token; a PKI token is over 11 KB, an OIDC token under 4 KB
PARTICIPANTS: Final = 100
EVIDENCE_PER_ROLE: Final = 8
LIST_ITEMS: Final = 256  # digests, project numbers, service accounts, environment names, arguments
TEXT_CHARS: Final = 2048  # a URL, an argument, an environment value
PEM_CHARS: Final = 64 * 1024  # a broker's TLS CA bundle

EPOCH_MAX: Final = 2**53 - 1  # I-JSON (RFC 7493 section 2.2): integers that every JSON parser keeps
TIME_MAX: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, Unix seconds
LEASE_SECONDS_MIN: Final = 5
LEASE_SECONDS_MAX: Final = 7 * 24 * 3600
VALIDITY_SECONDS_MAX: Final = 2 * 366 * 24 * 3600
INSTANCES_MAX: Final = 10_000

SHARE_BYTES: Final = 32
HASH_BYTES: Final = 32
CHALLENGE_BYTES: Final = 41  # version 1, expiry 8, random 16, keyed MAC 16
CHALLENGE_CHARS: Final = 55  # their base64url without padding; a nonce must have 10 to 74 characters
