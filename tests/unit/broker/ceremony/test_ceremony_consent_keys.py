"""The consent key's file: opens with its passphrase only, and is never weaker than it was made."""

import dataclasses
import itertools
import json

import pytest

from mcbn_broker.ceremony.consent_keys import ConsentKeyFile
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.ceremony.signing_session import create_key_files, journal_path, read_consent_key
from mcbn_broker.errors import CeremonyError, UsageError
from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import MalformedError

PASSPHRASE = Passphrase.from_text("correct horse battery")


def counted():
    """Random bytes that differ from call to call and from run to run do not."""
    numbers = itertools.count(1)
    return lambda length: bytes([next(numbers)]) * length


@pytest.fixture(scope="module")
def key():
    return ConsentKeyFile.make(PASSPHRASE, random=counted())


def test_file_opens_with_its_passphrase_after_a_round_trip(key):
    read = ConsentKeyFile.parse(key.to_bytes())
    assert read == key
    assert read.unseal(PASSPHRASE).public_key().public_bytes_raw() == key.public_key


def test_private_key_is_nowhere_in_the_file(key):
    private = key.unseal(PASSPHRASE).private_bytes_raw()
    assert private == bytes([1]) * 32
    assert private.hex() not in key.to_bytes().decode()
    assert private not in (key.sealed[:32], key.salt, key.nonce)


def test_another_passphrase_does_not_open_it(key):
    with pytest.raises(CeremonyError, match="does not open"):
        key.unseal(Passphrase.from_text("correct horse batterx"))


@pytest.mark.parametrize("member", ["salt", "nonce", "sealed", "public_key"])
def test_flipped_bit_is_refused(key, member):
    value = getattr(key, member)
    flipped = bytes([value[0] ^ 1]) + value[1:]
    with pytest.raises(CeremonyError):
        dataclasses.replace(key, **{member: flipped}).unseal(PASSPHRASE)


@pytest.mark.parametrize(
    ("name", "value"), [("iterations", 2), ("memory_kib", 65535), ("memory_kib", 2**30), ("iterations", 10**6)]
)
def test_file_with_a_cheaper_or_ruinous_cost_is_refused(key, name, value):
    members = json.loads(key.to_bytes())
    members["argon2id"][name] = value
    with pytest.raises(MalformedError, match=name):
        ConsentKeyFile.parse(canonical(members))


def test_unknown_member_is_refused(key):
    members = json.loads(key.to_bytes())
    with pytest.raises(MalformedError, match="unknown member"):
        ConsentKeyFile.parse(canonical(members | {"extra": 1}))


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 11, "x" * 1025, "two lines of\nwords here", "new\x85line like this"]
)
def test_bad_passphrase_is_refused(text):
    with pytest.raises(CeremonyError, match="passphrase"):
        Passphrase.from_text(text)


def test_passphrase_is_the_same_from_every_keyboard_and_hides_itself():
    composed, decomposed = (
        Passphrase.from_text("pâté de campagne"),
        Passphrase.from_text("pa\u0302te\u0301 de campagne"),
    )
    assert composed == decomposed
    assert "campagne" not in repr(composed)


def test_files_are_private_and_never_replaced(key, tmp_path):
    path = tmp_path / "alice.consent-key.json"
    create_key_files(path, key)
    assert read_consent_key(path) == key
    assert journal_path(path).name == "alice.consent-key.signed.json"
    assert {one.stat().st_mode & 0o777 for one in (path, journal_path(path))} == {0o600}
    with pytest.raises(UsageError, match="never replaced"):
        create_key_files(path, key)
    path.unlink()
    with pytest.raises(UsageError, match=r"signed\.json"):
        create_key_files(path, key)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["alice.consent-key.signed.json"]
