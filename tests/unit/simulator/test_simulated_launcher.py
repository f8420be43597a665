import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from mcbn_simulator import token_file
from mcbn_simulator.errors import ListenError, ServiceError
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.serving import serve_launcher
from mcbn_simulator.token_file import TOKEN_FILE_NAME, write_default_token
from mcbn_simulator.token_options import TokenOptions

Verify = Callable[[str, dict[str, Any]], dict[str, Any]]
GOOD = {"audience": "mcbn:v1:test", "nonces": ["n" * 10, "m" * 74], "token_type": "OIDC"}


class Vm:
    """A launcher on a real unix socket, its machine changeable, and a client inside the container."""

    def __init__(self, machine: SimulatedMachine, client: httpx.AsyncClient, folder: Path) -> None:
        self.machine = machine
        self.client = client
        self.socket = folder / "teeserver.sock"
        self.token_file = folder / TOKEN_FILE_NAME

    async def post(self, **changes: object) -> httpx.Response:
        return await self.client.post("/v1/token", json=GOOD | changes)


@pytest.fixture
async def vm(machine: SimulatedMachine, issuer: Issuer, short_folder: Path) -> AsyncIterator[Vm]:
    transport = httpx.AsyncHTTPTransport(uds=str(short_folder / "teeserver.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        it = Vm(machine, client, short_folder)
        async with serve_launcher(it.socket, lambda: it.machine, issuer.token, token_file=it.token_file):
            yield it


async def test_custom_token(vm: Vm, issuer: Issuer, verified: Verify) -> None:
    answer = await vm.post()
    claims = verified(answer.text, issuer.jwks())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html"
    assert answer.text == answer.text.strip()
    assert claims["aud"] == "mcbn:v1:test"
    assert claims["eat_nonce"] == ["n" * 10, "m" * 74]


@pytest.mark.parametrize("nonces", [[], None])
async def test_custom_token_without_nonces(vm: Vm, issuer: Issuer, verified: Verify, nonces: object) -> None:
    assert "eat_nonce" not in verified((await vm.post(nonces=nonces)).text, issuer.jwks())


async def test_default_token(vm: Vm, issuer: Issuer, verified: Verify) -> None:
    answer = await vm.client.get("/v1/token")
    claims = verified(answer.text, issuer.jwks())
    assert answer.headers["content-type"] == "text/html"
    assert claims["aud"] == "https://sts.googleapis.com"
    assert "eat_nonce" not in claims


async def test_default_token_file(vm: Vm, issuer: Issuer, verified: Verify) -> None:
    first = vm.token_file.read_text()
    before = vm.token_file.stat()
    assert verified(first, issuer.jwks())["aud"] == "https://sts.googleapis.com"
    assert not first.endswith("\n")
    assert before.st_mode & 0o777 == 0o644
    await write_default_token(vm.token_file, lambda: vm.machine, issuer.token)
    assert vm.token_file.stat().st_ino != before.st_ino
    assert sorted(path.name for path in vm.socket.parent.iterdir()) == [TOKEN_FILE_NAME, "teeserver.sock"]


async def test_default_token_file_is_renewed(
    machine: SimulatedMachine,
    issuer: Issuer,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(token_file, "RENEWAL_SECONDS", 0)
    path, served, renewed = short_folder / "token", iter(["first", None, "second"]), asyncio.Event()

    async def request_token(machine: SimulatedMachine, options: TokenOptions) -> str:
        token = next(served, "third")
        if token is None:
            raise ServiceError("Unavailable", "no token now")
        if token == "third":
            renewed.set()
        return token

    async with serve_launcher(short_folder / "s", lambda: machine, request_token, token_file=path):
        await renewed.wait()
        assert path.read_text() in {"second", "third"}
    assert "no token now" in caplog.text


async def test_socket_is_open_to_every_process(vm: Vm) -> None:
    assert vm.socket.stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "failed to parse POST body as TokenOptions: unexpected EOF"),
        (b'{"nonce": []}', 'failed to parse POST body as TokenOptions: json: unknown field "nonce"'),
        (b"{}", "use GET request for the default identity token"),
        (b'{"audience": "a"}', "token_type is a required parameter"),
    ],
)
async def test_malformed_requests(vm: Vm, body: bytes, text: str) -> None:
    answer = await vm.client.post("/v1/token", content=body)
    assert (answer.status_code, answer.text) == (400, text)
    assert answer.headers["content-type"] == "text/html"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_400_and_not_405(vm: Vm, method: str) -> None:
    answer = await vm.client.request(method, "/v1/token")
    assert (answer.status_code, answer.text) == (400, f"TEE server received an invalid HTTP method: {method}")
    assert answer.headers["content-type"] == "text/html"


@pytest.mark.parametrize("path", ["/", "/v1/token/", "/v1/tokens", "/v1"])
async def test_other_paths(vm: Vm, path: str) -> None:
    answer = await vm.client.get(path)
    assert (answer.status_code, answer.text) == (404, "404 page not found\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("nonces", [["n" * 9], ["n" * 75], ["n" * 10] * 7])
async def test_the_service_refuses_nonces(vm: Vm, nonces: list[str]) -> None:
    answer = await vm.post(nonces=nonces)
    assert answer.status_code == 400
    assert answer.text.startswith("failed to retrieve custom attestation service token: rpc error: code = Invalid")
    assert answer.headers["content-type"] == "text/html"


async def test_the_service_refuses_other_token_types(vm: Vm) -> None:
    answer = await vm.post(token_type="AWS_PRINCIPALTAGS")
    assert answer.status_code == 500
    assert "rpc error: code = Unimplemented desc = token type 'AWS_PRINCIPALTAGS'" in answer.text


async def test_a_pki_token(vm: Vm) -> None:
    answer = await vm.post(token_type="PKI")
    assert answer.status_code == 200
    assert len(jwt.get_unverified_header(answer.text)["x5c"]) == 3


async def test_a_machine_that_cannot_be_read_is_500(vm: Vm) -> None:
    vm.machine = SimulatedMachine(image_digest="sha256:00", overrides={"swname.x": 1})
    for answer in (await vm.post(), await vm.client.get("/v1/token")):
        assert answer.status_code == 500
        assert answer.text.startswith("failed to retrieve ")


async def test_fault_error(vm: Vm, altered: Callable[..., SimulatedMachine]) -> None:
    vm.machine = altered(fault="error")
    answer = await vm.post()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "text/html"


async def test_fault_hang_lasts_until_the_client_goes(vm: Vm, altered: Callable[..., SimulatedMachine]) -> None:
    vm.machine = altered(fault="hang")
    with pytest.raises(httpx.ReadTimeout):
        await vm.client.post("/v1/token", json=GOOD, timeout=0.2)
    vm.machine = altered()
    assert (await vm.post()).status_code == 200


async def test_a_hanging_answer_does_not_keep_the_server_alive(
    short_folder: Path, issuer: Issuer, altered: Callable[..., SimulatedMachine], caplog: pytest.LogCaptureFixture
) -> None:
    path, asked = short_folder / "teeserver.sock", asyncio.Event()

    def read_machine() -> SimulatedMachine:
        asked.set()
        return altered(fault="hang")

    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=60) as client:
        async with serve_launcher(path, read_machine, issuer.token):
            answer = asyncio.create_task(client.get("http://localhost/v1/token"))
            await asked.wait()
        with pytest.raises(httpx.TransportError):
            await answer
    assert caplog.messages == []


@pytest.mark.parametrize("fault", ["garbage", "truncated", "wrong-signature"])
async def test_faults_that_break_the_token(
    vm: Vm, issuer: Issuer, altered: Callable[..., SimulatedMachine], fault: str, verified: Verify
) -> None:
    vm.machine = altered(fault=fault)
    answer = await vm.post()
    assert answer.status_code == 200
    with pytest.raises(Exception, match=r"(?i)signature|segments|padding"):
        verified(answer.text, issuer.jwks())


async def test_fault_expired(
    vm: Vm, issuer: Issuer, altered: Callable[..., SimulatedMachine], verified: Verify
) -> None:
    now = verified((await vm.post()).text, issuer.jwks())["iat"]
    vm.machine = altered(fault="expired")
    claims = verified((await vm.post()).text, issuer.jwks())
    assert claims["exp"] == now - 3600
    assert claims["exp"] - claims["iat"] == 3600


async def test_fault_other_nonces(
    vm: Vm, issuer: Issuer, altered: Callable[..., SimulatedMachine], verified: Verify
) -> None:
    vm.machine = altered(fault="other-nonces")
    assert verified((await vm.post()).text, issuer.jwks())["eat_nonce"] == ["other-nonce-0", "other-nonce-1"]


async def test_requests_at_once(vm: Vm, issuer: Issuer, verified: Verify) -> None:
    answers = await asyncio.gather(*(vm.post(nonces=[f"nonce-number-{number}"]) for number in range(20)))
    nonces = [verified(answer.text, issuer.jwks())["eat_nonce"] for answer in answers]
    assert nonces == [f"nonce-number-{number}" for number in range(20)]


async def test_socket_and_token_file_disappear(machine: SimulatedMachine, issuer: Issuer, short_folder: Path) -> None:
    paths = short_folder / "teeserver.sock", short_folder / TOKEN_FILE_NAME
    async with serve_launcher(paths[0], lambda: machine, issuer.token, token_file=paths[1]):
        assert all(path.exists() for path in paths)
    assert not any(path.exists() for path in paths)


async def test_a_path_too_long_for_a_socket(machine: SimulatedMachine, issuer: Issuer, short_folder: Path) -> None:
    with pytest.raises(ListenError, match="short"):
        async with serve_launcher(short_folder / ("s" * 108), lambda: machine, issuer.token):
            pytest.fail("no system has such sockets")


async def test_a_token_file_that_cannot_be_written(
    machine: SimulatedMachine, issuer: Issuer, short_folder: Path
) -> None:
    with pytest.raises(ListenError, match="token file"):
        async with serve_launcher(
            short_folder / "s", lambda: machine, issuer.token, token_file=short_folder / "missing" / "file"
        ):
            pytest.fail("it starts without its token file")
