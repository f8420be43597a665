"""What tshark reads in our channels: with a key log what the applications say, without it none of that."""

import asyncio
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import ChannelKind

ROOT = Path(__file__).resolve().parents[2]
PLANS = (*(kind.value for kind in ChannelKind), "dtls12-psk-old-peer")
IANA = {
    "ECDHE-PSK-CHACHA20-POLY1305": "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
    "PSK-AES128-GCM-SHA256": "TLS_PSK_WITH_AES_128_GCM_SHA256",
}
VERSIONS = {"TLSv1.3": "TLS 1.3", "TLSv1.2": "TLS 1.2", "DTLSv1.2": "DTLS 1.2"}


@pytest.fixture(scope="module")
def capture(require_tool: Callable[..., str]) -> Iterator[SimpleNamespace]:
    """The modules of tools/capture, on a machine with tshark."""
    require_tool("tshark")
    sys.path.insert(0, str(ROOT / "tools"))
    yield SimpleNamespace(
        **{name: importlib.import_module(f"capture.{name}") for name in ("decode", "packets", "page", "sessions")}
    )
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture
def record(capture: SimpleNamespace, tmp_path: Path) -> Callable[..., Any]:
    plans = {plan.name: plan for plan in capture.sessions.PLANS}
    assert set(plans) == set(PLANS)
    return lambda name, by=Role.SERVER: capture.sessions.record(plans[name], tmp_path, by=by)


@pytest.fixture
def said(capture: SimpleNamespace) -> tuple[Any, ...]:
    sessions, new = capture.sessions, capture.packets.Said
    return (new(True, sessions.REQUEST), new(False, sessions.ANSWER))


def unreadable(name: str, capture: SimpleNamespace) -> bool:
    """tshark 4.0 leaves the epoch out of the nonce of DTLS with ChaCha20-Poly1305 (RFC 7905 section 2)."""
    return name == ChannelKind.DTLS12_PSK and capture.decode.tshark_version().startswith("4.0.")


@pytest.mark.parametrize("by", Role)
@pytest.mark.parametrize("name", PLANS)
async def test_applications_are_read_with_the_key_log_of_either_end_and_not_without(
    capture: SimpleNamespace, record: Callable[..., Any], said: tuple[Any, ...], name: str, by: Role
) -> None:
    session = await record(name, by)
    sealed, opened = capture.page.both_ways(session)
    assert sealed.said == ()
    if not unreadable(name, capture):
        assert opened.said == said
    for text in (capture.sessions.REQUEST, capture.sessions.ANSWER):
        assert text not in session.capture.read_bytes()


@pytest.mark.parametrize("name", PLANS)
async def test_version_suite_and_identity_are_those_that_our_end_reports(
    capture: SimpleNamespace, record: Callable[..., Any], name: str
) -> None:
    session = await record(name)
    facts = session.negotiated
    for decoded in capture.page.both_ways(session):
        assert decoded.version == VERSIONS[facts.protocol]
        assert decoded.suite == IANA.get(facts.suite, facts.suite)
        assert decoded.identity == (None if session.psk is None else facts.identity)


async def test_certificates_of_mutual_tls_are_read_with_the_key_log_only(
    capture: SimpleNamespace, record: Callable[..., Any]
) -> None:
    sealed, opened = capture.page.both_ways(await record("mtls13"))
    assert (sealed.names, opened.names) == ((), ("mcbn-server", "mcbn-client"))


@pytest.mark.parametrize("name", [name for name in PLANS if name != ChannelKind.MTLS13])
async def test_the_psk_alone_opens_recorded_sessions_of_insecure_suites_only(
    capture: SimpleNamespace, record: Callable[..., Any], said: tuple[Any, ...], name: str
) -> None:
    session = await record(name)
    decoded = capture.decode.decode(session.capture, datagrams=session.plan.datagrams, psk=session.psk.reveal())
    assert decoded.said == (said if name == "dtls12-psk-old-peer" else ())


async def test_another_sessions_key_log_opens_nothing(
    capture: SimpleNamespace, record: Callable[..., Any], tmp_path: Path
) -> None:
    session = await record("tls12-psk")
    other = await record("tls13-psk")
    assert capture.decode.decode(session.capture, datagrams=False, key_log=other.key_log).said == ()


@pytest.mark.parametrize("name", PLANS)
async def test_the_capture_file_has_no_fault_that_tshark_finds(
    capture: SimpleNamespace, record: Callable[..., Any], name: str
) -> None:
    session = await record(name)
    given = capture.decode.options(session.capture, datagrams=session.plan.datagrams, key_log=session.key_log)
    checks = [word for layer in ("ip", "tcp", "udp") for word in ("-o", f"{layer}.check_checksum:TRUE")]
    faults = "_ws.malformed || ip.checksum.status == Bad || tcp.checksum.status == Bad || tcp.analysis.flags"
    command = [capture.decode.tshark(), *given, *checks]
    whole = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    found = await asyncio.to_thread(subprocess.run, [*command, "-Y", faults], capture_output=True, check=True)
    assert len(whole.stdout.splitlines()) > 8
    assert found.stdout == b""


async def test_the_page_shows_what_this_run_shows(capture: SimpleNamespace, record: Callable[..., Any]) -> None:
    """Keys and identities are the same in each run, so the page may not differ, but for another tshark's findings."""
    page = (ROOT / "docs" / "how-to" / "decode.md").read_text(encoding="utf-8")
    made = capture.page.render([await record(name) for name in PLANS])
    if f"By tshark {capture.decode.tshark_version()}," in page:
        assert capture.page.insert(page, made) == page
    else:
        assert capture.page.insert(page, made).count(capture.page.BEGIN) == 1


def test_a_page_without_its_marks_is_not_written(capture: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="two marks"):
        capture.page.insert("# Something else\n", "tables")


def test_a_machine_without_tshark_is_told_how_to_get_it(
    capture: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(capture.decode.NoTsharkError, match="apt-get install tshark"):
        capture.decode.tshark_version()
