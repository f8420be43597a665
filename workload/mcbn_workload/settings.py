"""What a workload is told: the image's configuration file, and the few variables that its operator may set."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from mcbn_protocol import limits
from mcbn_protocol.errors import MalformedError, ProtocolError
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.participants import check_broker_url, names_this_machine, plain_http_to_a_name
from mcbn_protocol.roster import Roster
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.kinds import DATAGRAM_CHANNELS, MTU, MTU_MAX, MTU_MIN, EngineName, check_engine

T = TypeVar("T")

DEFAULT_PATH: Final = Path("/etc/mcbn/workload.toml")
LAUNCHER_SOCKET: Final = Path("/run/container_launcher/teeserver.sock")
FILE_BYTES: Final = 64 * 1024
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
SECONDS_MAX: Final = 3600

VARIABLES: Final = {
    "MCBN_LISTEN": "server: the ciphertext address to listen on, HOST:PORT; port 0 takes a free one",
    "MCBN_CONNECT": "client: the far end's ciphertext address, HOST:PORT",
    "MCBN_MANIFEST": "where to find the manifest bundle besides the brokers: a URL, or a file's absolute path",
    "MCBN_LOG_LEVEL": f"one of {', '.join(LOG_LEVELS)}; INFO if not set",
}
"""Every variable that is read, apart from one `MCBN_BROKER_<NAME>` for each participant of the roster."""

BROKER_PREFIX: Final = "MCBN_BROKER_"
_PORT_MAX: Final = 65535
_ADDRESS: Final = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>[0-9]{1,5})")
_ROLES: Final = re.compile("|".join(Role))
_CHANNELS: Final = re.compile("|".join(ChannelKind))
_DNS_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_ARGUMENT: Final = re.compile(r"[^\0]*")
_VARIABLE: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_ENGINES: Final = re.compile("|".join(EngineName))


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """How long a workload waits, in whole seconds.

    Attributes:
        gather_seconds: For all brokers together, from the first question to the last share.
        request_seconds: For one answer of one broker or of the launcher.
        handshake_seconds: For the far end to authenticate itself.
    """

    gather_seconds: int = 60
    request_seconds: int = 10
    handshake_seconds: int = 4


@dataclass(frozen=True, kw_only=True)
class CertificateSettings:
    """What this end's certificate for mutual TLS is made of, besides its key.

    Attributes:
        ca_certificate: The CA's certificate, PEM; None for one that is derived.
        ca_key: Its private key, PEM, unencrypted; there exactly when `ca_certificate` is.
        names: DNS names; empty for the role's default, `mcbn-server` or `mcbn-client`.
    """

    ca_certificate: Path | None = None
    ca_key: Path | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ApplicationSettings:
    """The program that the workload starts beside its tunnel.

    Attributes:
        command: An absolute path and its arguments.
        environment: Variables besides the few that every application gets. None of the operator's is handed on.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What the operator's environment says. It can break availability, never secrecy or consent.

    Attributes:
        listen: Where the server accepts channels: host and port.
        connect: Where the client finds the far end: host and port.
        brokers: Base URLs by participant; each replaces the manifest's.
        manifest: URL, or absolute path of a file, of a manifest bundle; None to ask the brokers only.
        log_level: A level's name.
    """

    listen: tuple[str, int] | None = None
    connect: tuple[str, int] | None = None
    brokers: Mapping[str, str]
    manifest: str | None = None
    log_level: str = "INFO"

    @classmethod
    def read(cls, environment: Mapping[str, str], roster: Roster, *, insecure_loopback_brokers: bool) -> Self:
        """Read the closed table of variables; all others are left alone. An empty variable counts as not set.

        Args:
            environment: The variables.
            roster: Whose participants' broker addresses are read.
            insecure_loopback_brokers: Whether URLs may lead back into the container.

        Raises:
            ConfigurationError: A value of the wrong form, or a URL that may not come from the operator.
        """
        loopback = insecure_loopback_brokers
        return cls(
            listen=_address(environment, "MCBN_LISTEN"),
            connect=_address(environment, "MCBN_CONNECT"),
            brokers=_broker_urls(environment, roster, loopback=loopback),
            manifest=_manifest(environment, loopback=loopback),
            log_level=_log_level(environment.get("MCBN_LOG_LEVEL") or "INFO"),
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a workload is configured with, read once.

    Attributes:
        role: The part this image plays.
        roster: Who the participants are. The image's digest commits to it.
        channel: The kind of channel.
        engine: The TLS library that runs it.
        forward: server: the application's plaintext address, text.
        listen: client: the plaintext address for the application, text.
        launcher_socket: The unix socket that gives attestation tokens.
        deadlines: How long to wait.
        insecure_loopback_brokers: Whether the operator's URLs may lead back into the container, as on one machine for
            development. In an image it would let the operator send requests into the plaintext ends.
        operator: What the environment says.
        mutual_tls: What its certificate is made of, if the channel is `mtls13`.
        mtu: The largest datagram to send, in bytes, if the channel is over datagrams.
        key_log: Where to write the channels' secrets, for whoever debugs them; the signed manifest must allow it.
        application: What to start beside the tunnel; None if somebody else starts it.
    """

    role: Role
    roster: Roster
    channel: ChannelKind
    engine: EngineName
    forward: str | None
    listen: str | None
    launcher_socket: Path
    deadlines: Deadlines
    insecure_loopback_brokers: bool
    operator: Operator
    mutual_tls: CertificateSettings = CertificateSettings()
    mtu: int = MTU
    key_log: Path | None = None
    application: ApplicationSettings | None = None

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PATH, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the configuration file, the roster it names, and the environment.

        Raises:
            ConfigurationError: A file that cannot be read, an unknown or missing key, or a value that does not fit.
        """
        path = Path(path)
        data = _read(path, FILE_BYTES)
        try:
            members = tomllib.loads(data.decode("utf-8"))
            with Fields(members, "configuration") as fields:
                roster = load_roster(path.parent / fields.text("roster"))
                return cls._from(fields, roster, environment, path.parent)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, MalformedError) as error:
            raise ConfigurationError(f"{path}: {error}") from error

    @classmethod
    def _from(cls, fields: Fields, roster: Roster, environment: Mapping[str, str], folder: Path) -> Self:
        role = Role(fields.text("role", pattern=_ROLES))
        channel = ChannelKind(fields.text("channel", pattern=_CHANNELS))
        loopback = fields.flag("insecure_loopback_brokers")
        return cls(
            role=role,
            roster=roster,
            channel=channel,
            engine=_engine(fields, channel),
            forward=fields.text("forward") if role is Role.SERVER and fields.has("forward") else None,
            listen=fields.text("listen") if role is Role.CLIENT and fields.has("listen") else None,
            launcher_socket=Path(fields.text("launcher_socket")) if fields.has("launcher_socket") else LAUNCHER_SOCKET,
            deadlines=_deadlines(fields),
            insecure_loopback_brokers=loopback,
            operator=Operator.read(environment, roster, insecure_loopback_brokers=loopback),
            mutual_tls=_certificates(fields, folder) if channel is ChannelKind.MTLS13 else CertificateSettings(),
            mtu=_mtu(fields) if channel in DATAGRAM_CHANNELS else MTU,
            key_log=Path(fields.text("key_log")) if fields.has("key_log") else None,
            application=_application(fields),
        )

    def require_role(self, role: Role) -> None:
        """Check that this image plays a role.

        Raises:
            ConfigurationError: It plays the other one.
        """
        if self.role is not role:
            raise ConfigurationError(f"this image's configuration says role {self.role}, so it cannot run as {role}")


def require(value: T | None, name: str) -> T:
    """Return a setting that a command needs.

    Raises:
        ConfigurationError: It is not set.
    """
    if value is None:
        raise ConfigurationError(f"{name} is not set, and is needed here")
    return value


def load_roster(path: Path) -> Roster:
    """Read the roster file.

    Raises:
        ConfigurationError: It cannot be read, or is no roster.
    """
    try:
        return Roster.parse(_read(path, limits.ROSTER_BYTES))
    except ProtocolError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT` or `[IPv6]:PORT` as host and port (0 to 65535).

    Raises:
        ConfigurationError: Another form.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _PORT_MAX:
        raise ConfigurationError(f"{text!r} is not HOST:PORT or [IPv6]:PORT")
    host = match["literal"] or match["host"]
    try:
        host.encode("idna")  # as every look-up does
    except UnicodeError as error:
        raise ConfigurationError(f"{text!r} does not begin with a host's name") from error
    return host, int(match["port"])


def broker_variable(participant: str) -> str:
    """Return the variable that overrides a participant's broker address: `-` in the name becomes `_`."""
    return BROKER_PREFIX + participant.upper().replace("-", "_")


def _broker_urls(environment: Mapping[str, str], roster: Roster, *, loopback: bool) -> dict[str, str]:
    given = {name: environment.get(broker_variable(name)) for name in roster.names}
    return {name: _checked_url(broker_variable(name), url, loopback=loopback) for name, url in given.items() if url}


def _manifest(environment: Mapping[str, str], *, loopback: bool) -> str | None:
    source = environment.get("MCBN_MANIFEST") or None
    if source is None or source.startswith("/"):
        return source
    return _checked_url("MCBN_MANIFEST", source, loopback=loopback)


def _checked_url(variable: str, url: str, *, loopback: bool) -> str:
    """Return a URL that the operator may set: with it he must not send requests to where the plaintext is."""
    try:
        check_broker_url(url)
    except MalformedError as error:
        raise ConfigurationError(f"{variable}: {error}") from error
    if not loopback and (names_this_machine(url) or plain_http_to_a_name(url)):
        raise ConfigurationError(
            f"{variable}: a loopback address, or plain http to a name, could lead into the plaintext end, so it is not "
            "taken from the environment. Use https, let the signed manifest name the address, or for development "
            "build an image whose configuration says insecure_loopback_brokers = true"
        )
    return url


def _address(environment: Mapping[str, str], name: str) -> tuple[str, int] | None:
    text = environment.get(name)
    try:
        return parse_address(text) if text else None
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error


def _log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise ConfigurationError(f"MCBN_LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}")
    return text


def _deadlines(fields: Fields) -> Deadlines:
    if not fields.has("deadlines"):
        return Deadlines()
    given: dict[str, int] = {}
    with Fields(fields.object("deadlines"), fields.path("deadlines")) as inner:
        for name in Deadlines.__dataclass_fields__:
            if inner.has(name):
                given[name] = inner.integer(name, minimum=1, maximum=SECONDS_MAX)
    return Deadlines(**given)


def _engine(fields: Fields, channel: ChannelKind) -> EngineName:
    engine = EngineName(fields.text("engine", pattern=_ENGINES))
    check_engine(channel, engine)
    return engine


def _mtu(fields: Fields) -> int:
    return fields.integer("mtu", minimum=MTU_MIN, maximum=MTU_MAX) if fields.has("mtu") else MTU


def _certificates(fields: Fields, folder: Path) -> CertificateSettings:
    if not fields.has("mutual_tls"):
        return CertificateSettings()
    with Fields(fields.object("mutual_tls"), fields.path("mutual_tls")) as inner:
        if inner.has("ca_certificate") != inner.has("ca_key"):
            raise inner.fail("ca_key", "a CA needs both ca_certificate and ca_key")
        return CertificateSettings(
            ca_certificate=inner.optional("ca_certificate", lambda name: folder / inner.text(name)),
            ca_key=inner.optional("ca_key", lambda name: folder / inner.text(name)),
            names=inner.texts("names", minimum=1, pattern=_DNS_NAME) if inner.has("names") else (),
        )


def _application(fields: Fields) -> ApplicationSettings | None:
    if not fields.has("application"):
        return None
    with Fields(fields.object("application"), fields.path("application")) as inner:
        command = inner.texts("command", minimum=1, pattern=_ARGUMENT)
        if not command[0].startswith("/"):
            raise inner.fail("command", "it begins with the program's absolute path")
        return ApplicationSettings(command=command, environment=_variables(inner))


def _variables(fields: Fields) -> dict[str, str]:
    if not fields.has("environment"):
        return {}
    given = fields.object("environment")
    with Fields(given, fields.path("environment")) as inner:
        if not all(_VARIABLE.fullmatch(name) for name in given):
            raise fields.fail("environment", "a variable's name has letters, digits and _, and no digit first")
        return {name: inner.text(name, pattern=_ARGUMENT) for name in given}


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise ConfigurationError(f"{path} is larger than {limit} bytes")
    return data
