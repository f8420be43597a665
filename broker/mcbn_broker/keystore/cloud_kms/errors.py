"""Why Cloud KMS could not be used."""

from mcbn_broker.errors import KeystoreError


class CloudKmsError(KeystoreError):
    """Cloud KMS, or whoever gives credentials for it, did not do what was asked. The text says why and what to do."""

    code = "cloud_kms_unavailable"
