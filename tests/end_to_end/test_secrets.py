"""After a whole demo: no share, no key, no passphrase and no token is anywhere but where it belongs."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mcbn_broker.ceremony.consent_keys import ConsentKeyFile
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.kek import load_kek
from mcbn_broker.keystore.sealing import SealedFor, SealedKind, unseal
from mcbn_broker.storage.store import Store
from mcbn_protocol.key_schedule import Purpose, derive, epoch_secret
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.shares import Share
from mcbn_simulator.demo.participants import NAMES
from mcbn_simulator.demo.processes import script
from mcbn_simulator.token_file import TOKEN_FILE_NAME
from tests.end_to_end.secret_scanner import Evidence, Finding, ProcessWitness, Scanner, folder_evidence, forms_of

pytestmark = pytest.mark.timeout(300)

EPOCH = 1
DEADLINE_SECONDS = 60
CANARY = bytes(range(0xC8, 0xE8))
FORMS = forms_of(CANARY)
LONG_LIVED = ("mcbn-simulator issuer", "mcbn-simulator launcher", "mcbn-broker serve", "mcbn-workload server")


@dataclass
class Demo:
    """What a demo left, and what was seen while it ran.

    Attributes:
        folder: Kept with `--keep`.
        status: Its exit status.
        talk: Its standard error.
        evidence: Its output, what its processes were given, and its folder at the beginning of each act.
    """

    folder: Path
    status: int = -1
    talk: str = ""
    evidence: set[Evidence] = field(default_factory=set)

    def all_evidence(self) -> set[Evidence]:
        return self.evidence | set(folder_evidence(self.folder))


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with tempfile.TemporaryDirectory(prefix="s-") as temporary:  # short, for unix sockets
        yield played(Path(temporary))


def played(temporary: Path) -> Demo:
    with subprocess.Popen(
        [script("mcbn-simulator"), "demo", "--keep", "--output", "json"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = Demo(temporary)
        with ProcessWitness(process.pid) as witness:
            for line in process.stderr:
                seen.talk += line
                witness.look()
                if line.startswith("Act "):
                    seen.evidence |= {Evidence(f"before {line[:6]}: {one.place}", one.data) for one in files(temporary)}
        acts = process.stdout.read()
        seen.status = process.wait(DEADLINE_SECONDS)
    (seen.folder,) = temporary.iterdir()
    seen.evidence |= witness.evidence
    seen.evidence |= {Evidence("standard output", acts.encode()), Evidence("standard error", seen.talk.encode())}
    return seen


def files(folder: Path) -> Iterator[Evidence]:
    """The files as they are, logs of databases among them, while the programs go on."""
    return (one for one in folder_evidence(folder) if ", table " not in one.place)


@pytest.fixture(scope="module")
def secrets(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Everything that has to stay hidden, opened with the keys that lie in the folder, from a copy of it."""
    known: dict[str, bytes] = {}
    shares: dict[str, Share] = {}
    for name in NAMES:
        desk = Path(shutil.copytree(demo.folder / name, tmp_path_factory.mktemp("opened") / name))
        share, agreed, its_own = opened(name, desk)
        shares[name] = share
        known |= {f"{name}'s {what}": value for what, value in its_own.items()}
    known["epoch secret"] = (secret := epoch_secret(agreed.manifest.scheme, shares)).reveal()
    for purpose in set(Purpose) - {Purpose.KEY_CHECK}:
        known[f"key for {purpose}"] = derive(secret, purpose, agreed.hash, EPOCH).reveal()
    return known


def opened(name: str, desk: Path) -> tuple[Share, AgreedManifest, dict[str, bytes]]:
    state, passphrase = desk / "state", (desk / "passphrase").read_bytes().strip()
    kek = load_kek(desk / "kek", state)
    home = Home.open(state, kek)
    with Store.open(home, clock=lambda: 0) as store:
        terms = store.terms()
    epoch_key = SealedFor(SealedKind.EPOCH_KEY, home.roster().hash, name, EPOCH)
    consent_key = ConsentKeyFile.parse((desk / f"{name}.consent-key.json").read_bytes()).unseal(Passphrase(passphrase))
    share = terms.shares[EPOCH]
    return (
        share,
        terms.agreed[0],
        {
            "share": share.reveal(),
            "kek": kek.reveal(),
            "passphrase": passphrase,
            "release key": home.release_key.private_bytes_raw(),
            "challenge key": home.challenge_key.reveal(),
            "epoch key": unseal(kek, epoch_key, (state / "epochs" / f"{EPOCH}.key").read_bytes()),
            "consent key": consent_key.private_bytes_raw(),
        },
    )


def belongs(finding: Finding) -> bool:
    """Whether this is where this secret is meant to be: a person's own file, or Confidential Space's own interface."""
    owner, _, what = finding.secret.partition("'s ")
    if what in {"kek", "passphrase"}:
        return finding.form == "raw" and finding.place.endswith(f"{owner}/{what}")
    return finding.secret == "a token" and Path(finding.place).name.strip(".").startswith(TOKEN_FILE_NAME)


def test_no_secret_is_anywhere_but_where_it_belongs(demo: Demo, secrets: dict[str, bytes]) -> None:
    assert demo.status == 0, demo.talk
    assert len(secrets) == 7 * len(NAMES) + 1 + len(Purpose) - 1
    found = Scanner(secrets).search(demo.all_evidence())
    assert {finding for finding in found if not belongs(finding)} == set()
    at_home = {finding.secret for finding in found}
    assert at_home == {"a token", *(f"{name}'s {what}" for name in NAMES for what in ("kek", "passphrase"))}


def test_the_search_has_seen_every_kind_of_place(demo: Demo) -> None:
    arguments = [one.data.replace(b"\0", b" ").decode() for one in demo.evidence if one.place.startswith("cmdline")]
    for program in LONG_LIVED:
        assert any(program in words for words in arguments), program
    assert any(b"MCBN_KEK_FILE=" in one.data for one in demo.evidence if one.place.startswith("environ"))
    places = {one.place for one in demo.all_evidence()}
    assert {"standard output", "standard error", "logs/alice-serve.log", "logs/server-vm-1.log"} <= places
    assert {f"{name}/state/broker.sqlite3, table shares" for name in NAMES} <= places
    assert any(place.startswith("before Act ") and place.endswith("broker.sqlite3-wal") for place in places)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_search_finds_a_canary_in_each_place_of_the_folder(
    demo: Demo, secrets: dict[str, bytes], tmp_path: Path, form: str
) -> None:
    folder = Path(shutil.copytree(demo.folder, tmp_path / "folder", ignore=shutil.ignore_patterns("*.sock")))
    with (folder / "logs" / "bob-serve.log").open("ab") as log:
        log.write(FORMS[form] + b"\n")
    (folder / "vm-client" / "core").write_bytes(FORMS[form])
    with closing(sqlite3.connect(folder / "carol" / "state" / "broker.sqlite3")) as database, database:
        database.execute("UPDATE consent SET reason = ?", (FORMS[form],))
    found = Scanner(secrets | {"canary": CANARY}).search(folder_evidence(folder))
    planted = {finding.place for finding in found if (finding.secret, finding.form) == ("canary", form)}
    assert planted >= {"logs/bob-serve.log", "vm-client/core", "carol/state/broker.sqlite3, table consent"}


@pytest.mark.parametrize("place", ["standard output", "standard error", "cmdline of a process", "environ of a process"])
def test_the_same_search_finds_a_canary_in_what_was_said_and_given(
    demo: Demo, secrets: dict[str, bytes], place: str
) -> None:
    scanner = Scanner(secrets | {"canary": CANARY})
    for form, text in FORMS.items():
        told = {Evidence(one.place, one.data + text) for one in demo.evidence if one.place == place}
        assert Finding("canary", form, place) in scanner.search(told)
