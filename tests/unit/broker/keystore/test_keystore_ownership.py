"""Whose files and whose roster: another user's, or one with another consent key."""

import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.errors import CeremonyError, KeystoreError, NotReadyError
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.kek import load_kek
from mcbn_protocol.roster import Roster


@pytest.fixture
def as_another_user(monkeypatch):
    ours = os.geteuid()
    return lambda: monkeypatch.setattr(os, "geteuid", lambda: ours + 1)


def test_another_users_data_directory_is_refused(world, as_another_user):
    as_another_user()
    with pytest.raises(KeystoreError, match=r"belongs to user \d+, this runs as \d+"):
        Home.open(world.root, world.kek)


def test_another_users_key_file_is_refused(world, store, tmp_path, as_another_user):
    (tmp_path / "kek").write_bytes(b"k" * 32)
    (tmp_path / "kek").chmod(0o600)
    load_kek(tmp_path / "kek", world.root)
    as_another_user()
    for read in (lambda: load_kek(tmp_path / "kek", world.root), world.home.anchor.read):
        with pytest.raises(KeystoreError, match="belongs to user"):
            read()


def roster_with(world, consent_key: bytes) -> Roster:
    alice, *others = world.roster.participants
    return replace(world.roster, participants=(replace(alice, consent_key=consent_key), *others))


@pytest.fixture
def unadopted(world):
    (world.root / "roster.json").unlink()
    return world


def test_a_roster_with_another_consent_key_of_ours_is_not_adopted(unadopted):
    mallory = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(CeremonyError, match="another consent key"):
        unadopted.home.adopt_roster(roster_with(unadopted, mallory).canonical_bytes)
    assert unadopted.home.adopted_roster() is None
    unadopted.home.adopt_roster(unadopted.roster.canonical_bytes)


def test_no_roster_is_adopted_before_a_card_was_made(unadopted):
    (unadopted.root / "consent-key.public").unlink()
    with pytest.raises(NotReadyError, match="mcbn-broker card"):
        unadopted.home.adopt_roster(unadopted.roster.canonical_bytes)


def test_the_noted_consent_key_may_change_only_before_a_roster_is_adopted(unadopted):
    home, ours = unadopted.home, unadopted.roster.participant("alice").consent_key
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    home.note_consent_key(other)
    home.note_consent_key(ours)
    home.adopt_roster(unadopted.roster.canonical_bytes)
    home.note_consent_key(ours)
    with pytest.raises(CeremonyError, match="another consent key"):
        home.note_consent_key(other)


def test_an_altered_note_is_refused(unadopted):
    (unadopted.root / "consent-key.public").write_bytes(b"\xff")
    with pytest.raises(KeystoreError, match="card"):
        unadopted.home.adopt_roster(unadopted.roster.canonical_bytes)
