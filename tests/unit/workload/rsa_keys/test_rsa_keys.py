"""Derived RSA keys are the published ones bit for bit, with and without gmpy2."""

import base64
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.secret import Secret
from mcbn_workload import rsa_keys
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.rsa_keys import integers, provable_primes
from mcbn_workload.rsa_keys.det_keygen import _HmacDrbg, det_keygen
from mcbn_workload.rsa_keys.errors import RsaKeyError
from mcbn_workload.rsa_keys.go_readers import go_generate_key, hash_drbg_reader, sha512_reader
from mcbn_workload.rsa_keys.numbers import RsaNumbers, exponent_modulo_lcm

COMBINED = bytes.fromhex("cb488e9105faa7e26cf30dcc6042fea07fd71c38953973c356d8ecf80421880e")  # two published shares
COUNTING = bytes(range(32))

# Published with the two Go programs; made by certtool 3.7.9 --provable; the last two made twice, by two authors.
KNOWN = [
    (RsaScheme.GO_SHA512_READER, COMBINED, 2048, "MIIBCgKCAQEA14gGro/kwHL7tqLhRvUb",
     "8csxK9BpuvU24JNkWkET_HdvyNO60ak4ygldsH4Hzew"),
    (RsaScheme.GO_HASH_DRBG, COMBINED, 2048, "MIIBCgKCAQEAynV1FFgMBUCoYltt",
     "w55b4-JhIH7vLIoKJtilo8zS_QQkiXpLkkdILxqfLCA"),
    (RsaScheme.GNUTLS_PROVABLE, COMBINED, 2048, "MIIBCgKCAQEAsv9SPzFfsbJ/a250", None),
    (RsaScheme.GNUTLS_PROVABLE, COMBINED, 3072, "MIIB", "gsg15FCts1cshxTHqXG1VdF2v4bW5TTFYhjfWEvL8iU"),
    (RsaScheme.C2SP_DET_KEYGEN, COUNTING, 2048, "MIIBCgKC", "e5qo86k2qN2P6LbxRvjM4tUX8bu806j_mdlEao-BsTM"),
    (RsaScheme.C2SP_DET_KEYGEN, COUNTING, 3072, "MIIB", "9X9YW9ypnEpPtckZKMhoibpgTm2NPNZF06KIYVeW-9U"),
]  # fmt: skip
DET_KEYGEN_MODULI = {
    2048: "e9d0b024d3bed1a728bfc8a4843b1fe9606780a3f19ca85f2f533fd94743a1c1",
    3072: "5c700847dd8bc944915ac388b508c043418cae06dd7202c8d018f1450191b706",
}


@pytest.fixture(params=["gmpy2", "plain integers"])
def arithmetic(request, monkeypatch):
    if request.param != "gmpy2":
        monkeypatch.setattr(integers, "gmpy2", None)
    elif integers.gmpy2 is None:
        pytest.skip("gmpy2 is not installed: pip install 'mcbn[speedups]'")
    return request.param


KNOWN_BUT_SLOW = (RsaScheme.GNUTLS_PROVABLE, 3072)  # ten seconds of plain arithmetic, in the same code as 2048 bits


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known[0]}-{known[2]}")
def test_the_published_keys(known):
    assert_known(known)


@pytest.mark.parametrize(
    "known", [one for one in KNOWN if (one[0], one[2]) != KNOWN_BUT_SLOW], ids=lambda known: f"{known[0]}-{known[2]}"
)
def test_the_published_keys_without_gmpy2(monkeypatch, known):
    monkeypatch.setattr(integers, "gmpy2", None)
    assert_known(known)


def assert_known(known):
    scheme, seed, bits, beginning, name = known
    key = rsa_keys.derive_rsa_key(scheme, Secret(seed), bits).public_key()
    assert key.key_size == bits
    public = base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode()
    assert public.startswith(beginning)
    if name is not None:
        assert b64u_encode(rsa_keys.spki_sha256(key)) == name


@pytest.mark.parametrize("bits", DET_KEYGEN_MODULI)
def test_the_known_moduli_of_det_keygen(bits):
    numbers = det_keygen(COUNTING, bits)
    modulus = (numbers.p * numbers.q).to_bytes(bits // 8, "big")
    assert hashlib.sha256(modulus).hexdigest() == DET_KEYGEN_MODULI[bits]
    assert numbers.p % 8 == numbers.q % 8 == 7
    assert numbers.d * 65537 % math.lcm(numbers.p - 1, numbers.q - 1) == 1


def test_the_vectors_of_the_det_keygen_specification():
    """`MCBN_DET_KEYGEN_VECTORS` names the folder with the specification's `rsa.json`."""
    folder = os.environ.get("MCBN_DET_KEYGEN_VECTORS")
    if folder is None:
        pytest.skip("MCBN_DET_KEYGEN_VECTORS names no folder with the specification's rsa.json")
    vectors = json.loads(Path(folder, "rsa.json").read_text(encoding="utf-8"))
    assert vectors
    for vector in vectors:
        key = det_keygen(base64.b64decode(vector["seed"]), vector["bits"]).private_key()
        encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        assert base64.b64encode(encoded).decode() == vector["private_key_pkcs8"]


def test_the_generator_gives_the_specifications_p256_key_too():
    """No ECDSA key is made here; but the generator is the same, and its first draw is that key."""
    generator = _HmacDrbg(COUNTING, b"det ECDSA key gen P-256")
    assert generator.draw(32).hex() == "f0c948308de57a854a267c83918aecaa72d3f20549be9ec047122cdd51c4809d"


def test_another_seed_gives_another_key():
    keys = {det_keygen(bytes([number]) * 32, 2048).p for number in range(3)}
    assert len(keys) == 3


@pytest.mark.parametrize("scheme", RsaScheme)
def test_a_size_that_a_scheme_does_not_make_is_refused(scheme):
    with pytest.raises(ConfigurationError, match="makes RSA keys of"):
        rsa_keys.derive_rsa_key(scheme, Secret(COUNTING), 1024)


def test_a_seed_of_another_length_is_refused():
    with pytest.raises(ConfigurationError, match="32 bytes"):
        rsa_keys.derive_rsa_key(RsaScheme.C2SP_DET_KEYGEN, Secret(b"short"), 2048)


def test_a_seed_without_a_key_is_followed_by_the_next(monkeypatch):
    asked = []

    def maker(seed, bits):
        asked.append(seed)
        if len(asked) < 3:
            raise RsaKeyError("none")
        return det_keygen(seed, bits)

    monkeypatch.setitem(rsa_keys._MAKERS, RsaScheme.GNUTLS_PROVABLE, maker)
    rsa_keys.derive_rsa_key(RsaScheme.GNUTLS_PROVABLE, Secret(COUNTING), 2048)
    second, third = (hashlib.sha256(COUNTING + bytes([0, 0, 0, number])).digest() for number in (1, 2))
    assert asked == [COUNTING, second, third]


def test_when_no_seed_gives_a_key_it_says_what_to_do(monkeypatch):
    def none(seed, bits):
        raise RsaKeyError("none")

    monkeypatch.setitem(rsa_keys._MAKERS, RsaScheme.GNUTLS_PROVABLE, none)
    with pytest.raises(RsaKeyError, match="open another epoch"):
        rsa_keys.derive_rsa_key(RsaScheme.GNUTLS_PROVABLE, Secret(COUNTING), 2048)


def test_numbers_are_not_shown():
    assert "1234567" not in repr(RsaNumbers(1234567, 12345678, 123456789))


def test_an_exponent_without_an_inverse():
    assert exponent_modulo_lcm(65537 * 2 + 1, 5) is None
    assert exponent_modulo_lcm(11, 13) == pow(65537, -1, 60)


def test_the_readers_move_on_in_whole_steps():
    first, second = sha512_reader(b"seed"), sha512_reader(b"seed")
    assert first(40)[:32] == second(32)  # 40 bytes take two cycles, of which the rest is dropped
    assert first(32) != second(32)
    assert hash_drbg_reader(b"seed")(70)[:32] == hash_drbg_reader(b"seed")(32)
    reader = hash_drbg_reader(b"seed")
    assert reader(32) != reader(32)


def test_a_go_key_has_all_of_its_bits():
    numbers = go_generate_key(sha512_reader(b"any"), 2048)
    assert (numbers.p * numbers.q).bit_length() == 2048
    assert numbers.d * 65537 % ((numbers.p - 1) * (numbers.q - 1)) == 1


@pytest.mark.parametrize(("number", "prime"), [(2**521 - 1, True), (2**521 - 3, False), (2**607 - 1, True)])
def test_primes(arithmetic, number, prime):
    assert integers.is_prime(number) is prime


def test_a_product_of_two_large_primes_is_no_prime(arithmetic):
    assert not integers.is_prime((2**521 - 1) * (2**607 - 1))
    assert integers.is_prime(2**255 - 19)  # p - 1 has two factors of 2: the squaring loop is used


def test_small_primes():
    assert [number for number in range(40) if integers.is_small_prime(number)][-3:] == [29, 31, 37]
    assert integers.is_small_prime(2**32 - 5)
    assert not integers.is_small_prime(2**32 - 1)
    assert not integers.is_small_prime(65521 * 65519)


def test_provable_primes_wrap_and_give_up(monkeypatch):
    monkeypatch.setattr(provable_primes, "_proved", lambda *_arguments: False)
    seed = provable_primes._Seed(b"\xff" * 32)
    with pytest.raises(RsaKeyError, match="no prime"):
        provable_primes._rsa_prime(seed, 64)
    monkeypatch.setattr(provable_primes, "is_small_prime", lambda _number: False)
    with pytest.raises(RsaKeyError, match="no prime"):
        provable_primes._small_prime(seed, 32)


def test_provable_keys_need_an_inverse_and_distance(monkeypatch):
    primes = iter([11, 11, 2**1000 + 1])
    monkeypatch.setattr(provable_primes, "_rsa_prime", lambda _seed, _bits: next(primes))
    monkeypatch.setattr(provable_primes, "exponent_modulo_lcm", lambda _p, _q: None)
    with pytest.raises(RsaKeyError, match="no inverse"):
        provable_primes.gnutls_provable(COUNTING, 2048)
    assert next(primes, None) is None
