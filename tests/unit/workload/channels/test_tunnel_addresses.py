"""Plaintext addresses: loopback literals and unix sockets only."""

import pytest

from mcbn_workload.errors import ConfigurationError, ExitCode
from mcbn_workload.tunnel.addresses import (
    LoopbackAddress,
    PlaintextAddressError,
    UnixAddress,
    parse_plain_address,
)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "127.255.0.3:1", "[::1]:65535", "unix:/run/app.sock"])
def test_loopback_and_unix_are_accepted(text: str) -> None:
    assert str(parse_plain_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:80",
        "192.168.1.1:80",
        "[::]:80",
        "[2001:db8::1]:80",
        "[::ffff:127.0.0.1]:80",
        "[::1%eth0]:80",
        "localhost:80",
        "far-end.example:80",
        "127.1:80",
        "0177.0.0.1:80",
        "2130706433:80",
        "128.0.0.1:80",
        " 127.0.0.1:80",
    ],
)
def test_plaintext_outside_the_container_is_refused(text: str) -> None:
    with pytest.raises(PlaintextAddressError, match="not loopback"):
        parse_plain_address(text)


@pytest.mark.parametrize("text", ["", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:http", "127.0.0.1:-1", "1:٣"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(PlaintextAddressError, match="neither"):
        parse_plain_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:65536", "[::1]:99999"])
def test_ports_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(PlaintextAddressError, match="port"):
        parse_plain_address(text)


@pytest.mark.parametrize("path", ["run/app.sock", "", "\0abstract", "/a\0b", "/" + "x" * 107])
def test_a_unix_path_must_be_absolute_and_short(path: str) -> None:
    with pytest.raises(PlaintextAddressError, match="absolute"):
        UnixAddress(path)


def test_the_refusal_is_a_configuration_error_at_construction() -> None:
    with pytest.raises(ConfigurationError) as caught:
        LoopbackAddress("10.0.0.1", 80)
    assert (caught.value.code, caught.value.exit_code) == ("plaintext_address_refused", ExitCode.CONFIGURATION)
