"""The whole set-up of Alice, Bob and Carol by the commands that participants use, and what each step refuses."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from mcbn_broker.__main__ import main
from mcbn_broker.ceremony.template import PLACEHOLDER
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.roster import Roster

NOT_READY = 3

NAMES = ("alice", "bob", "carol")
ISSUER = "http://127.0.0.1:8080"
CERTIFICATE = (Path(__file__).parents[1] / "authority.pem").read_text()


@dataclass(frozen=True)
class Result:
    """What one command did."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Site:
    """One participant's machine: a folder for its files, one for its broker, and the exchanged files beside them."""

    name: str
    home: Path
    exchange: Path

    @property
    def data(self):
        return ["--data-dir", self.home / "state"]

    @property
    def broker(self):
        return [*self.data, "--kek-file", self.home / "kek"]

    @property
    def key(self):
        return ["--consent-key", self.home / "consent-key.json", "--passphrase-file", self.home / "passphrase"]

    @property
    def roster(self):
        return ["--roster", self.exchange / "roster.json"]

    def run(self, *words, status=0):
        result = command(*words)
        assert result.status == status, result.err
        return result

    def refused(self, *words, status=4):
        return self.run(*words, status=status).err

    def introduce(self):
        (self.home / "passphrase").write_text(f"passphrase of {self.name}\n")
        (self.home / "passphrase").chmod(0o600)
        url = f"https://broker.{self.name}.example"
        self.run("init", "--network", "demo", "--name", self.name, "--url", url, "--create-kek", *self.broker)
        self.run("consent-key", "new", "--out", self.home / "consent-key.json", *self.key[2:])
        self.run("card", *self.key, "--out", self.exchange / f"{self.name}.participant.json", *self.broker)

    def commit(self, epoch=1, *options):
        out = self.exchange / f"{self.name}.commitment-{epoch}.json"
        self.run("share", "new", *self.roster, "--yes", *options, "--out", out, *self.broker)
        return out

    def sign(self, draft, *, yes=("--yes",)):
        out = self.exchange / f"{self.name}.{draft.stem}.signature.json"
        self.run("manifest", "sign", draft, *self.roster, *self.key, *yes, "--out", out)
        return out

    def status_json(self):
        return json.loads(self.run("status", "--output", "json", *self.data).out)


def command(*words) -> Result:
    """Run `mcbn-broker` with these words, as the console script does."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["mcbn-broker", *map(str, words)]
    with patch("sys.argv", argv), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main()
    assert "Traceback" not in err.getvalue()
    return Result(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def site(name, folder) -> Site:
    return Site(name, folder / name, folder / "exchange")


@pytest.fixture(scope="module")
def introduced(tmp_path_factory):
    """A folder in which three participants have made their keys, exchanged their cards and built the roster."""
    folder = tmp_path_factory.mktemp("introduced")
    for name in (*NAMES, "exchange"):
        (folder / name).mkdir()
    for name in NAMES:
        site(name, folder).introduce()
    exchange = folder / "exchange"
    assert command("roster", "build", *cards(exchange), "--out", exchange / "roster.json").status == 0
    return folder


@pytest.fixture
def sites(introduced, tmp_path):
    """A copy of these three for one test."""
    shutil.copytree(introduced, tmp_path, dirs_exist_ok=True)
    return {name: site(name, tmp_path) for name in NAMES}


def cards(exchange):
    return [exchange / f"{name}.participant.json" for name in NAMES]


def write_terms(sites, *, name="terms.toml", days=30, simulated=()):
    """Fill in the template as a person would."""
    text = sites["alice"].run("manifest", "template", *simulated).out
    values = {
        "FILL_IN_CLIENT_IMAGE_DIGEST": "sha256:" + "c1" * 32,
        "FILL_IN_SERVER_IMAGE_DIGEST": "sha256:" + "5e" * 32,
        "FILL_IN_PROJECT_NUMBER": "100000000001",
    }
    text = PLACEHOLDER.sub(lambda found: values.get(found[0], "/usr/local/bin/mcbn-workload"), text)
    path = sites["alice"].exchange / name
    path.write_text(text.replace("valid_days = 30", f"valid_days = {days}"))
    return path


def make_draft(sites, commitments, *, terms, out, previous=()):
    exchange = sites["alice"].exchange
    words = ["--roster", exchange / "roster.json", "--terms", terms, "--cards", *cards(exchange)]
    sites["alice"].run("manifest", "draft", *words, "--commitments", *commitments, *previous, "--out", exchange / out)
    return exchange / out


@pytest.fixture
def draft(sites):
    """The draft of epoch 1."""
    return make_draft(sites, [one.commit() for one in sites.values()], terms=write_terms(sites), out="manifest-1.json")


def make_bundle(sites, draft, signatures):
    out = draft.with_name(draft.name.replace("manifest", "bundle"))
    sites["bob"].run("manifest", "bundle", draft, *signatures, *sites["bob"].roster, "--out", out)
    return out


def test_three_participants_come_to_an_agreement_and_to_the_next(sites, draft):
    bundle = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    roster = Roster.parse((draft.parent / "roster.json").read_bytes())
    agreed = AgreedManifest.parse(bundle.read_bytes(), roster)
    for one in sites.values():
        one.run("manifest", "accept", bundle, *one.data)
        assert one.status_json()["consent"]["state"] == "paused"
        allowed = json.loads(one.run("consent", "allow", "--output", "json", *one.data).out)
        status = one.status_json()
        assert (status["participant"], status["network"]) == (one.name, "demo")
        assert status["roster_hash"] == roster.hash.hex()
        assert status["consent"]["state"] == "allowed"
        assert status["audit"]["sequence"] == allowed["audit_sequence"]
        assert status["manifest"] == status["manifests"][0]
        assert status["manifest"] | {"state": "current", "hash": agreed.hash.hex(), "epoch": 1} == status["manifest"]
        assert (status["epochs_with_keys"], status["next_share"]) == ([1], {"epoch": 2, "made": False})
        assert status["warnings"] == []
        assert [step.partition(",")[0] for step in status["next"]] == ["mcbn-broker serve"]

    second = make_draft(
        sites,
        [one.commit(2) for one in sites.values()],
        terms=write_terms(sites, days=60),
        out="manifest-2.json",
        previous=("--previous", bundle),
    )
    next_bundle = make_bundle(sites, second, [one.sign(second) for one in sites.values()])
    following = AgreedManifest.parse(next_bundle.read_bytes(), roster).manifest
    assert (following.epoch, following.previous) == (2, agreed.hash)
    for one in sites.values():
        assert "Consent is allowed already" in one.run("manifest", "accept", next_bundle, *one.data).err
        status = one.status_json()
        assert [found["state"] for found in status["manifests"]] == ["previous", "current"]
        assert status["epochs_with_keys"] == [1, 2]


def test_everybody_builds_the_same_roster(sites):
    exchange = sites["alice"].exchange
    bob = exchange / "bobs-roster.json"
    sites["bob"].run("roster", "build", *reversed(cards(exchange)), "--out", bob)
    assert bob.read_bytes() == (exchange / "roster.json").read_bytes()
    shown = json.loads(sites["bob"].run("roster", "show", bob, "--output", "json").out)
    assert [one["name"] for one in shown["participants"]] == list(NAMES)
    assert shown["threshold"] == 3


def test_share_made_twice_is_the_same_share(sites):
    first = sites["alice"].commit()
    before = first.read_bytes()
    assert sites["alice"].commit().read_bytes() == before


def test_audit_tells_the_set_up_and_verifies_against_a_head(sites, draft):
    alice = sites["alice"]
    bundle = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    alice.run("manifest", "accept", bundle, *alice.data)
    alice.run("audit", "head", "--out", alice.home / "head.json", *alice.broker)
    alice.run("consent", "pause", "--reason", "on holiday", *alice.data)
    records = json.loads(alice.run("audit", "tail", "--output", "json", *alice.data).out)["records"]
    kinds = [one["record"]["kind"] for one in records]
    assert kinds == ["initialised", "share_made", "manifest_accepted", "consent_paused"]
    assert records[-1]["record"]["reason"] == "on holiday"
    table = alice.run("audit", "tail", "-n", "1", *alice.data).out
    assert "consent_paused" in table
    assert "share_made" not in table
    words = ["--head", alice.home / "head.json", "--output", "json", *alice.data]
    assert json.loads(alice.run("audit", "verify", *words).out)["sequence"] == records[-1]["sequence"]
    words[1].write_bytes(b"{}")
    assert f"{words[1]}: " in alice.refused("audit", "verify", *words)


def test_simulated_issuer_is_loud_at_every_step(sites):
    terms = write_terms(sites, simulated=("--simulated", ISSUER))
    draft = make_draft(sites, [one.commit() for one in sites.values()], terms=terms, out="manifest-1.json")
    exchange = sites["alice"].exchange
    words = [*sites["alice"].roster, *sites["alice"].key, "--yes", "--out", exchange / "alice.signature.json"]
    assert f"SIMULATED ISSUER {ISSUER}" in sites["alice"].run("manifest", "sign", draft, *words).err
    signatures = [exchange / "alice.signature.json", *(sites[name].sign(draft) for name in NAMES[1:])]
    bundle = make_bundle(sites, draft, signatures)
    alice = sites["alice"]
    assert "SIMULATED ISSUER" in alice.run("manifest", "accept", bundle, *alice.data).err
    assert "SIMULATED ISSUER" in alice.run("status", *alice.data).err
    status = alice.status_json()
    assert status["manifest"]["simulated"] is True
    assert "SIMULATED" in status["warnings"][0]


def test_signature_by_somebody_outside_of_the_roster_is_refused(sites, draft, tmp_path):
    (tmp_path / "mallory").mkdir()
    mallory = site("mallory", tmp_path)
    mallory.introduce()
    words = [*sites["alice"].roster, *mallory.key, "--yes", "--out", tmp_path / "mallory.signature.json"]
    assert "no participant of demo has this consent key" in mallory.refused("manifest", "sign", draft, *words)
    assert not (tmp_path / "mallory.signature.json").exists()


def test_two_manifests_of_one_epoch_are_never_signed(sites, draft):
    alice = sites["alice"]
    alice.sign(draft)
    other = make_draft(
        sites, [one.commit() for one in sites.values()], terms=write_terms(sites, days=1), out="manifest-other.json"
    )
    words = [*alice.roster, *alice.key, "--yes", "--out", alice.exchange / "second.json"]
    assert "another manifest of epoch 1" in alice.refused("manifest", "sign", other, *words)
    assert not (alice.exchange / "second.json").exists()


def test_same_draft_may_be_signed_again_with_the_same_result(sites, draft):
    first = sites["alice"].sign(draft)
    before = first.read_bytes()
    assert sites["alice"].sign(draft).read_bytes() == before


def test_repeated_commitment_is_never_signed(sites, draft):
    """Bob's broker is made to sign its old commitment anew for epoch 2; Alice's key notices."""
    bundle = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    for one in sites.values():
        one.run("manifest", "accept", bundle, *one.data)
    commitments = [one.commit(2) for one in sites.values()]
    second = make_draft(
        sites, commitments, terms=write_terms(sites), out="manifest-2.json", previous=("--previous", bundle)
    )
    old = json.loads(draft.read_text())["commitments"]["bob"]
    new = json.loads(second.read_text())["commitments"]["bob"]
    second.write_text(second.read_text().replace(new, old))
    alice = sites["alice"]
    words = [*alice.roster, *alice.key, "--yes", "--out", alice.exchange / "second.json"]
    assert "was signed before, for epoch 1" in alice.refused("manifest", "sign", second, *words)


def test_own_commitment_replaced_in_the_draft_is_noticed_before_signing(sites, draft):
    alice = sites["alice"]
    card = alice.exchange / "alice.commitment-1.json"
    mine = json.loads(card.read_text())["payload"]["commitment"]
    draft.write_text(draft.read_text().replace(mine, "ab" * 32))
    words = [*alice.roster, *alice.key, "--yes", "--commitment", card, "--out", alice.exchange / "second.json"]
    assert "do not sign it" in alice.refused("manifest", "sign", draft, *words)


def test_draft_edited_after_signing_makes_no_bundle(sites, draft):
    words = [*[one.sign(draft) for one in sites.values()], *sites["bob"].roster]
    out, signed = draft.with_name("bundle.json"), draft.read_text()
    for edit in (("3600", "3601"), (",", ", "), ("}", "}\n")):
        draft.write_text(signed.replace(*edit, 1))
        sites["bob"].refused("manifest", "bundle", draft, *words, "--out", out)
        assert not out.exists()


def test_missing_signature_is_named(sites, draft):
    signatures = [sites[name].sign(draft) for name in ("alice", "carol")]
    words = [*signatures, *sites["bob"].roster, "--out", draft.with_name("bundle.json")]
    assert "missing: bob" in sites["bob"].refused("manifest", "bundle", draft, *words)


def test_bundle_whose_signature_was_exchanged_is_not_accepted(sites, draft):
    bundle = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    envelope = json.loads(bundle.read_text())
    first, second = (one["signature"] for one in envelope["signatures"][:2])
    bundle.write_text(bundle.read_text().replace(second, first))
    alice = sites["alice"]
    assert "bob" in alice.refused("manifest", "accept", bundle, *alice.data)
    assert alice.status_json()["manifest"] is None


def test_roster_of_others_is_not_adopted(sites):
    """Without Carol it is another network; a second roster never replaces the first."""
    exchange = sites["alice"].exchange
    alice, carol = sites["alice"], sites["carol"]
    alice.run("roster", "build", *cards(exchange)[:2], "--out", exchange / "small.json")
    words = ["--roster", exchange / "small.json", "--yes", "--out", exchange / "commitment.json"]
    assert "carol is not in the roster" in carol.refused("share", "new", *words, *carol.broker)
    alice.commit()
    assert "another roster was adopted" in alice.refused("share", "new", *words, *alice.broker)


def test_draft_against_another_roster_is_refused(sites, draft):
    exchange, alice = sites["alice"].exchange, sites["alice"]
    alice.run("roster", "build", *cards(exchange)[:2], "--out", exchange / "small.json")
    words = ["--roster", exchange / "small.json", *alice.key, "--yes", "--out", exchange / "second.json"]
    assert "another roster" in alice.refused("manifest", "sign", draft, *words)


def test_epoch_that_was_given_up_is_followed_by_the_next(sites, draft):
    """Alice signed, Bob found a wrong digest: nobody signs epoch 2 again, so they open epoch 3 in its place."""
    bundle = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    for one in sites.values():
        one.run("manifest", "accept", bundle, *one.data)
    terms, previous = write_terms(sites), ("--previous", bundle)
    wrong = make_draft(
        sites, [one.commit(2) for one in sites.values()], terms=terms, out="manifest-2.json", previous=previous
    )
    sites["alice"].sign(wrong)
    commitments = [one.commit(3, "--epoch", "3") for one in sites.values()]
    right = make_draft(sites, commitments, terms=terms, out="manifest-3.json", previous=("--previous", wrong))
    bundle = make_bundle(sites, right, [one.sign(right) for one in sites.values()])
    for one in sites.values():
        one.run("manifest", "accept", bundle, *one.data)
        assert [found["state"] for found in one.status_json()["manifests"]] == ["superseded", "current"]


def test_key_encryption_key_must_be_there_private_and_the_right_one(sites):
    alice, kek = sites["alice"], sites["alice"].home / "kek"
    words = ["share", "new", *alice.roster, "--yes", "--out", alice.exchange / "commitment.json", *alice.broker]
    kek.chmod(0o644)
    assert f"open to others: find out who read it, then: chmod go= {kek}" in alice.refused(*words, status=7)
    kek.chmod(0o600)
    right = kek.read_bytes()
    kek.write_bytes(right[:31])
    assert "31 bytes" in alice.refused(*words, status=7)
    kek.write_bytes(bytes(32))
    text = alice.refused(*words, status=7)
    assert f"{alice.home / 'state' / 'release.key'}: " in text
    assert "does not open" in text
    kek.unlink()
    assert f"{kek} is not there: restore it from its backup, or correct --kek-file" in alice.refused(*words, status=7)
    inside = alice.home / "state" / "kek"
    inside.write_bytes(right)
    assert "inside of the data directory" in alice.refused(*words[:-1], inside, status=7)


def test_pause_needs_no_key(sites):
    alice = sites["alice"]
    (alice.home / "kek").unlink()
    assert "paused as of audit record" in alice.run("consent", "pause", *alice.data).out


def test_second_init_replaces_nothing(sites):
    alice = sites["alice"]
    before = {path.name: path.read_bytes() for path in (alice.home / "state").iterdir() if path.suffix == ".key"}
    words = ["--network", "demo", "--name", "alice", "--url", "https://x.example", *alice.broker]
    for options in ((), ("--create-kek",)):
        assert "is already a broker's data directory" in alice.refused("init", *options, *words, status=3)
    assert before == {
        path.name: path.read_bytes() for path in (alice.home / "state").iterdir() if path.suffix == ".key"
    }


def test_init_that_finds_a_broker_makes_no_key(sites, tmp_path):
    alice, kek = sites["alice"], tmp_path / "new.kek"
    words = ["--network", "demo", "--name", "alice", "--url", "https://x.example", "--create-kek", *alice.data]
    alice.refused("init", *words, "--kek-file", kek, status=3)
    assert not kek.exists()


def test_init_uses_an_existing_key_only_without_create_kek(sites, tmp_path):
    alice, kek = sites["alice"], sites["alice"].home / "kek"
    before = kek.read_bytes()
    words = ["--network", "demo", "--name", "alice", "--url", "https://x.example"]
    words += ["--data-dir", tmp_path / "second", "--kek-file", kek]
    assert f"{kek} exists: leave out --create-kek to use it" in alice.refused("init", "--create-kek", *words, status=2)
    alice.run("init", *words)
    assert kek.read_bytes() == before


def test_first_roster_is_shown_and_adopted_only_by_a_person_or_yes(sites, monkeypatch):
    alice, asked, answers = sites["alice"], [], [False, True]

    def confirm(question, *, err):
        asked.append(question)
        return answers.pop(0)

    words = ["share", "new", *alice.roster, "--out", alice.exchange / "commitment.json", *alice.broker]
    assert "give --yes" in alice.refused(*words, status=2)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", confirm)
    assert "nothing was done" in alice.refused(*words)
    assert alice.status_json()["roster_hash"] is None
    shown = alice.run(*words).err
    roster = Roster.parse((alice.exchange / "roster.json").read_bytes())
    for text in ("adopted for good", "alice, bob, carol", "3 of 3", roster.hash.hex()):
        assert text in shown
    assert "adopted for good" not in alice.run(*words).err
    assert len(asked) == 2


def test_share_beyond_the_next_epoch_is_loud(sites):
    alice = sites["alice"]
    words = ["share", "new", *alice.roster, "--yes", "--out", alice.exchange / "commitment.json", *alice.broker]
    assert "WARNING: epoch 7 is beyond the next one, which is 1" in alice.run(*words, "--epoch", "7").err
    assert "WARNING" not in alice.run(*words, "--force", "--epoch", "1").err


def test_draft_says_that_signers_give_their_commitment(sites):
    exchange, alice = sites["alice"].exchange, sites["alice"]
    words = ["--roster", exchange / "roster.json", "--terms", write_terms(sites), *cards(exchange)]
    words += [one.commit() for one in sites.values()]
    said = alice.run("manifest", "draft", *words, "--out", exchange / "manifest.json").err
    assert "--commitment NAME.commitment.json" in said


def test_draft_given_to_accept_is_explained(sites, draft):
    alice = sites["alice"]
    text = alice.refused("manifest", "accept", draft, *alice.data)
    assert f"{draft} is a draft, not a bundle: run `mcbn-broker manifest bundle` first" in text


def test_expired_manifest_is_not_accepted_and_leaves_the_one_in_force(sites, draft, monkeypatch):
    alice = sites["alice"]
    first = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    alice.run("manifest", "accept", first, *alice.data)
    commitments = [one.commit(2, "--epoch", "2") for one in sites.values()]
    terms, previous = write_terms(sites, days=1), ("--previous", first)
    second = make_draft(sites, commitments, terms=terms, out="manifest-2.json", previous=previous)
    bundle = make_bundle(sites, second, [one.sign(second) for one in sites.values()])
    later = json.loads(second.read_text())["valid_until"]
    for module in ("stores", "manifest.terms_view"):
        monkeypatch.setattr(f"mcbn_broker.cli.{module}.now", lambda: later)
    text = alice.refused("manifest", "accept", bundle, *alice.data)
    assert f"{bundle}: this manifest expired at" in text
    assert "draft the next epoch" in text
    assert [(one["epoch"], one["state"]) for one in alice.status_json()["manifests"]] == [(1, "current")]


def test_manifest_that_expired_after_its_acceptance_is_said_to_have(sites, draft, monkeypatch):
    alice = sites["alice"]
    bundle = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    alice.run("manifest", "accept", bundle, *alice.data)
    later = json.loads(draft.read_text())["valid_until"]
    for module in ("stores", "manifest.terms_view"):
        monkeypatch.setattr(f"mcbn_broker.cli.{module}.now", lambda: later)
    assert "WARNING: this manifest expired at" in alice.run("manifest", "accept", bundle, *alice.data).err
    (step,) = alice.status_json()["next"]
    assert step.startswith("the manifest of epoch 1 expired at")
    assert "agree on epoch 2" in step


def test_commitment_made_for_another_roster_is_explained(sites):
    exchange, alice = sites["alice"].exchange, sites["alice"]
    alice.run("roster", "build", *cards(exchange)[:2], "--out", exchange / "small.json")
    out = exchange / "small.commitment.json"
    alice.run("share", "new", "--roster", exchange / "small.json", "--yes", "--out", out, *alice.broker)
    words = ["--roster", exchange / "roster.json", "--terms", write_terms(sites), *cards(exchange), out]
    text = alice.refused("manifest", "draft", *words, "--out", exchange / "manifest.json")
    assert f"{out}: the signature of alice" in text
    assert "or it was made for another roster: compare the roster hashes" in text


def test_roster_problems_are_said_in_the_words_of_whoever_collects_cards(sites):
    exchange, alice = sites["alice"].exchange, sites["alice"]
    three, out = cards(exchange), ("--out", exchange / "new.json")
    for words, problem in (
        ((*three, three[0]), "two cards are of alice"),
        (three[:1], "a roster needs at least two participants"),
        ((*three, "--threshold", 2), "this version combines all shares: leave out --threshold"),
        ((*three, "--threshold", 4), "the threshold is 4"),
    ):
        assert problem in alice.refused("roster", "build", *words, *out)
        assert not out[1].exists()
    assert "threshold 3 of 3" in alice.run("roster", "build", *three, "--threshold", 3, *out).err


def test_passphrase_and_consent_key_are_in_no_output(sites, draft):
    alice = sites["alice"]
    words = [*alice.roster, *alice.key, "--yes", "--out", alice.exchange / "alice.signature.json"]
    result = alice.run("manifest", "sign", draft, *words)
    assert "passphrase of alice" not in result.out + result.err
    files = [path for path in alice.exchange.iterdir() if path.is_file()]
    assert all(b"passphrase of alice" not in path.read_bytes() for path in files)


def test_commands_before_init_say_so(tmp_path):
    result = command("status", "--data-dir", tmp_path / "nothing")
    assert (result.status, result.out) == (3, "")
    assert "mcbn-broker init" in result.err
    assert not (tmp_path / "nothing").exists()


def test_bundle_shows_who_signed_and_whether_that_was_verified(sites, draft):
    alice = sites["alice"]
    bundle = make_bundle(sites, draft, [one.sign(draft) for one in sites.values()])
    assert "Signed by: alice, bob, carol (NOT verified" in alice.run("manifest", "show", bundle).err
    assert "(verified)" in alice.run("manifest", "show", bundle, *alice.roster).err
    assert "nobody yet" in alice.run("manifest", "show", draft, *alice.roster).err
    shown = json.loads(alice.run("manifest", "show", bundle, *alice.roster, "--output", "json").out)
    assert (shown["signed_by"], shown["verified"]) == (list(NAMES), True)
    bundle.write_text(bundle.read_text().replace('"participant":"bob"', '"participant":"eve"'))
    alice.refused("manifest", "show", bundle, *alice.roster)


def test_tables_show_roster_and_consent(sites):
    alice = sites["alice"]
    roster = Roster.parse((alice.exchange / "roster.json").read_bytes())
    shown = alice.run("roster", "show", alice.exchange / "roster.json").out
    assert all(one.consent_key.hex() in shown and one.release_key.hex() in shown for one in roster.participants)
    assert "3 of 3" in shown
    assert "PAUSED" in alice.run("consent", "show", *alice.data).out
    assert json.loads(alice.run("consent", "show", "--output", "json", *alice.data).out)["state"] == "paused"
    assert "record 1" in alice.run("audit", "verify", *alice.data).out


def test_allowing_before_a_manifest_says_what_is_missing(sites):
    alice = sites["alice"]
    result = alice.run("consent", "allow", *alice.data)
    assert "allowed as of audit record 2" in result.out
    assert "manifest accept" in result.err


def test_terms_take_a_brokers_own_authority_from_a_file_beside_them(sites):
    terms = write_terms(sites)
    (terms.parent / "bob.pem").write_text(CERTIFICATE)
    terms.write_text(terms.read_text() + '\n[brokers.bob]\ntls_ca_file = "bob.pem"\n')
    draft = make_draft(sites, [one.commit() for one in sites.values()], terms=terms, out="manifest.json")
    assert json.loads(draft.read_text())["brokers"]["bob"]["tls_ca"] == CERTIFICATE
    (terms.parent / "bob.pem").write_bytes(b"\x30\x82")
    words = ["--roster", terms.parent / "roster.json", "--terms", terms, "--out", terms.parent / "second.json"]
    assert "bob.pem is not a PEM file" in sites["bob"].refused("manifest", "draft", *words, status=2)


def test_restored_database_is_loud_and_paused(sites):
    alice = sites["alice"]
    database = alice.home / "state" / "broker.sqlite3"
    backup = database.read_bytes()
    alice.run("consent", "allow", *alice.data)
    database.write_bytes(backup)
    assert "NEW INCARNATION, CONSENT PAUSED" in alice.run("status", *alice.data).err
    assert alice.status_json()["consent"]["state"] == "paused"


def test_consent_is_not_allowed_by_the_command_that_finds_an_older_database(sites):
    alice = sites["alice"]
    database = alice.home / "state" / "broker.sqlite3"
    alice.run("consent", "allow", *alice.data)
    older = database.read_bytes()
    alice.run("consent", "pause", *alice.data)
    database.write_bytes(older)
    assert "nothing was allowed" in alice.refused("consent", "allow", *alice.data, status=NOT_READY)
    assert alice.status_json()["consent"]["state"] == "paused"
    alice.run("consent", "allow", *alice.data)
    assert alice.status_json()["consent"]["state"] == "allowed"


def test_serve_hands_over_its_options(sites, monkeypatch):
    seen = []

    def serve(settings):
        seen.append(settings)
        return 0

    monkeypatch.setattr("mcbn_broker.app.serve", serve)
    alice = sites["alice"]
    alice.run("serve", "--listen", "127.0.0.1:0", "--log-level", "warning", *alice.broker)
    assert (seen[0].listen, seen[0].log_level, seen[0].insecure_http) == ("127.0.0.1:0", "warning", False)
    assert seen[0].data_dir == alice.home / "state"
    assert "listen" in alice.refused("serve", "--listen", "nowhere", *alice.broker, status=2)
    assert len(seen) == 1
