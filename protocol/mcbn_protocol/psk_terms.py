"""The manifest's terms for channels under a PSK whose peers cannot do better. Each gives something up."""

from enum import StrEnum
from typing import Final


class PskSuite(StrEnum):
    """Cipher suites of TLS 1.2 and DTLS 1.2 without forward secrecy (RFC 5487, RFC 6655), by OpenSSL's names.

    Whoever learns an epoch's shares later can then open what was recorded before.
    """

    AES128_GCM = "PSK-AES128-GCM-SHA256"
    AES128_CCM8 = "PSK-AES128-CCM8"  # and tags of 8 bytes only


class PskProfile(StrEnum):
    """PSKs and identities of systems that came before the key schedule.

    `mcbn-2023`: the raw output of a legacy combination is the PSK of every channel, under one fixed identity. Neither
    is bound to manifest, epoch, roles or transport.
    """

    MCBN_2023 = "mcbn-2023"


PROFILE_IDENTITY: Final = {PskProfile.MCBN_2023: "Client1"}
"""The PSK identity of each profile."""
