import os
from dataclasses import replace

import pytest
from hypothesis import given, strategies

from mcbn_broker.errors import CeremonyError, KeystoreError, NotReadyError, UsageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey, create_kek, find_kek, load_kek
from mcbn_broker.keystore.sealing import SealedFor, SealedKind, seal, unseal
from mcbn_broker.keystore.serve_lock import file_lock, is_serving, serve_lock
from mcbn_protocol.errors import MalformedError, RosterError
from mcbn_protocol.identifiers import RosterHash
from mcbn_protocol.roster import Roster
from mcbn_protocol.secret import Secret
from mcbn_protocol.shares import Share

KEY = Secret(b"k" * 32)
PURPOSE = SealedFor(SealedKind.SHARE, RosterHash(b"r" * 32), "alice", 3, 1)


# --- the key-encryption key


def test_the_kek_is_what_the_user_said_else_the_credential(tmp_path):
    assert find_kek(tmp_path / "kek", tmp_path) == tmp_path / "kek"
    assert find_kek(None, tmp_path) == tmp_path / "mcbn-kek"
    with pytest.raises(UsageError, match="--kek-file"):
        find_kek(None, None)


def test_a_created_kek_is_loaded_and_never_replaced(tmp_path):
    path = tmp_path / "keys" / "kek"
    kek = create_kek(path, tmp_path / "data")
    assert load_kek(path, tmp_path / "data") == kek
    with pytest.raises(KeystoreError, match="exists"):
        create_kek(path, tmp_path / "data")


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_kek_of_another_length_is_refused(tmp_path, length):
    path = tmp_path / "kek"
    path.touch(0o600)
    path.write_bytes(b"k" * length)
    with pytest.raises(KeystoreError, match=f"has {length} bytes"):
        load_kek(path, tmp_path / "data")


def test_a_kek_that_others_can_read_is_refused(tmp_path):
    create_kek(tmp_path / "kek", tmp_path / "data")
    (tmp_path / "kek").chmod(0o640)
    with pytest.raises(KeystoreError, match="open to others"):
        load_kek(tmp_path / "kek", tmp_path / "data")


def test_a_kek_inside_of_the_data_directory_is_refused_also_through_a_link(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(KeystoreError, match="inside of the data directory"):
        create_kek(data / "kek", data)
    (tmp_path / "link").symlink_to(data / "kek")
    with pytest.raises(KeystoreError, match="inside of the data directory"):
        load_kek(tmp_path / "link", data)


# --- sealing at rest


@given(strategies.binary(min_size=1, max_size=64))
def test_what_was_sealed_unseals(plaintext):
    assert unseal(KEY, PURPOSE, seal(KEY, PURPOSE, Secret(plaintext), os.urandom)) == plaintext


@pytest.mark.parametrize(
    "other",
    [
        replace(PURPOSE, kind=SealedKind.EPOCH_KEY),
        replace(PURPOSE, roster_hash=RosterHash(b"s" * 32)),
        replace(PURPOSE, roster_hash=None),
        replace(PURPOSE, participant="bob"),
        replace(PURPOSE, epoch=4),
        replace(PURPOSE, index=2),
    ],
)
def test_nothing_unseals_for_another_purpose(other):
    with pytest.raises(KeystoreError, match="does not open"):
        unseal(KEY, other, seal(KEY, PURPOSE, Secret(b"x" * 32), os.urandom))


def test_nothing_unseals_under_another_key_or_altered():
    sealed = seal(KEY, PURPOSE, Secret(b"x" * 32), os.urandom)
    with pytest.raises(KeystoreError, match="--kek-file"):
        unseal(Secret(b"l" * 32), PURPOSE, sealed)
    for place in range(len(sealed)):
        flipped = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(KeystoreError):
            unseal(KEY, PURPOSE, flipped)
    for length in range(len(sealed)):
        with pytest.raises(KeystoreError):
            unseal(KEY, PURPOSE, sealed[:length])


# --- the data directory


def test_a_data_directory_opens_again_with_the_same_keys(world):
    again = Home.open(world.root, world.kek)
    assert again.identity == Identity("demo", "alice", "https://alice.example")
    assert again.release_key.private_bytes_raw() == world.home.release_key.private_bytes_raw()
    assert again.challenge_key == world.home.challenge_key
    assert again.roster() == world.roster


def test_a_data_directory_is_never_made_twice(world):
    with pytest.raises(NotReadyError, match="already"):
        Home.create(world.root, world.home.identity, world.kek)


def test_another_kek_opens_no_key(world):
    with pytest.raises(KeystoreError, match="another key-encryption key"):
        _ = Home.open(world.root, KeyEncryptionKey(b"l" * 32)).release_key
    with pytest.raises(KeystoreError, match="--kek-file"):
        _ = Home.open(world.root, None).challenge_key


def test_keys_exchanged_for_one_another_do_not_open(world):
    release, challenge = world.root / "release.key", world.root / "challenge.key"
    kept = release.read_bytes()
    release.write_bytes(challenge.read_bytes())
    challenge.write_bytes(kept)
    home = Home.open(world.root, world.kek)
    with pytest.raises(KeystoreError):
        _ = home.release_key
    with pytest.raises(KeystoreError):
        _ = home.challenge_key


def test_opening_says_what_to_do_first(tmp_path, world):
    with pytest.raises(NotReadyError, match="init"):
        Home.open(tmp_path / "nothing", world.kek)
    world.root.chmod(0o750)
    with pytest.raises(KeystoreError, match="open to others"):
        Home.open(world.root, world.kek)


def test_an_identity_with_an_unknown_member_is_refused(world):
    path = world.root / "broker.json"
    path.write_bytes(path.read_bytes()[:-1] + b',"debug":true}')
    with pytest.raises(MalformedError, match=r"unknown member .debug"):
        Home.open(world.root, world.kek)


@pytest.mark.parametrize("url", ["https://a:99999", "https://256.1.1.1", "https://a..b"])
def test_an_identity_with_an_address_that_can_be_none_is_refused(url):
    with pytest.raises(MalformedError, match="URL"):
        Identity.parse(Identity("demo", "alice", url).to_bytes())


def test_a_roster_is_adopted_once(world):
    assert world.home.adopt_roster(world.roster.canonical_bytes) == world.roster
    other = replace(world.roster, threshold=2)
    with pytest.raises(CeremonyError, match="new network"):
        world.home.adopt_roster(other.canonical_bytes)
    assert world.home.roster() == world.roster


def test_only_a_roster_that_names_us_with_our_key_is_adopted(world, tmp_path):
    home = Home.create(tmp_path / "other", world.home.identity, world.kek)
    with pytest.raises(NotReadyError, match="share new --roster"):
        home.roster()
    with pytest.raises(CeremonyError, match="another release key"):
        home.adopt_roster(world.roster.canonical_bytes)
    with pytest.raises(CeremonyError, match="demo2"):
        home.adopt_roster(replace(world.roster, network="demo2").canonical_bytes)
    without = Roster("demo", world.roster.participants[1:], 2)
    with pytest.raises(RosterError, match="alice"):
        home.adopt_roster(without.canonical_bytes)
    assert home.adopted_roster() is None


def test_a_share_opens_only_in_its_place_and_never_after_its_key_was_destroyed(world):
    share = Share(os.urandom(32))
    sealed = world.home.seal_share(share, roster=world.roster, epoch=1)
    assert world.home.unseal_share(sealed, roster=world.roster, epoch=1) == share
    later = world.home.seal_share(Share(os.urandom(32)), roster=world.roster, epoch=2)
    with pytest.raises(KeystoreError):
        world.home.unseal_share(sealed, roster=world.roster, epoch=2)
    with pytest.raises(KeystoreError):
        world.home.unseal_share(later, roster=world.roster, epoch=1)
    world.home.epoch_keys.destroy(1)
    with pytest.raises(KeystoreError, match="No such file"):
        world.home.unseal_share(sealed, roster=world.roster, epoch=1)


def test_only_one_serve_runs(tmp_path):
    with serve_lock(tmp_path):
        with pytest.raises(NotReadyError, match="another serve"), serve_lock(tmp_path):
            pass
        with file_lock(tmp_path / "other.lock"):
            pass
    with serve_lock(tmp_path):
        pass


def test_a_look_whether_a_serve_runs_neither_keeps_nor_breaks_the_lock(tmp_path):
    assert not is_serving(tmp_path)
    with serve_lock(tmp_path):
        assert is_serving(tmp_path)
        with pytest.raises(NotReadyError, match="another serve"), serve_lock(tmp_path):
            pass
        assert is_serving(tmp_path)
    assert not is_serving(tmp_path)


def test_a_lock_that_cannot_be_made_is_an_error_of_ours(tmp_path):
    with pytest.raises(KeystoreError, match="cannot be opened"), serve_lock(tmp_path / "nowhere"):
        pass
