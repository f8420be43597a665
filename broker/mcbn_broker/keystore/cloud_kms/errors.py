"""Why Cloud KMS could not be used."""

from mcbn_broker.errors import EXIT_CODES, KeystoreError


class CloudKmsError(KeystoreError):
    """Cloud KMS, or whoever gives credentials for it, did not do what was asked. The text says why and what to do."""

    code = "cloud_kms_failed"


class CloudKmsUnavailableError(CloudKmsError):
    """The same may work later: no answer, too many requests (429), or a fault of the service's own (5xx)."""

    code = "cloud_kms_unavailable"
    exit_code = EXIT_CODES["unavailable"].number
