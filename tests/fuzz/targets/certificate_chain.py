"""The certificates of a PKI token in DER, each in turn replaced: no chain vouches for a key but the genuine one."""

import hashlib
from contextlib import suppress

from mcbn_broker.attestation.certificate_chain import Chain, certificates, leaf_key, root_hash
from mcbn_broker.attestation.errors import NotAuthentic
from tests.fuzz.keys import chain, rsa_key
from tests.fuzz.material import NOW, json_object

MAX_BYTES = 4096
GENUINE = Chain(*chain())


def seeds() -> list[bytes]:
    return [bytes([place]) + one for place, one in enumerate(GENUINE)] + [b'{"x5c":["AA==","AQ==","Ag=="]}']


def target(data: bytes) -> None:
    told = json_object(data)
    if told is not None:
        with suppress(NotAuthentic):
            certificates(told)
    place, der = (data[0] % 3 if data else 0), data[1:]
    with suppress(NotAuthentic):
        assert root_hash(der) == hashlib.sha256(der).digest()
    replaced = Chain(*(der if number == place else one for number, one in enumerate(GENUINE)))
    with suppress(NotAuthentic):
        key = leaf_key(replaced, roots={replaced.root_hash}, now=NOW)
        assert key.public_numbers() == rsa_key(1).public_key().public_numbers()
