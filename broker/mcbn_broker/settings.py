"""The settings of one broker, read once: command line > environment (MCBN_*) > DATA_DIR/broker.toml > defaults."""

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from mcbn_broker.errors import UsageError

FILE_NAME: Final = "broker.toml"
_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")
_PORT_MAX: Final = 65535


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `[IPV6]:PORT`; port 0 lets the system choose.

    Raises:
        ValueError: Another form.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _PORT_MAX:
        raise ValueError("an address is HOST:PORT or [IPV6]:PORT")
    return match["host"].strip("[]"), int(match["port"])


def _address(text: str) -> str:
    split_address(text)
    return text


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback literal. A name is not, whatever it resolves to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Address = Annotated[str, AfterValidator(_address)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseSettings):
    """What an administrator may choose. Nothing here can loosen the manifest.

    Attributes:
        data_dir: Where this participant's keys and database are.
        kek_file: The key-encryption key, outside of `data_dir`.
        kek: In place of `kek_file`: the key of Google Cloud KMS that wraps it, `gcp-kms://projects/P/...`.
        kms_endpoint: A regional or private endpoint of Cloud KMS, `https://HOST`.
        listen: Where workloads reach the broker.
        health_listen: Where /livez, /readyz and /metrics answer, in plain HTTP.
        tls_certificate: Certificate chain, PEM.
        tls_key: Its private key, PEM.
        insecure_http: Serve plain HTTP beyond loopback. No secret depends on this TLS, but metadata does.
        insecure_health: Serve the health page, which is always plain HTTP and asks nobody who he is, beyond loopback.
        log_level: The least important events that are logged: debug, info, warning or error.
        header_seconds: How long a client may take to send a request's headers.
        body_seconds: How long it may then take to send the body.
        write_seconds: How long it may leave an answer unread.
        keep_alive_seconds: How long an idle connection is kept.
        stop_seconds: How long a stopping broker waits for what is in flight.
        challenge_seconds: How long a challenge is good for.
        connections: Most connections at once; more are closed as soon as they are made.
        connections_per_client: How many of them one client may have. One client is an IPv4 address or an IPv6 /64, so
            behind a proxy all are one: raise this, `bodies_per_client` and the rates there. A /48 has half of all.
        bodies_per_client: Most requests of one client whose bodies are still on their way; more are answered 429.
        in_flight: Most requests at once whose bodies are there; more are answered 503.
        rate_per_second: Requests a second that one client may make in the long run; 0 switches this off.
        rate_burst: How many it may make at once.
    """

    model_config = SettingsConfigDict(env_prefix="MCBN_", extra="forbid", frozen=True, env_ignore_empty=True)

    data_dir: Path
    kek_file: Path | None = None
    kek: str | None = None
    kms_endpoint: str | None = None
    listen: Address = "127.0.0.1:8443"
    health_listen: Address = "127.0.0.1:8081"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    insecure_http: bool = False
    insecure_health: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    header_seconds: Seconds = 5
    body_seconds: Seconds = 10
    write_seconds: Seconds = 30
    keep_alive_seconds: Annotated[int, Field(ge=1, le=300)] = 30
    stop_seconds: Annotated[int, Field(ge=1, le=300)] = 30
    challenge_seconds: Annotated[int, Field(ge=10, le=600)] = 120
    connections: Annotated[int, Field(ge=10, le=100_000)] = 2000
    connections_per_client: Annotated[int, Field(ge=1, le=100_000)] = 256
    bodies_per_client: Annotated[int, Field(ge=1, le=100_000)] = 128
    in_flight: Annotated[int, Field(ge=1, le=10_000)] = 256
    rate_per_second: Annotated[float, Field(ge=0, le=100_000)] = 50
    rate_burst: Annotated[int, Field(ge=1, le=100_000)] = 200

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: give both, or neither")
        host, _port = split_address(self.listen)
        if self.tls_certificate is None and not is_loopback(host) and not self.insecure_http:
            raise ValueError(
                f"{host} is not a loopback address: give tls_certificate and tls_key, "
                "or insecure_http if a TLS proxy stands before this broker"
            )
        return self

    @model_validator(mode="after")
    def _health(self) -> Self:
        host, _port = split_address(self.health_listen)
        if not is_loopback(host) and not self.insecure_health:
            raise ValueError(
                f"health_listen: {host} is not a loopback address: whoever reaches it reads consent, rates and "
                "readiness; give insecure_health if only your own network does"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: what the caller passes, the environment, the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(
    data_dir: Path,
    kek_file: Path | None,
    *,
    kek: str | None = None,
    kms_endpoint: str | None = None,
    **flags: Any,  # pydantic checks each
) -> Settings:
    """Read the settings of the broker in `data_dir`.

    Args:
        data_dir: Already resolved.
        kek_file: Already resolved, as are the two that follow.
        kek: The key in Cloud KMS.
        kms_endpoint: Of Cloud KMS.
        flags: Settings given on the command line; None means not given.

    Raises:
        UsageError: An unknown key or a value out of range, with the key's name.
    """

    class Bound(Settings):
        model_config = SettingsConfigDict(toml_file=data_dir / FILE_NAME)

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Bound(data_dir=data_dir, kek_file=kek_file, kek=kek, kms_endpoint=kms_endpoint, **given)
    except ValidationError as error:
        raise UsageError("; ".join(_explain(one, data_dir / FILE_NAME) for one in error.errors())) from error
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise UsageError(f"{data_dir / FILE_NAME}: {error}") from error


def _explain(error: Any, file: Path) -> str:  # pydantic's ErrorDetails
    where = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "extra_forbidden":  # only the file can have them: flags are ours, other variables are not read
        return f"{file}: unknown setting {where!r}; see docs/reference/broker-settings.md"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"
