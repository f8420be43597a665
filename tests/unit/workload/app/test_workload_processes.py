"""`mcbn-workload` as a process: what it prints, logs and returns."""

import asyncio
import contextlib
import json
import signal

import pytest

import mcbn_workload
from mcbn_workload.settings import Settings


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    writer.close()


@pytest.fixture
async def tunnel(machine):
    """Start an application, a server and a client; give both processes and the client's plaintext address."""
    application = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with application:
        port = application.sockets[0].getsockname()[1]
        server = await machine.start(
            "server",
            "--config",
            machine.configuration("server", forward=f"127.0.0.1:{port}"),
            MCBN_LISTEN="127.0.0.1:0",
        )
        far_end = (await server.event("ready"))["address"]
        client = await machine.start(
            "client", "--config", machine.configuration("client", listen="127.0.0.1:0"), MCBN_CONNECT=far_end
        )
        host, port = (await client.event("ready"))["address"].split(":")
        yield server, client, (host, int(port))


async def test_bytes_go_through_and_sigterm_ends_both(tunnel):
    server, client, address = tunnel
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"x" * 300_000)
    writer.write_eof()
    assert await reader.read(-1) == b"x" * 300_000
    writer.close()
    for one in (client, server):
        one.process.send_signal(signal.SIGTERM)
        assert await one.end() == 0
        assert [event["event"] for event in one.events][-1] == "stopped"
        assert {"manifest", "released", "gathered", "ready", "channel_open", "channel_ended"} <= {
            event["event"] for event in one.events
        }


async def test_no_secret_is_in_the_log(network, tunnel):
    server, client, _ = tunnel
    for one in (server, client):
        one.process.terminate()
        await one.end()
        text = json.dumps(one.events)
        assert not any(network.share(name).reveal().hex() in text for name in network.names)
        assert "e30.e30" not in text


@pytest.fixture
def short_leases(network):
    network.agreed = network.open_epoch(1, lease_seconds=5)
    for broker in network.brokers.values():
        broker.lease_seconds = 5


async def test_a_pause_ends_the_channel_at_both_ends_and_allowing_heals_it(network, short_leases, tunnel):
    server, client, address = tunnel
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    network.brokers["bob"].refusal = "consent_paused"
    for one in (server, client):
        ended = await one.event("lease_ended")
        assert ended["participants"] == ["bob"]
        assert "bob has paused its consent" in ended["message"]
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    network.brokers["bob"].refusal = None
    for one in (server, client):
        await one.event("gathered")
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"after")
    assert await reader.readexactly(5) == b"after"
    writer.close()


@pytest.mark.parametrize("command", ["server", "client"])
async def test_without_bob_it_ends_with_the_table(network, machine, command):
    network.brokers["bob"].refusal = "consent_paused"
    path = machine.configuration(command, **{"forward" if command == "server" else "listen": "127.0.0.1:1"})
    process = await machine.start(command, "--config", path, MCBN_LISTEN="127.0.0.1:0", MCBN_CONNECT="127.0.0.1:1")
    assert await process.end() == 4
    failed = process.events[-1]
    assert (failed["event"], failed["code"]) == ("failed", "quorum_incomplete")
    assert "bob has paused its consent" in failed["message"]
    assert [row["outcome"] for row in failed["brokers"]] == ["released", "refused", "released"]


async def test_sigterm_during_the_gathering_is_a_normal_end(network, machine):
    asked = asyncio.Event()

    async def hang():
        asked.set()
        await asyncio.get_running_loop().create_future()

    network.brokers["bob"].reply = lambda _request: hang()
    path = machine.configuration("server", forward="127.0.0.1:1")
    process = await machine.start("server", "--config", path, MCBN_LISTEN="127.0.0.1:0")
    await asked.wait()
    process.process.terminate()
    assert await process.end() == 0


async def test_probe_shows_a_table(network, machine):
    path = machine.configuration("client")
    process = await machine.start("probe", "--config", path)
    output, _ = await process.process.communicate()
    assert process.process.returncode == 0
    lines = output.decode().splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["BROKER", "alice", "bob", "carol"]
    assert lines[4].endswith("complete, 3 of 3 needed shares")


async def test_probe_as_json_and_incomplete(network, machine):
    network.brokers["bob"].refusal = "consent_paused"
    process = await machine.start("probe", "--config", machine.configuration("client"), "--output", "json")
    output, _ = await process.process.communicate()
    assert process.process.returncode == 4
    value = json.loads(output)
    assert (value["complete"], value["epoch"], value["threshold"]) == (False, 1, 3)
    assert [(row["participant"], row["outcome"], row["code"]) for row in value["brokers"]] == [
        ("alice", "released", None),
        ("bob", "refused", "consent_paused"),
        ("carol", "released", None),
    ]


@pytest.mark.parametrize(
    ("members", "environment", "said"),
    [
        ({"role": "server", "forward": "10.0.0.1:80"}, {"MCBN_LISTEN": "127.0.0.1:0"}, "loopback"),
        ({"role": "server"}, {"MCBN_LISTEN": "127.0.0.1:0"}, "forward is not set"),
        ({"role": "server", "forward": "127.0.0.1:80"}, {}, "MCBN_LISTEN is not set"),
        ({"role": "client", "listen": "0.0.0.0:80"}, {"MCBN_CONNECT": "h:1"}, "loopback"),
        ({"role": "client", "listen": "127.0.0.1:80"}, {}, "MCBN_CONNECT is not set"),
    ],
)
async def test_a_bad_configuration_starts_nothing(network, machine, members, environment, said):
    process = await machine.start(members["role"], "--config", machine.configuration(**members), **environment)
    assert await process.end() == 3
    assert said in process.events[-1]["message"]
    assert not any(broker.requests for broker in network.brokers.values())


async def test_the_python_interface(machine):
    async def handler(channel):
        while data := await channel.read():
            await channel.write(data[::-1])

    server_settings = Settings.load(machine.configuration("server"), machine.environment(MCBN_LISTEN="127.0.0.1:0"))
    async with mcbn_workload.listen(handler, server_settings) as server:
        host, port = server.addresses[0]
        environment = machine.environment(MCBN_CONNECT=f"{host}:{port}")
        settings = Settings.load(machine.configuration("client"), environment)
        async with mcbn_workload.connect(settings) as channel:
            await channel.write(b"abc")
            assert await channel.read() == b"cba"
        async with mcbn_workload.open_keys(settings) as keys:
            for _ in range(2):
                async with mcbn_workload.connect(settings, keys=keys) as channel:
                    await channel.write(b"xy")
                    assert await channel.read() == b"yx"
        with pytest.raises(ZeroDivisionError):
            async with mcbn_workload.connect(settings) as channel:
                raise ZeroDivisionError
