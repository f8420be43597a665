"""The commands of `mcbn-workload`: wires settings, keys and tunnel together, and turns errors into exit codes."""

import asyncio
import logging
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from mcbn_workload.app.arguments import new_parser
from mcbn_workload.app.logs import LogFormat, start_log
from mcbn_workload.app.process_limits import forbid_core_dumps
from mcbn_workload.app.services import connect, serve
from mcbn_workload.app.stopping import Stopping
from mcbn_workload.brokers.errors import QuorumIncompleteError
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.derive import RSA_COMBINATION, combine_files, describe_rsa_key, rsa_key_of, write_private_key
from mcbn_workload.endpoints import new_gatherer, new_patience
from mcbn_workload.errors import ConfigurationError, ExitCode, WorkloadError
from mcbn_workload.probe import as_json, as_rows, as_table, is_complete
from mcbn_workload.settings import Settings

_log: Final = logging.getLogger("mcbn.workload.app")

Service = Callable[[Settings, Stopping], Awaitable[None]]
_SERVICES: Final[dict[str, Service]] = {"server": serve, "client": connect}


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The command line without the program's name.
    """
    forbid_core_dumps()
    options = new_parser().parse_args(arguments)
    log_format = _log_format(options)
    start_log("INFO", log_format)
    try:
        return int(_command(options, log_format))
    except WorkloadError as error:
        fields = {"event": "failed", "code": error.code, "exit_code": int(error.exit_code)}
        rows = {"brokers": as_rows(error.rows)} if isinstance(error, QuorumIncompleteError) else {}
        _log.error("%s", error, extra=fields | rows)
        return int(error.exit_code)
    except Exception:  # noqa: BLE001  # logged with its traceback; the caller gets the exit code
        _log.exception("a fault of this program", extra={"event": "failed", "exit_code": int(ExitCode.FAILED)})
        return int(ExitCode.FAILED)


def _log_format(options: Namespace) -> LogFormat | None:
    """Return what the command line asks for; a table does not say how the log beside it is written."""
    asked = getattr(options, "output", None)
    return LogFormat(asked) if asked in set(LogFormat) else None


def _command(options: Namespace, log_format: LogFormat | None) -> ExitCode:
    if options.command == "derive":
        return _derive(options)
    settings = Settings.load(options.config)
    start_log(settings.operator.log_level, log_format)
    if options.command == "probe":
        return _run(_probe(settings, options.output))
    return _run(_serve(_SERVICES[options.command], settings))


def _run(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(command)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where the image has it: it takes a third of the CPU off each byte."""
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(service: Service, settings: Settings) -> ExitCode:
    with Stopping() as stopping:
        try:
            await service(settings, stopping)
        except asyncio.CancelledError:
            if not stopping.asked:
                raise
        _log.info("stopped", extra={"event": "stopped"})
    return ExitCode.OK


async def _probe(settings: Settings, output: str) -> ExitCode:
    gatherer = new_gatherer(settings, Clock(), new_patience(settings))
    agreed, *_older = await gatherer.find(())
    gathering = await gatherer.gather(agreed, settings.roster.names, lambda _row, _outcome: None)
    sys.stdout.write((as_json if output == "json" else as_table)(gathering) + "\n")
    return ExitCode.OK if is_complete(gathering) else ExitCode.NO_KEYS


def _derive(options: Namespace) -> ExitCode:
    scheme = options.scheme or (options.rsa and RSA_COMBINATION)
    if scheme is None or (options.rsa is None and (options.bits is not None or options.out is not None)):
        raise ConfigurationError("derive needs --scheme or --rsa; --bits and --out go with --rsa")
    combined = combine_files(scheme, options.files)
    _log.warning(
        "%s is for compatibility only: its raw output is no key of a channel",
        scheme,
        extra={"event": "legacy_scheme"},
    )
    if options.rsa is None:
        sys.stdout.write(combined.reveal().hex() + "\n")
        return ExitCode.OK
    key = rsa_key_of(combined, options.rsa, options.bits)
    if options.out is not None:
        write_private_key(key, options.out)
    sys.stdout.write(describe_rsa_key(combined, key))
    return ExitCode.OK
