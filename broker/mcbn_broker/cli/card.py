"""`mcbn-broker card`: the card with which a participant introduces itself to the others."""

import typer

from mcbn_broker.ceremony.files import PUBLIC, write_new
from mcbn_broker.ceremony.signing_session import read_consent_key
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.first_steps import build_roster
from mcbn_broker.cli.opening import open_home
from mcbn_broker.cli.options import ConsentKeyPath, DataDir, Force, Kek, KekFile, KmsEndpoint, Out, PassphraseFile
from mcbn_broker.cli.prompts import read_passphrase
from mcbn_broker.cli.text import say, say_next
from mcbn_protocol.participants import ParticipantCard, fingerprint

app = typer.Typer()


@app.command(epilog=examples("mcbn-broker card --consent-key alice.consent-key.json --out alice.participant.json"))
def card(
    *,
    consent_key: ConsentKeyPath,
    out: Out,
    passphrase_file: PassphraseFile = None,
    force: Force = False,
    data_dir: DataDir = None,
    kek_file: KekFile = None,
    kek: Kek = None,
    kms_endpoint: KmsEndpoint = None,
) -> None:
    """Write this participant's card. Its name, both public keys and its broker's URL, signed by both keys."""
    home = open_home(data_dir, kek_file, kek, kms_endpoint)
    private_key = read_consent_key(consent_key).unseal(read_passphrase(passphrase_file, new=False))
    mine = ParticipantCard(
        network=home.identity.network,
        name=home.identity.name,
        consent_key=private_key.public_key().public_bytes_raw(),
        release_key=home.release_key.public_key().public_bytes_raw(),
        url=home.identity.url,
    )
    home.note_consent_key(mine.consent_key)
    write_new(out, mine.sign(private_key, home.release_key).to_bytes(), mode=PUBLIC, force=force)
    say(f"The card of {mine.name} in {mine.network} is {out}. Its fingerprint:")
    say(f"  {fingerprint(mine)}")
    say_next(build_roster(str(out)))
