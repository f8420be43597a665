"""Settings: where they come from, which are refused, and with which words."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.api.places import client_of
from mcbn_broker.api.rate import CLIENTS, NEWCOMERS, NEWCOMERS_PER_SECOND, RateLimit
from mcbn_broker.app.listeners import address_of, bind
from mcbn_broker.app.notify import handed_over, notify, watchdog_seconds
from mcbn_broker.errors import UsageError
from mcbn_broker.settings import load_settings, split_address


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MCBN_")]:
        monkeypatch.delenv(name)


def load(folder: Path, **flags: Any):
    return load_settings(folder, folder / "kek", **flags)


def test_flags_go_before_environment_before_file(tmp_path, monkeypatch):
    (tmp_path / "broker.toml").write_text("challenge_seconds = 60\nin_flight = 7\nrate_burst = 9\n")
    monkeypatch.setenv("MCBN_IN_FLIGHT", "8")
    monkeypatch.setenv("MCBN_RATE_BURST", "10")
    settings = load(tmp_path, rate_burst=11, listen=None)
    assert (settings.challenge_seconds, settings.in_flight, settings.rate_burst) == (60, 8, 11)
    assert settings.listen == "127.0.0.1:8443"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("unknown_key = 1\n", "unknown_key"),
        ("in_flight = 0\n", "in_flight"),
        ('listen = "nowhere"\n', "HOST:PORT"),
        ('listen = "0.0.0.0:443"\n', "not a loopback address"),
        ('tls_key = "k.pem"\n', "go together"),
        ("not toml", r"broker\.toml"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, text, named):
    (tmp_path / "broker.toml").write_text(text)
    with pytest.raises(UsageError, match=named):
        load(tmp_path)


def test_plain_http_beyond_loopback_has_to_be_asked_for(tmp_path):
    assert load(tmp_path, listen="0.0.0.0:80", insecure_http=True).insecure_http
    with pytest.raises(UsageError, match=r"broker\.internal is not a loopback address"):
        load(tmp_path, listen="broker.internal:80")


@pytest.mark.parametrize(("text", "parts"), [("[::1]:8443", ("::1", 8443)), ("h-1.example:0", ("h-1.example", 0))])
def test_addresses(text, parts):
    assert split_address(text) == parts


@pytest.mark.parametrize("text", ["1.2.3.4", "1.2.3.4:", "1.2.3.4:70000", ":1", "a b:1", "1.2.3.4:1\n"])
def test_other_forms_of_address_are_refused(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(text)


def test_an_address_in_use_is_named_with_the_option_that_sets_it():
    with bind("127.0.0.1:0", option="--listen") as held:
        address = address_of(held)
        with pytest.raises(UsageError) as caught:
            bind(address, option="--health-listen")
    problem = os.strerror(errno.EADDRINUSE)
    assert str(caught.value) == f"cannot listen on {address}: {problem}; --health-listen names another address"


def test_a_bucket_refills_and_clients_are_forgotten_in_order():
    now = 0.0
    limit = RateLimit(per_second=1, burst=2, now=lambda: now)
    assert [limit.admits("a") for _ in range(3)] == [True, True, False]
    assert limit.admits("b")
    now = 1.0
    assert [limit.admits("a") for _ in range(2)] == [True, False]
    for number in range(CLIENTS + 1):
        now += 1 / NEWCOMERS_PER_SECOND
        assert limit.admits(str(number))
    assert len(limit._buckets) == CLIENTS
    assert all(RateLimit(per_second=0, burst=1, now=lambda: 0).admits("a") for _ in range(9))


def test_clients_that_nobody_has_seen_are_limited_together_and_known_ones_are_not():
    now = 0.0
    limit = RateLimit(per_second=1, burst=5, now=lambda: now)
    assert limit.admits("known")
    admitted = sum(limit.admits(str(number)) for number in range(50_000))
    assert admitted == NEWCOMERS - 1
    assert limit.admits("known")
    now = 1.0
    assert sum(limit.admits(f"later {number}") for number in range(50_000)) == NEWCOMERS_PER_SECOND


def test_a_client_is_an_ipv4_address_or_an_ipv6_64():
    assert client_of("192.0.2.7") == client_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:ffff:ffff:ffff")
    assert client_of("2001:db8::1") != client_of("2001:db8:0:1::1")
    assert client_of("fe80::1%eth0") == client_of("fe80::2")


def test_the_health_page_beyond_loopback_has_to_be_asked_for(tmp_path):
    assert load(tmp_path, health_listen="0.0.0.0:8081", insecure_health=True).insecure_health
    with pytest.raises(UsageError, match=r"health_listen: 0\.0\.0\.0 is not a loopback address"):
        load(tmp_path, health_listen="0.0.0.0:8081")


def test_notify_tells_systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "n"))
        notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "n")})
        assert systemd.recv(100) == b"READY=1"
    notify("READY=1", {})


def test_watchdog():
    pid = str(os.getpid())
    assert watchdog_seconds({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": pid}) == 5
    assert watchdog_seconds({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({}) is None


def test_sockets_of_another_process_or_name_are_not_taken():
    assert handed_over({"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "broker"}) == {}
    for names in ("broker:broker", "other", ""):
        with pytest.raises(UsageError, match="FileDescriptorName"):
            handed_over({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": names})
