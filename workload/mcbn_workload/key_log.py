"""Writes channels' secrets to a file, for whoever debugs them: only where the signed manifest says so.

Production images are built without this module, so that no manifest can make them give a key away.
"""

import os
import weakref
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from mcbn_workload.channels.psk import Watch
from mcbn_workload.errors import ConfigurationError

_MODE = 0o600


def key_log(path: Path) -> Watch:
    """Return what makes contexts write their sessions' secrets to a file, in the NSS format that Wireshark reads.

    Args:
        path: Created with mode 0600 if it is not there; lines are added at its end.

    Raises:
        ConfigurationError: It cannot be written, or others may read it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    except OSError as error:
        raise ConfigurationError(f"cannot write the key log {path}: {error.strerror}") from error
    if os.fstat(descriptor).st_mode & 0o077:
        os.close(descriptor)
        raise ConfigurationError(f"others may read the key log {path}: chmod 600 it, or name another file")

    def write(_connection: Any, line: bytes) -> None:
        os.write(descriptor, line + b"\n")  # one write each: lines of several channels do not mix

    weakref.finalize(write, os.close, descriptor)  # contexts hold it as long as they may call it

    def watch(context: SSL.Context) -> None:
        context.set_keylog_callback(write)

    return watch
