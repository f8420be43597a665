"""`mcbn-broker manifest sign`: a participant reads the terms, and signs them or does not."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.files import PUBLIC, write_new
from mcbn_broker.ceremony.signing import check_own_commitment, sign_draft, signer_of
from mcbn_broker.ceremony.signing_session import signing_session
from mcbn_broker.cli.documents import naming, read_commitment, read_draft, read_roster
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.manifest.terms_view import show_terms
from mcbn_broker.cli.options import ConsentKeyPath, Force, Out, PassphraseFile, RosterPath
from mcbn_broker.cli.prompts import confirm, read_passphrase
from mcbn_broker.cli.text import say, say_next
from mcbn_broker.moments import now
from mcbn_broker.release.manifests import check_unexpired

app = typer.Typer()
_QUESTION = "Did you rebuild these images yourself and compare the digests, and do you agree to all terms above?"


@app.command(
    epilog=examples(
        "mcbn-broker manifest sign manifest.json --roster roster.json --consent-key alice.consent-key.json \\",
        "    --commitment alice.commitment.json --out alice.signature.json",
    )
)
def sign(
    manifest: Annotated[Path, typer.Argument(metavar="DRAFT", help="The draft.")],
    *,
    roster: RosterPath,
    consent_key: ConsentKeyPath,
    passphrase_file: PassphraseFile = None,
    commitment: Annotated[
        Path | None, typer.Option(help="Your own NAME.commitment.json: the draft must have the same commitment.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="You did rebuild the images and compare the digests.")] = False,
    out: Out,
    force: Force = False,
) -> None:
    """Show all terms and sign them. Signing is consent to the terms; it activates nothing.

    Needs only the roster, the draft and the consent key, so it works away from the broker. The journal beside the key
    keeps it from ever signing two manifests of one epoch, or a commitment twice.
    """
    agreed, draft = read_roster(roster), read_draft(manifest)
    with naming(manifest):
        check_unexpired(draft.manifest, now())
    with signing_session(consent_key) as session:
        signer = signer_of(draft, agreed, session.key.public_key)
        session.journal.admit(draft)
        if commitment is not None:
            check_own_commitment(draft, signer, read_commitment(commitment, agreed))
        show_terms(draft.manifest, draft.hash, talk=True)
        say(f"{signer} is about to sign this for {agreed.network}.")
        confirm(_QUESTION, yes=yes)
        private_key = session.key.unseal(read_passphrase(passphrase_file, new=False))
        session.record(draft)
        signature = sign_draft(draft, signer=signer, roster=agreed, private_key=private_key)
    write_new(out, signature.to_bytes(), mode=PUBLIC, force=force)
    say(f"{signer} has signed epoch {draft.manifest.epoch}, manifest {draft.hash.hex()}: {out}")
    say_next(
        f"send {out} to whoever bundles: "
        f"mcbn-broker manifest bundle {manifest} {_everybodys(out, signer)} --roster {roster} --out {_bundle(draft)}"
    )


def _everybodys(out: Path, signer: str) -> str:
    """Return a pattern for the signatures of all, if they are called as this one is, but for the signer's name."""
    return f"*{out.name.removeprefix(signer)}" if out.name.startswith(f"{signer}.") else "SIGNATURE..."


def _bundle(draft: Draft) -> str:
    epoch = draft.manifest.epoch
    return "bundle.json" if epoch == 1 else f"bundle-{epoch}.json"
