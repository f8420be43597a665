"""One key of Cloud KMS: encrypts and decrypts over REST, and checks every checksum.

Sources: Cloud KMS REST v1, cryptoKeys.encrypt and cryptoKeys.decrypt; "Verifying end-to-end data integrity".
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Self

import google.auth
import google_crc32c
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError

from mcbn_broker.errors import UsageError
from mcbn_broker.keystore.cloud_kms.errors import CloudKmsError, CloudKmsUnavailableError
from mcbn_broker.keystore.cloud_kms.exchange import Answer, Exchange

SCHEME: Final = "gcp-kms://"
_SCOPES: Final = ("https://www.googleapis.com/auth/cloudkms",)
_PART: Final = "[A-Za-z0-9_.:-]{1,100}"  # a project may be of a domain: example.com:project
_NAME: Final = re.compile(f"projects/{_PART}/locations/{_PART}/keyRings/{_PART}/cryptoKeys/{_PART}")
_STATUS_CHARS: Final = 40


@dataclass(frozen=True)
class KeyName:
    """A key's resource name, `projects/P/locations/L/keyRings/R/cryptoKeys/K`: the key, not one of its versions."""

    resource: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read `gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K`.

        Raises:
            UsageError: Another form.
        """
        resource = uri.removeprefix(SCHEME)
        if resource == uri or not _NAME.fullmatch(resource) or ".." in resource:
            raise UsageError(
                f"--kek is {SCHEME}projects/P/locations/L/keyRings/R/cryptoKeys/K, without a key version; "
                "for a key in a file use --kek-file"
            )
        return cls(resource)

    def __str__(self) -> str:
        return f"{SCHEME}{self.resource}"


@dataclass(frozen=True)
class CloudKmsKey:
    """A symmetric key of Cloud KMS, with the application's default credentials.

    Attributes:
        name: Which key.
        endpoint: Scheme and host of the service, without a path.
        seconds: How long one call may take, credentials included.
    """

    name: KeyName
    endpoint: str
    seconds: float

    def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """Return the ciphertext of at most 8 KiB.

        Args:
            plaintext: A key.
            aad: What `decrypt` has to be given again.

        Raises:
            CloudKmsError: It could not be done, or a checksum does not fit.
        """
        answer = self._call("encrypt", "plaintext", plaintext, aad)
        self._check_name(answer)
        for name in ("verifiedPlaintextCrc32c", "verifiedAdditionalAuthenticatedDataCrc32c"):
            if answer.get(name) is not True:
                raise self._damaged(f"{name} is not true: the request was damaged on its way")
        return self._checked(answer, "ciphertext")

    def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            CloudKmsError: It could not be done, or a checksum does not fit.
        """
        return self._checked(self._call("decrypt", "ciphertext", ciphertext, aad), "plaintext")

    def _call(self, verb: str, member: str, value: bytes, aad: bytes) -> dict[str, Any]:
        body = {
            member: _base64(value),
            f"{member}Crc32c": str(google_crc32c.value(value)),  # an int64 is a string in protobuf's JSON
            "additionalAuthenticatedData": _base64(aad),
            "additionalAuthenticatedDataCrc32c": str(google_crc32c.value(aad)),
        }
        exchange = Exchange(self.seconds)
        headers = {"Content-Type": "application/json", **self._authorization(exchange)}
        url = f"{self.endpoint}/v1/{self.name.resource}:{verb}"
        try:
            answer = exchange(url, "POST", json.dumps(body).encode(), headers)
        except GoogleAuthError as error:
            raise _error(exchange, f"Cloud KMS cannot be reached: {error}; start again once it can") from error
        return self._members(exchange, answer)

    def _authorization(self, exchange: Exchange) -> dict[str, str]:
        """Return the headers that say who we are.

        `refresh` and `apply` themselves: `before_request` would start look-ups in the background that nobody awaits.
        """
        headers: dict[str, str] = {}
        try:
            credentials: Credentials = google.auth.default(scopes=_SCOPES, request=exchange)[0]
            credentials.refresh(exchange)  # type: ignore[no-untyped-call]  # has no types
            credentials.apply(headers)  # type: ignore[no-untyped-call]  # same
        except DefaultCredentialsError as error:
            raise CloudKmsError(
                "no Google credentials were found for Cloud KMS: run on a VM with a service account, name a "
                "credentials file in GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login` "
                f"({error})"
            ) from error
        except RefreshError as error:
            advice = (
                "start again later"
                if exchange.may_pass
                else "check that the service account exists and its key was not deleted"
            )
            raise _error(
                exchange, f"Google gives no access token for these credentials: {advice} ({_first_line(error)})"
            ) from error
        except GoogleAuthError as error:
            raise _error(exchange, f"Google's credentials cannot be used: {_first_line(error)}") from error
        return headers

    def _members(self, exchange: Exchange, answer: Answer) -> dict[str, Any]:
        try:
            members = json.loads(answer.data)
        except (ValueError, RecursionError):
            members = None
        if answer.status != 200:  # noqa: PLR2004  # OK
            raise self._refused(exchange, answer.status, members)
        if not isinstance(members, dict):
            raise self._damaged("it is no JSON object: does --kms-endpoint lead to Cloud KMS?")
        return members

    def _refused(self, exchange: Exchange, status: int, members: object) -> CloudKmsError:
        error = members.get("error") if isinstance(members, dict) else None
        word = error.get("status") if isinstance(error, dict) else None
        said = f"{status} {word[:_STATUS_CHARS]}" if isinstance(word, str) else str(status)
        advice = _ADVICE.get(status, _LATER if exchange.may_pass else _ANOTHER)
        return _error(exchange, f"Cloud KMS answered {said} for {self.name}: {advice}")

    def _check_name(self, answer: dict[str, Any]) -> None:
        """Check which key was used: that is what the answer's name is for."""
        used = answer.get("name")
        if not isinstance(used, str) or not used.startswith(f"{self.name.resource}/cryptoKeyVersions/"):
            raise self._damaged("another key than the one that was named was used")

    def _checked(self, answer: dict[str, Any], member: str) -> bytes:
        value, checksum = answer.get(member), answer.get(f"{member}Crc32c")
        try:
            data = base64.b64decode(value if isinstance(value, str) else "?", validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._damaged(f"{member} is no base64") from error
        if not isinstance(checksum, str) or checksum != str(google_crc32c.value(data)):
            raise self._damaged(f"{member} does not have its checksum {member}Crc32c")
        return data

    def _damaged(self, what: str) -> CloudKmsError:
        return CloudKmsError(
            f"the answer of Cloud KMS for {self.name} cannot be trusted: {what}. Try again; if it stays so, something "
            "on the way changes it"
        )


_LATER: Final = "it is not available at present; start again later"
_ANOTHER: Final = "it never answers so: does --kms-endpoint lead to Cloud KMS?"
_ADVICE: Final = {
    400: "the key is disabled or destroyed, is no symmetric ENCRYPT_DECRYPT key, or did not wrap this broker's key. "
    "Enable the key version, or restore it while it is scheduled for destruction",
    401: "the access token was not accepted: check the credentials and the clock",
    403: "give these credentials the role roles/cloudkms.cryptoKeyEncrypterDecrypter on this key, and enable the Cloud "
    "KMS API in its project",
    404: "there is no such key: check --kek",
    429: "the quota of its project is used up; start again later",
}


def _error(exchange: Exchange, text: str) -> CloudKmsError:
    """Return the kind of error that the last call's failure is."""
    return CloudKmsUnavailableError(text) if exchange.may_pass else CloudKmsError(text)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _first_line(error: Exception) -> str:
    """Return the error's own words, without the answer that google-auth appends as a further argument."""
    return str(error.args[0] if error.args else type(error).__name__).partition("\n")[0][:300]
