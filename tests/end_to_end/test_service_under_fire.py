"""A real broker under attack from outside, and when it is told something in the midst of its work."""

import gzip
import http.client
import json
import select
import signal
import socket
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import httpx
import psutil
import pytest

from mcbn_broker.errors import EXIT_CODES
from mcbn_protocol.limits import REQUEST_BYTES, TOKEN_CHARS
from tests.end_to_end.network import DEADLINE_SECONDS, Broker, Desk, Network, ask, code_of

pytestmark = pytest.mark.timeout(300)

HUGE_BYTES = 200_000_000
GROWTH_BYTES_MAX = 8 * 1024 * 1024
SLOW_CLIENTS = 100
DEEP = 100_000
IN_FLIGHT = 20
HEAD = b"POST /v1/releases HTTP/1.1\r\nhost: broker\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def broker(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for every attack from outside: each has to leave it as it was."""
    desk = network.desk.copy(tmp_path_factory.mktemp("under-fire") / "desk")
    limits = {"MCBN_HEADER_SECONDS": "2", "MCBN_BODY_SECONDS": "2", "MCBN_RATE_PER_SECOND": "0"}
    with Broker(desk, **limits) as running:
        yield running.ready()
        assert running.stop() == 0


@pytest.fixture
def unharmed(network: Network, broker: Broker) -> Iterator[None]:
    """Whatever the test did, the same process releases before and after it."""
    for moment in range(2):
        assert broker.process.poll() is None
        with broker.connect() as client:
            network.released(ask(client, network.fresh_request(client)))
        if moment == 0:
            yield


def connection(broker: Broker) -> socket.socket:
    host, _, port = broker.address.rpartition(":")
    return socket.create_connection((host, int(port)), DEADLINE_SECONDS)


def pour(target: socket.socket, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Send until there is an answer or the other end has had enough; return how many bytes went out, and the answer."""
    sent, answer = 0, b""
    try:
        for piece in pieces:
            if select.select([target], [], [], 0)[0]:
                break
            target.sendall(piece)
            sent += len(piece)
        while data := target.recv(65536):
            answer += data
    except ConnectionError:
        pass  # it hung up with our bytes unread: an answer that was under way may be lost (RFC 9112, section 9.6)
    return sent, answer


def plain_pieces() -> Iterator[bytes]:
    yield HEAD + f"content-length: {HUGE_BYTES}\r\n\r\n".encode()
    for _ in range(HUGE_BYTES // 100_000):
        yield b"x" * 100_000


def chunked_pieces() -> Iterator[bytes]:
    yield HEAD + b"transfer-encoding: chunked\r\n\r\n"
    for _ in range(HUGE_BYTES // 100_000):
        yield b"186a0\r\n" + b"x" * 100_000 + b"\r\n"


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("pieces", [plain_pieces, chunked_pieces])
def test_a_body_of_200_mb_is_refused_and_never_held(
    broker: Broker, pieces: Callable[[], Iterator[bytes]], record_property: Callable[[str, object], None]
) -> None:
    memory = psutil.Process(broker.pid).memory_info
    highest = before = memory().rss
    heard = len(broker.said)

    def watched() -> Iterator[bytes]:
        nonlocal highest
        for piece in pieces():
            yield piece
            highest = max(highest, memory().rss)

    with connection(broker) as target:
        sent, answer = pour(target, watched())
    assert sent < HUGE_BYTES // 2, "it read on"
    assert not answer or answer.startswith(b"HTTP/1.1 413 ")
    broker.line('"too_large"', after=heard)
    growth = max(highest, memory().rss) - before
    assert growth <= GROWTH_BYTES_MAX
    record_property("figure", f"{pieces.__name__}: {sent:,} of {HUGE_BYTES:,} bytes sent, memory grew by {growth:,}")


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("part", [HEAD + b"x-slow: ", HEAD + b"content-length: 100\r\n\r\n{"], ids=["headers", "body"])
def test_a_hundred_slow_clients_are_ended_and_keep_nobody_out(network: Network, broker: Broker, part: bytes) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connection(broker)) for _ in range(SLOW_CLIENTS)]
        for one in slow:
            one.sendall(part)
        with broker.connect() as client:
            network.released(ask(client, network.fresh_request(client)))
        for one in slow:
            assert pour(one, iter(()))[1].startswith(b"HTTP/1.1 408 ")


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.usefixtures("unharmed")
def test_json_of_depth_100_000_is_refused(broker: Broker) -> None:
    with broker.connect() as client:
        assert code_of(ask(client, deep(DEEP))) == "too_large"
        assert code_of(ask(client, b"[" * DEEP)) == "too_large"


@pytest.mark.usefixtures("unharmed")
def test_json_as_deep_as_a_request_has_room_for_is_refused(network: Network, broker: Broker) -> None:
    levels = (REQUEST_BYTES - 64) // 2
    with broker.connect() as client:
        for body in (deep(levels), b'{"role":' + deep(levels) + b"}", b'{"a":' * (REQUEST_BYTES // 6)):
            assert code_of(ask(client, body)) == "malformed"
        for part in (0, 1):
            assert code_of(ask(client, with_deep_token(network.fresh_request(client), part))) == "token_not_authentic"


def with_deep_token(request: bytes, part: int) -> bytes:
    """The request with a token whose header (0) or claims (1) are as deep as a token has room for."""
    message = json.loads(request)
    parts = message["evidence"]["token"].split(".")
    levels = (TOKEN_CHARS - len(message["evidence"]["token"])) * 3 // 4 // 2
    parts[part] = urlsafe_b64encode(b'{"a":' + deep(levels - 16) + b"}").decode().rstrip("=")
    message["evidence"]["token"] = ".".join(parts)
    return json.dumps(message).encode()


@pytest.mark.usefixtures("unharmed")
def test_a_gzip_bomb_is_refused_unopened(broker: Broker) -> None:
    bomb = gzip.compress(bytes(30_000_000))
    assert len(bomb) < REQUEST_BYTES
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    with broker.connect() as client:
        assert code_of(client.post("/v1/releases", content=bomb, headers=headers)) == "unsupported_media_type"


@contextmanager
def held_writer(desk: Desk) -> Iterator[None]:
    """Let nobody else write into the database."""
    with closing(sqlite3.connect(desk.database, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("COMMIT")


def test_sigterm_with_20_releases_in_flight_finishes_each_of_them(network: Network, desk: Desk) -> None:
    with Broker(desk).ready() as broker, ExitStack() as stack:
        host, _, port = broker.address.rpartition(":")
        lines = [
            stack.enter_context(closing(http.client.HTTPConnection(host, int(port), timeout=DEADLINE_SECONDS)))
            for _ in range(IN_FLIGHT)
        ]
        with broker.connect() as client:
            requests = [network.fresh_request(client) for _ in lines]
            for line in lines:  # accepted, not only in the kernel's queue
                line.request("GET", "/v1/manifest")
                assert line.getresponse().read()
            with held_writer(desk):
                for line, request in zip(lines, requests, strict=True):
                    line.request("POST", "/v1/releases", request, {"content-type": "application/json"})
                # This comes after them through the one event loop: when it is answered, they wait for the database.
                assert client.get("/v1/audit-head").status_code == httpx.codes.OK
                broker.process.send_signal(signal.SIGTERM)
                assert json.loads(broker.line('"stopping"'))["in_flight"] == IN_FLIGHT
            answers = [line.getresponse() for line in lines]
            bodies = [answer.read() for answer in answers]
        assert broker.ended() == 0
    assert [answer.status for answer in answers] == [200] * IN_FLIGHT
    released = [network.released(httpx.Response(200, content=body)) for body in bodies]
    assert {(one.audit_sequence, one.audit_hash.hex()) for one in released} == desk.releases()
    assert desk.command("audit", "verify").returncode == 0


def test_the_operator_sees_what_the_broker_believes_and_does(network: Network, desk: Desk) -> None:
    with Broker(desk).ready() as broker, broker.connect() as client:
        assert json.loads(broker.line('"SIMULATED ATTESTATION"'))["epoch"] == network.agreed.manifest.epoch
        network.released(ask(client, network.fresh_request(client)))
        with httpx.Client(base_url=broker.health, trust_env=False, timeout=DEADLINE_SECONDS) as operator:
            ready, metrics = operator.get("/readyz").json(), operator.get("/metrics").text
    assert (ready["ready"], set(ready["parts"].values())) == (True, {None})
    assert 0 <= ready["key_set_age_seconds"] <= DEADLINE_SECONDS
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert values['mcbn_releases_total{role="client"}'] == values["mcbn_consent"] == "1.0"
    assert 0 <= float(values["mcbn_key_set_age_seconds"]) <= DEADLINE_SECONDS


def test_a_bad_policy_leaves_the_old_one_in_force(network: Network, desk: Desk) -> None:
    policy = desk.state / "policy.toml"
    policy.write_text('hwmodels = ["GCP_AMD_SEV"]\n')
    with Broker(desk).ready() as broker, broker.connect() as client:

        def code() -> str:
            answer = ask(client, network.fresh_request(client))
            return "released" if answer.status_code == httpx.codes.OK else code_of(answer)

        assert code() == "appraisal_failed"
        for bad in ('hwmodels = ["GCP_AMD_SEV"', "hwmodels = []\n", "anything_goes = true\n"):
            policy.write_text(bad)
            heard = len(broker.said)
            broker.process.send_signal(signal.SIGHUP)
            assert "stays in force" in broker.line('"policy_not_reloaded"', after=heard)
            assert code() == "appraisal_failed"
        policy.write_text('hwmodels = ["GCP_AMD_SEV", "GCP_INTEL_TDX"]\n')
        broker.process.send_signal(signal.SIGHUP)
        broker.line('"policy_reloaded"')
        assert code() == "released"


@pytest.mark.parametrize("option", ["--listen", "--health-listen"])
def test_an_address_in_use_is_named(desk: Desk, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = f"127.0.0.1:{held.getsockname()[1]}"
        options = {"--listen": "127.0.0.1:0", "--health-listen": "127.0.0.1:0"} | {option: taken}
        ended = desk.command("serve", *(part for pair in options.items() for part in pair))
    assert ended.returncode == EXIT_CODES["usage"].number
    assert f"cannot listen on {taken}" in ended.stderr


def test_a_second_serve_on_the_same_folder_is_refused(network: Network, broker: Broker) -> None:
    second = broker.desk.command("serve", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0")
    assert second.returncode == EXIT_CODES["not_ready"].number
    assert "another serve runs on" in second.stderr
    with broker.connect() as client:
        network.released(ask(client, network.fresh_request(client)))
