"""The protocol's document says what the package does: its example is computed again, its tables are compared."""

import json
import re
from pathlib import Path

import pytest

from mcbn_protocol import limits, manifest, participants, roster, shares
from mcbn_protocol.binding import audience, binding_hash
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.key_schedule import Purpose, Scheme, derive, epoch_secret, key_check, psk_identity
from mcbn_protocol.manifest import AgreedManifest, ChannelKind
from mcbn_protocol.reference_values import _NEVER_FROM_OPERATOR, ConfidentialSpaceReference, SupportAttribute
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import PUBLIC_KEY_BYTES, SEALED_BYTES, Kem, RecipientKey, seal_info
from mcbn_protocol.shares import Share, commitment
from mcbn_protocol.signatures import Label, signing_input

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def first_vector(name):
    return json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_bytes())["vectors"][0]


def section(title):
    """Return the text from one heading to the next of any level."""
    return re.split(r"\n#+ ", TEXT.partition(f"# {title}\n")[2])[0]


def members(title):
    """Return the names in the first column of a section's tables."""
    cells = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}


@pytest.fixture(scope="module")
def written():
    (block,) = re.findall(r"```example\n(.*?)```", TEXT, re.DOTALL)
    return dict(line.split(" = ", 1) for line in block.splitlines())


def test_the_worked_example_is_computed_again(written):
    people = Roster.parse(first_vector("roster")["input"]["roster"].encode())
    agreed = AgreedManifest.parse(first_vector("manifest")["input"]["bundle"].encode(), people)
    key = RecipientKey.from_seed(
        Kem.X25519, bytes.fromhex(first_vector("sealing-x25519")["input"]["throwaway_recipient_seed"])
    )
    given = {name: Share(bytes.fromhex(written[f"share of {name}"])) for name in people.names}
    binding = binding_hash(
        roster_hash=people.hash,
        participant="alice",
        role=Role.CLIENT,
        manifest_hash=agreed.hash,
        challenge=written["challenge"],
        kem=Kem.X25519,
        recipient_key=key.public_bytes,
    )
    info = seal_info(binding, 1, people.share_index("alice"))
    secret = epoch_secret(Scheme.HKDF_SHA256, given)
    computed = {
        "commitment of alice": commitment("net-1", "alice", 1, given["alice"]).hex(),
        "roster hash": people.hash.hex(),
        "manifest hash": agreed.hash.hex(),
        "audience": audience(people.hash, "alice"),
        "recipient key": key.public_bytes.hex(),
        "binding": binding.hex(),
        "info": info.hex(),
        "signing input of an audit head {}": signing_input(Label.AUDIT_HEAD, people.hash, b"{}").hex(),
        "epoch secret": secret.reveal().hex(),
        "psk": derive(secret, Purpose.TLS13_PSK, agreed.hash, 1).reveal().hex(),
        "identity": psk_identity(agreed.hash, 1, Purpose.TLS13_PSK),
        "key check": key_check(secret, ManifestHash(agreed.hash), 1),
    }
    assert key.open(bytes.fromhex(written["sealed share"]), info=info) == given["alice"]
    assert agreed.manifest.commitments["alice"].hex() == computed["commitment of alice"]
    inputs = {"challenge", "sealed share", *(f"share of {name}" for name in people.names)}
    assert written == computed | {name: written[name] for name in inputs}


PAYLOADS = {
    "Participant card": ("participant-card", lambda v: v["input"]["payload"]),
    "Roster": ("roster", lambda v: json.loads(v["input"]["roster"])),
    "Commitment card": ("commitment-card", lambda v: v["input"]["payload"]),
    "Signed release": ("release", lambda v: v["input"]["payload"]),
    "Audit head": ("audit-head", lambda v: v["input"]["payload"]),
}


@pytest.mark.parametrize("title", PAYLOADS)
def test_every_member_of_a_document_is_in_its_table(title):
    file, payload = PAYLOADS[title]
    assert members(title) == set(payload(first_vector(file)))


def test_every_member_of_messages_is_in_their_tables():
    bodies = {
        one["name"]: json.loads(one["output"]["body"])
        for one in json.loads((ROOT / "tests" / "vectors" / "messages.json").read_bytes())["vectors"]
        if "output" in one
    }
    assert members("Release request") == set(bodies["release-request"])
    assert members("Refusals") == set(bodies["problem"])
    assert all(f"`{name}`" in section("Refusals") for name in first_vector("refusal")["input"]["payload"])


def test_every_term_of_the_manifest_and_its_reference_values_is_in_the_tables():
    payload = json.loads(first_vector("manifest")["input"]["bundle"])["payload"]
    optional = {
        "root",
        "image_signatures",
        "mutual_tls",
        "insecure_http",
        "insecure_scheme",
        "insecure_psk_suites",
        "insecure_psk_profile",
        "key_log",
        "instance_ids",
        "service_accounts",
        "insecure_debug",
    }
    evidence = set(payload["roles"]["client"]["evidence"][0])
    assert members("Manifest") == set(payload) | evidence | optional
    assert optional <= set(manifest.Manifest.__annotations__) | set(ConfidentialSpaceReference.__annotations__)


def test_every_constant_is_named():
    names = [*Label, *Purpose, *Scheme, *Kem, *Role, *ChannelKind, *SupportAttribute]
    formats = [manifest.FORMAT, participants.FORMAT, roster.FORMAT, shares.CARD_FORMAT]
    assert [name for name in [*names, *formats] if f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize(
    "number",
    [
        limits.REQUEST_BYTES, limits.RESPONSE_BYTES, limits.CARD_BYTES, limits.ROSTER_BYTES, limits.MANIFEST_BYTES,
        limits.TOKEN_CHARS, limits.PARTICIPANTS, limits.EVIDENCE_PER_ROLE, limits.LIST_ITEMS, limits.TEXT_CHARS,
        limits.PEM_CHARS, limits.TIME_MAX, limits.LEASE_SECONDS_MIN, limits.LEASE_SECONDS_MAX,
        limits.VALIDITY_SECONDS_MAX, limits.INSTANCES_MAX, limits.CHALLENGE_BYTES, limits.CHALLENGE_CHARS,
        *PUBLIC_KEY_BYTES.values(), *SEALED_BYTES.values(),
    ],
)  # fmt: skip
def test_every_limit_is_written_down(number):
    assert re.search(rf"(?<!\d){number}(?!\d)", TEXT)


def test_every_variable_that_no_operator_sets_is_written_down():
    in_code = {name.replace(".*", "*") for name in _NEVER_FROM_OPERATOR.pattern.split("|")}
    listed = section("Manifest").partition("whatever their case:")[2]
    assert set(re.findall(r"`([A-Z0-9_*]+)`", listed)) == in_code


def test_every_vector_file_that_the_example_names_is_there():
    for name in re.findall(r"`([a-z0-9-]+\.json)`", section("10. Worked example")):
        assert (ROOT / "tests" / "vectors" / name).is_file()
