"""What can go wrong in deriving a key."""

from typing import ClassVar

from mcbn_workload.errors import WorkloadError


class RsaKeyError(WorkloadError):
    """A seed from which its scheme makes no key."""

    code: ClassVar[str] = "rsa_key_not_derived"
