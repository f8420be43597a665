"""`manifest show` and `sign`: every term is shown, what is dangerous is shown loudly, and a no signs nothing."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.ceremony.consent_keys import ConsentKeyFile
from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.ceremony.signing_session import create_key_files, journal_path
from mcbn_broker.cli.manifest import signing, terms_view
from mcbn_broker.cli.manifest.terms_view import terms_warnings
from mcbn_broker.errors import EXIT_CODES
from mcbn_protocol.encoding import canonical
from mcbn_protocol.identifiers import ManifestHash, Role, RosterHash
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.manifest import BrokerAddress, ChannelKind, Manifest, RoleTerms
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_protocol.psk_terms import PskProfile, PskSuite
from mcbn_protocol.reference_values import PRODUCTION_ISSUER, ConfidentialSpaceReference, SupportAttribute, ValueRule
from mcbn_protocol.roster import Participant, Roster
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.sealing import Kem

PASSPHRASE = "correct horse battery"
CERTIFICATE = (Path(__file__).parents[3] / "authority.pem").read_text()


CONSENT_BYTES, RELEASE_BYTES = {"alice": 1, "bob": 2}, {"alice": 11, "bob": 12}  # private keys, each one byte repeated


def public_key(byte):
    return Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32).public_key().public_bytes_raw()


PEOPLE = [Participant(name, public_key(byte), public_key(RELEASE_BYTES[name])) for name, byte in CONSENT_BYTES.items()]
ROSTER = Roster("demo", tuple(PEOPLE), 2)


@cache
def consent_key(name):
    """A participant's consent key, sealed: slow by design."""
    byte = bytes([CONSENT_BYTES[name]])
    return ConsentKeyFile.make(Passphrase.from_text(PASSPHRASE), random=lambda length: byte * length)


def reference(digest, **changes):
    values: dict[str, Any] = {
        "issuer": PRODUCTION_ISSUER,
        "root": None,
        "image_digests": (f"sha256:{digest * 32}",),
        "image_signatures": None,
        "hwmodels": ("GCP_INTEL_TDX",),
        "dbgstat": "disabled-since-boot",
        "support_attribute": SupportAttribute.STABLE,
        "args": ("/bin/server", "--fast"),
        "env": {"PATH": "/bin"},
        "env_override": {"MCBN_CONNECT": ValueRule("*:8443", is_pattern=True)},
        "restart_policies": ("Never",),
        "monitoring_memory": False,
        "project_numbers": ("100000000001",),
        "instance_ids": None,
        "service_accounts": None,
        "insecure_debug": False,
    }
    return ConfidentialSpaceReference(**(values | changes))


def manifest(**changes):
    client = {name: changes.pop(name) for name in list(changes) if name in ConfidentialSpaceReference.__annotations__}
    server = {name: client[name] for name in ("issuer",) if name in client}
    return dataclasses.replace(
        Manifest(
            roster_hash=RosterHash(ROSTER.hash),
            epoch=2,
            previous=ManifestHash(b"\x22" * 32),
            valid_from=1_900_000_000,
            valid_until=1_900_086_400,
            overlap_seconds=600,
            scheme=Scheme.HKDF_SHA256,
            commitments={"alice": b"\x0a" * 32, "bob": b"\x0b" * 32},
            brokers={
                "alice": BrokerAddress("https://broker.alice.example", None),
                "bob": BrokerAddress("https://broker.bob.example", CERTIFICATE),
            },
            roles={
                Role.CLIENT: RoleTerms(3, (reference("c1", **client),)),
                Role.SERVER: RoleTerms(1, (reference("5e", **server),)),
            },
            channels=(ChannelKind.TLS13_PSK,),
            kems=(Kem.X25519,),
            lease_seconds=300,
            insecure_http=False,
            insecure_scheme=False,
        ),
        **changes,
    )


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """What the commands take for the present; a test may set another time in it."""
    time = [manifest().valid_from]
    for module in (signing, terms_view):
        monkeypatch.setattr(module, "now", lambda: time[0])
    return time


@pytest.fixture
def place(tmp_path):
    """A folder with roster, Alice's key and passphrase, and the draft."""
    (tmp_path / "roster.json").write_bytes(ROSTER.canonical_bytes)
    (tmp_path / "manifest.json").write_bytes(Draft.of(manifest()).payload_bytes)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    create_key_files(tmp_path / "key.json", consent_key("alice"))
    return tmp_path


def sign_words(place):
    return [
        *("manifest", "sign", place / "manifest.json", "--roster", place / "roster.json"),
        *("--consent-key", place / "key.json", "--passphrase-file", place / "passphrase"),
        *("--out", place / "alice.signature.json"),
    ]


@pytest.mark.parametrize(
    "shown",
    [
        "c1" * 32,
        "5e" * 32,
        Draft.of(manifest()).hash.hex(),
        ROSTER.hash.hex(),
        "22" * 32,
        "0a" * 32,
        "2030-03-17 17:46:40 UTC",
        "5 min",
        "10 min",
        "hkdf-sha256",
        "x25519",
        "tls13-psk",
        "https://broker.bob.example",
        "489163107042d8cd15d1f459fe4a438e6850f21e50ff2959ff27c920872316b2",
        "CN=bob's authority",
        PRODUCTION_ISSUER,
        "GCP_INTEL_TDX",
        "CONFIDENTIAL_SPACE",
        '["/bin/server", "--fast"]',
        'PATH = "/bin"',
        'MCBN_CONNECT matches "*:8443"',
        "disabled-since-boot",
        "100000000001",
        "Never",
    ],
)
def test_every_term_is_shown(command, place, shown):
    assert shown in command("manifest", "show", place / "manifest.json").out


def test_no_member_of_the_manifest_is_left_out_of_the_table(command, place):
    """A new term must be shown to signers: whoever adds one to the manifest has to add it here and to the table."""
    assert set(Manifest.__annotations__) == {
        *("roster_hash", "epoch", "previous", "valid_from", "valid_until", "overlap_seconds", "scheme", "commitments"),
        *("brokers", "roles", "channels", "kems", "lease_seconds", "insecure_http", "insecure_scheme"),
        *("mutual_tls", "insecure_psk_suites", "insecure_psk_profile", "key_log"),
    }
    assert set(RoleTerms.__annotations__) == {"instances", "evidence"}
    assert set(ConfidentialSpaceReference.__annotations__) == {
        *(
            "issuer",
            "root",
            "image_digests",
            "image_signatures",
            "hwmodels",
            "dbgstat",
            "support_attribute",
            "args",
            "env",
            "env_override",
        ),
        *("restart_policies", "monitoring_memory", "project_numbers", "instance_ids", "service_accounts"),
        "insecure_debug",
    }


def test_json_holds_the_manifest_and_says_what_is_verified(command, place):
    value = json.loads(command("manifest", "show", place / "manifest.json", "--output", "json").out)
    assert value["manifest"] == manifest().to_payload()
    assert (value["signed_by"], value["verified"], value["warnings"]) == ([], False, [])


MUTUAL = MutualTlsTerms(LeafKind.RSA, RsaScheme.C2SP_DET_KEYGEN, 3072)
SHARED = MutualTlsTerms(LeafKind.RSA, RsaScheme.GNUTLS_PROVABLE, 2048, insecure_shared_key=True)
OLD = MutualTlsTerms(LeafKind.RSA, RsaScheme.GO_HASH_DRBG, 2048, insecure_rsa_scheme=True)


@pytest.mark.parametrize(
    ("terms", "shown"),
    [
        (MUTUAL, "rsa keys of 3072 bits by c2sp-det-keygen, one for each role"),
        (SHARED, "rsa keys of 2048 bits by gnutls-provable, one for both roles"),
        (MutualTlsTerms(LeafKind.ED25519, None, None), "ed25519 keys, one for each role"),
    ],
)
def test_the_terms_of_mutual_tls_are_shown(command, place, terms, shown):
    (place / "manifest.json").write_bytes(
        Draft.of(manifest(channels=(ChannelKind.MTLS13,), mutual_tls=terms)).payload_bytes
    )
    assert shown in command("manifest", "show", place / "manifest.json").out


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"key_log": True}, "key_log: an image that can writes its channels' secrets"),
        (
            {"channels": (ChannelKind.DTLS12_PSK,), "insecure_psk_suites": (PskSuite.AES128_GCM,)},
            "insecure_psk_suites: PSK-AES128-GCM-SHA256",
        ),
        (
            {
                "scheme": Scheme.SHA256_CONCAT,
                "insecure_scheme": True,
                "overlap_seconds": 0,
                "insecure_psk_profile": PskProfile.MCBN_2023,
            },
            "insecure_psk_profile: mcbn-2023: one key for every channel",
        ),
        ({"channels": (ChannelKind.MTLS13,), "mutual_tls": SHARED}, "insecure_shared_key: both roles have one key"),
        ({"channels": (ChannelKind.MTLS13,), "mutual_tls": OLD}, "insecure_rsa_scheme: go-hash-drbg"),
        ({"issuer": "https://simulator.example"}, "SIMULATED ISSUER https://simulator.example"),
        ({"dbgstat": "enabled", "support_attribute": SupportAttribute.NONE, "insecure_debug": True}, "insecure_debug"),
        ({"insecure_http": True}, "insecure_http"),
        ({"insecure_scheme": True, "scheme": Scheme.SHA256_CONCAT}, "insecure_scheme: sha256-concat"),
        ({"project_numbers": ()}, "client: project any"),
        ({"support_attribute": SupportAttribute.USABLE}, "client: support attribute USABLE"),
    ],
)
def test_dangerous_terms_are_loud(command, place, changes, warning):
    draft = Draft.of(manifest(**changes))
    assert any(warning in text for text in terms_warnings(draft.manifest))
    (place / "manifest.json").write_bytes(draft.payload_bytes)
    result = command(*sign_words(place), "--yes")
    assert result.status == 0
    assert any(line.startswith("WARNING: ") and warning in line for line in result.err.splitlines())


def test_harmless_terms_warn_of_nothing():
    assert terms_warnings(manifest()) == []


def test_escape_sequences_in_terms_reach_no_terminal(command, place):
    hidden = manifest(args=("\x1b[2J\x1b[1;1H", "\u202etxt.exe"), env={"PATH": "\x1b[8m"})
    (place / "manifest.json").write_bytes(Draft.of(hidden).payload_bytes)
    shown = command("manifest", "show", place / "manifest.json").out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "u001b[2J" in shown


def test_without_a_terminal_sign_asks_for_yes_and_records_nothing(command, place):
    before = journal_path(place / "key.json").read_bytes()
    result = command(*sign_words(place))
    assert result.status == EXIT_CODES["usage"].number
    assert "--yes" in result.err
    assert journal_path(place / "key.json").read_bytes() == before
    assert not (place / "alice.signature.json").exists()


@pytest.mark.parametrize("answer", [True, False])
def test_question_comes_after_the_terms_and_no_signs_nothing(command, place, monkeypatch, answer):
    asked = []

    def confirm(question, *, err):
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", confirm)
    result = command(*sign_words(place))
    assert ["rebuild" in question for question in asked] == [True]
    assert "c1" * 32 in result.err
    assert result.out == ""
    assert (result.status == 0, (place / "alice.signature.json").exists()) == (answer, answer)


def test_expired_manifest_is_not_signed(command, place, clock):
    before = journal_path(place / "key.json").read_bytes()
    clock[0] = manifest().valid_until
    result = command(*sign_words(place), "--yes")
    assert result.status == EXIT_CODES["refused"].number
    assert "manifest.json: this manifest expired at 2030-03-18 17:46:40 UTC: draft the next epoch" in result.err
    assert journal_path(place / "key.json").read_bytes() == before
    clock[0] -= 1
    assert command(*sign_words(place), "--yes").status == 0


def test_bundle_of_an_expired_manifest_comes_with_a_warning(command, place, clock):
    create_key_files(place / "bob.json", consent_key("bob"))
    words = sign_words(place)
    assert command(*words, "--yes").status == 0
    bob = [*words, "--yes"]
    bob[bob.index(place / "key.json")] = place / "bob.json"
    bob[bob.index(place / "alice.signature.json")] = place / "bob.signature.json"
    assert command(*bob).status == 0
    signatures = [place / f"{name}.signature.json" for name in CONSENT_BYTES]
    bundle = ["manifest", "bundle", place / "manifest.json", *signatures, "--roster", place / "roster.json", "--out"]
    assert "WARNING" not in command(*bundle, place / "in-time.json").err
    clock[0] = manifest().valid_until
    result = command(*bundle, place / "late.json")
    assert result.status == 0
    assert "WARNING: this manifest expired at 2030-03-18 17:46:40 UTC: no broker accepts this bundle" in result.err


def test_file_that_is_no_consent_key_is_named(command, place):
    (place / "key.json").write_bytes(ROSTER.canonical_bytes)
    result = command(*sign_words(place), "--yes")
    assert result.status == EXIT_CODES["refused"].number
    assert f"{place / 'key.json'}: consent key" in result.err


def test_journal_that_cannot_be_read_is_named(command, place):
    journal_path(place / "key.json").write_bytes(b"{}")
    result = command(*sign_words(place), "--yes")
    assert result.status == EXIT_CODES["refused"].number
    assert f"{journal_path(place / 'key.json')}: journal" in result.err


def test_file_that_is_no_manifest_is_named_when_shown(command, place):
    (place / "manifest.json").write_bytes(b"{}")
    assert f"{place / 'manifest.json'}: manifest" in command("manifest", "show", place / "manifest.json").err


def test_wrong_passphrase_signs_and_records_nothing(command, place):
    (place / "passphrase").write_text("another passphrase")
    before = journal_path(place / "key.json").read_bytes()
    result = command(*sign_words(place), "--yes")
    assert result.status == EXIT_CODES["refused"].number
    assert journal_path(place / "key.json").read_bytes() == before


def test_bundle_given_instead_of_a_draft_is_explained(command, place):
    (place / "manifest.json").write_bytes(canonical({"payload": {}, "signatures": []}))
    result = command(*sign_words(place), "--yes")
    assert result.status == EXIT_CODES["refused"].number
    assert "a draft is expected" in result.err


def test_simulated_template_is_data_on_standard_output(command):
    result = command("manifest", "template", "--simulated", "http://127.0.0.1:9")
    assert result.err == ""
    assert result.out.count('issuer = "http://127.0.0.1:9"') == 2
