"""The options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OutputFormat(StrEnum):
    """How a command shows what it found."""

    TABLE = "table"
    JSON = "json"


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="MCBN_DATA_DIR",
        help="The broker's folder. Default: /var/lib/mcbn-broker for root, else $XDG_STATE_HOME/mcbn-broker.",
    ),
]
KekFile = Annotated[
    Path | None,
    typer.Option(
        "--kek-file",
        envvar="MCBN_KEK_FILE",
        help="The key-encryption key, 32 bytes, outside of the data directory. "
        "Default: $CREDENTIALS_DIRECTORY/mcbn-kek (systemd).",
    ),
]
Kek = Annotated[
    str | None,
    typer.Option(
        "--kek",
        envvar="MCBN_KEK",
        metavar="gcp-kms://...",
        help="In place of --kek-file: a key of Google Cloud KMS that wraps the key-encryption key, "
        "gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K.",
    ),
]
KmsEndpoint = Annotated[
    str | None,
    typer.Option(
        "--kms-endpoint",
        envvar="MCBN_KMS_ENDPOINT",
        metavar="https://HOST",
        help="A regional or private endpoint of Cloud KMS. Default: https://cloudkms.googleapis.com.",
    ),
]
Output = Annotated[OutputFormat, typer.Option("--output", help="A table for people, or JSON for programs.")]
ConsentKeyPath = Annotated[
    Path, typer.Option("--consent-key", help="The consent key's file, made by `consent-key new`.")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="File with the passphrase of the consent key, one line, mode 0600. Default: ask at the terminal.",
    ),
]
RosterPath = Annotated[Path, typer.Option("--roster", help="The roster file, made by `roster build`.")]
Out = Annotated[Path, typer.Option("--out", help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file of --out if it is there.")]
