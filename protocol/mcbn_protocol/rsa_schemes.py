"""The schemes by which both ends of a channel derive the same RSA key."""

from enum import StrEnum


class RsaScheme(StrEnum):
    """How a seed becomes an RSA key. The first is the default; the last two are kept for compatibility."""

    C2SP_DET_KEYGEN = "c2sp-det-keygen"
    GNUTLS_PROVABLE = "gnutls-provable"
    GO_SHA512_READER = "go-sha512-reader"
    GO_HASH_DRBG = "go-hash-drbg"

    @property
    def legacy(self) -> bool:
        """Whether it exists only to give the keys of published programs."""
        return self in (RsaScheme.GO_SHA512_READER, RsaScheme.GO_HASH_DRBG)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The key sizes that it makes, in bits, the default first."""
        return (2048,) if self.legacy else (3072, 2048, 4096)
