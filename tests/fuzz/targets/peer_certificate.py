"""A peer's certificate in mutual TLS: only the expected key passes, whatever is around it."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mcbn_workload.channels.mutual_tls import MutualTlsEngine
from mcbn_workload.channels.peer_certificate import spki_of_certificate, unfit_for_a_leaf
from tests.fuzz.keys import chain
from tests.fuzz.targets.tls_server import CA, CLIENT_KEYS, SERVER_KEYS, SERVERS

MAX_BYTES = 4096


def seeds() -> list[bytes]:
    own = [CLIENT_KEYS.credentials.leaf, SERVER_KEYS.credentials.leaf, CA.certificate]
    return [*(one.public_bytes(Encoding.DER) for one in own), *chain()]


def target(data: bytes) -> None:
    try:
        certificate = x509.load_der_x509_certificate(data)
    except (ValueError, x509.InvalidVersion):  # refused before it is judged
        return
    engine = SERVERS[1]()
    assert isinstance(engine, MutualTlsEngine)
    engine.keys = SERVER_KEYS
    if engine.judge("", certificate):
        assert spki_of_certificate(certificate) == SERVER_KEYS.peer_spki
        assert unfit_for_a_leaf(certificate) is None
    else:
        assert engine.refusal is not None
    assert not engine.judge("certificate has expired", certificate)
