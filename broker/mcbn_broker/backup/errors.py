"""Why a backup was refused."""

from mcbn_broker.errors import EXIT_CODES, BrokerError


class BackupError(BrokerError):
    """A backup that must not be restored, or that cannot be read. Nothing was changed."""

    code = "backup_refused"
    exit_code = EXIT_CODES["refused"].number
