"""`mcbn-broker backup` and `restore`: one encrypted file that holds the data directory, and its way back."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.audit.heads import parse_signed_point
from mcbn_broker.backup.errors import BackupError
from mcbn_broker.backup.file import opened
from mcbn_broker.backup.restore import (
    Known,
    Unpacked,
    check_place,
    known_here,
    merge,
    own_files,
    put_in_place,
    unpacked,
)
from mcbn_broker.backup.snapshot import write_backup
from mcbn_broker.ceremony.files import read_file
from mcbn_broker.cli.documents import naming
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.options import DataDir, Force, Kek, KekFile, KmsEndpoint, Out
from mcbn_broker.cli.paths import check_outside, resolve_data_dir, resolve_kek
from mcbn_broker.cli.prompts import ask_words, read_passphrase
from mcbn_broker.cli.termination import ended_by_sigterm
from mcbn_broker.cli.text import say, say_next, show_facts, warn
from mcbn_broker.errors import CeremonyError
from mcbn_broker.keystore.home import Home
from mcbn_broker.moments import moment, now
from mcbn_protocol import limits
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.manifest import FORMAT as MANIFEST_FORMAT
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.signatures import Envelope

app = typer.Typer()
_OF_BACKUP = "the backup"
BackupPassphrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="File with the passphrase of the backup, one line, mode 0600. Default: ask at the terminal.",
    ),
]


@app.command(epilog=examples("mcbn-broker backup --out alice.backup"))
def backup(
    *,
    out: Out,
    without_epoch_keys: Annotated[
        bool, typer.Option("--without-epoch-keys", help="Leave the shares' keys out: a restore then needs a new epoch.")
    ] = False,
    passphrase_file: BackupPassphrase = None,
    force: Force = False,
    data_dir: DataDir = None,
) -> None:
    """Copy the data directory to one encrypted file. Beside a running `serve`; no key is needed.

    The key-encryption key is not in it: keep its file elsewhere. Delete older backups once an epoch was retired: they
    still hold that epoch's key.
    """
    home = Home.open(resolve_data_dir(data_dir), None)
    check_outside(out, "a backup is lost there with what it is the backup of")
    passphrase = read_passphrase(passphrase_file, new=True, of=_OF_BACKUP)
    with ended_by_sigterm():
        facts = write_backup(
            home, out, passphrase, now=now(), random=os.urandom, epoch_keys=not without_epoch_keys, force=force
        )
    say(f"The backup of {home.identity.name} is {out}: {facts.named}, audit record {facts.head.sequence}.")
    say("The key-encryption key is not in it. Keep it, and the passphrase, apart from this file.")


@app.command(epilog=examples("mcbn-broker restore alice.backup --known head-of-last-month.json"))
def restore(
    *,
    file: Annotated[Path, typer.Argument(help="The file that `backup` wrote.")],
    known: Annotated[
        list[Path] | None,
        typer.Option(
            "--known",
            help="A bundle, or a release or audit head that this broker signed: the newest that you and the others "
            "have. Repeatable.",
        ),
    ] = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", help="The words that it asks for, where there is no terminal.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move this broker's data directory aside if it is there.")
    ] = False,
    passphrase_file: BackupPassphrase = None,
    data_dir: DataDir = None,
    kek_file: KekFile = None,
    kek: Kek = None,
    kms_endpoint: KmsEndpoint = None,
) -> None:
    """Bring a backup back. It starts paused, in a new incarnation; an older one has to be confirmed in words."""
    root, source = resolve_data_dir(data_dir).resolve(), resolve_kek(kek_file, kek, kms_endpoint)
    check_place(root, replace=replace)
    files = [(path, read_file(path, limit=limits.MANIFEST_BYTES)) for path in known or ()]
    with opened(file) as backup_file:
        passphrase = read_passphrase(passphrase_file, new=False, of=_OF_BACKUP)
        with ended_by_sigterm(), unpacked(backup_file, root, passphrase, source.load) as found:
            here, elsewhere = known_here(root, found), merge([_known_from(path, data, found) for path, data in files])
            everything = merge([here, elsewhere])
            _show(found, here, elsewhere, moved=here.place not in (None, root))
            _confirm(found, everything, confirm)
            aside = put_in_place(found, root, everything, now=now(), random=os.urandom, replace=replace)
    if aside is not None:
        say(f"What was there before is in {aside}: delete it once nothing in it is needed.")
    say(f"{found.home.identity.name}'s broker is in {root}. Consent is paused.")
    say_next("mcbn-broker status; then mcbn-broker consent allow, when you agree that it releases under that manifest")


def _known_from(path: Path, data: bytes, found: Unpacked) -> Known:
    with naming(path):
        try:
            return _parse_known(data, found)
        except ProtocolError as error:
            raise CeremonyError(
                f"{error}; --known takes a bundle or a signed head (of the audit, or in a release)"
            ) from error


def _parse_known(data: bytes, found: Unpacked) -> Known:
    roster = found.home.roster()
    if Envelope.parse(data, limit=limits.MANIFEST_BYTES).payload.get("format") == MANIFEST_FORMAT:
        return Known(AgreedManifest.parse(data, roster).manifest.epoch, ())
    point = parse_signed_point(data, participant=found.home.identity.name, roster=roster)
    return Known(point.epoch, (point.head,))


def _show(found: Unpacked, here: Known, elsewhere: Known, *, moved: bool) -> None:
    """Show what the backup holds, and what is known without it."""
    facts, identity = found.facts, found.home.identity
    there = "the data directory moved aside" if moved else "the data directory that is there"
    shown = [
        ("broker", f"{identity.name} in {identity.network}"),
        ("made", moment(found.made_at)),
        ("audit", f"record {facts.head.sequence}, head {facts.head.hash.hex()}"),
        ("highest manifest", facts.named),
        *((name, digest) for name, digest in own_files(found.home.root).items() if digest != "none"),
        *([(there, _describe(here))] if here.place is not None else []),
        ("known from elsewhere", _describe(elsewhere)),
    ]
    show_facts("The backup", shown, talk=True)


def _confirm(found: Unpacked, known: Known, given: str | None) -> None:
    """Warn of what would be lost, and have the participant name the backup in words."""
    facts, why, changed = found.facts, found.why_older(known), found.why_changed(known)
    for one in why:
        warn(f"OLDER THAN WHAT IS KNOWN: {one}")
    for one in changed:
        warn(f"CHANGED: {one}")
    if known.epoch > facts.epoch:
        say(
            f"Nothing below epoch {known.epoch} will be released. Accept its bundle again afterwards, if its share is "
            "in the backup; else the participants have to agree on a new epoch."
        )
    unchecked = not (known.heads or known.epoch)
    if unchecked:
        warn("nothing is known from elsewhere: ask another participant which epoch is the newest (--known)")
    kind = "older " if why else "unchecked " if unchecked else "changed " if changed else ""
    words = f"restore {kind}{facts.named}"
    if given is None:
        given = ask_words(words, option="--confirm")
    if given != words:
        raise BackupError(f'not confirmed, so nothing was restored: the words are "{words}"')


def _describe(known: Known) -> str:
    epochs = [f"epoch {known.epoch}"] if known.epoch else []
    records = [f"record {sequence}" for sequence in sorted({head.sequence for head in known.heads})]
    return ", ".join([*epochs, *records]) or "nothing"
