"""Where credentials come from: a file, Google's application default credentials, or nowhere."""

from pathlib import Path
from typing import Final

from mcbn_images.errors import RegistryError, UsageError
from mcbn_images.registry.authentication import Credentials, CredentialSource
from mcbn_images.registry.reference import Reference

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_GOOGLE_USER: Final = "oauth2accesstoken"
"""With this name, Artifact Registry takes an OAuth 2.0 access token for a password."""


def choose(reference: Reference, username: str | None, password_file: Path | None) -> CredentialSource:
    """Return the source for a registry: a file if one is given, else Google's for Google's, else none.

    Raises:
        UsageError: A name without a file or a file without a name, or one that is no use.
    """
    if username is not None and password_file is not None:
        return _from_file(username, password_file)
    if username is not None or password_file is not None:
        raise UsageError("--username and --password-file go together")
    return _from_google if reference.is_google else lambda: None


def _from_file(username: str, path: Path) -> CredentialSource:
    try:
        secret = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: give the password's file with --password-file") from error
    if not secret:
        raise UsageError(f"{path} is empty: its first line has to be the password or token")
    return lambda: Credentials(username, secret)


def _from_google() -> Credentials:
    import google.auth  # noqa: PLC0415  # a registry that is not Google's needs none of it
    import google.auth.exceptions  # noqa: PLC0415
    import google.auth.transport.requests  # noqa: PLC0415

    try:
        found, _ = google.auth.default(scopes=[_SCOPE])
        found.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]  # it has half its types
    except google.auth.exceptions.GoogleAuthError as error:
        raise RegistryError(
            f"no Google credentials ({type(error).__name__}): run `gcloud auth application-default login`, or set "
            "GOOGLE_APPLICATION_CREDENTIALS to a file of credentials"
        ) from error
    return Credentials(_GOOGLE_USER, str(found.token))
