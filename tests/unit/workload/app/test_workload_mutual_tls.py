"""Mutual TLS as a user has it: `mcbn-workload` over it, and the how-to's two programs."""

import asyncio
import json
import re
import signal
import time

import pytest

from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_workload.settings import Settings

PAGE = "docs/how-to/http-over-mutual-tls.md"
TERMS = MutualTlsTerms(LeafKind.RSA, RsaScheme.C2SP_DET_KEYGEN, 2048)


@pytest.fixture(autouse=True)
def agreed(network):
    now = int(time.time())  # the certificates are made for it
    network.agreed = network.open_epoch(
        1, channels=(ChannelKind.MTLS13,), mutual_tls=TERMS, valid_from=now - 100, valid_until=now + 10**6
    )


async def answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    writer.close()


async def test_the_tunnel_carries_a_page_and_both_ends_log_both_keys(machine):
    application = await asyncio.start_server(answer, "127.0.0.1", 0)
    forward = f"127.0.0.1:{application.sockets[0].getsockname()[1]}"
    async with application:
        configuration = machine.configuration("server", channel="mtls13", forward=forward)
        server = await machine.start("server", "--config", configuration, MCBN_LISTEN="127.0.0.1:0")
        far_end = (await server.event("ready"))["address"]
        configuration = machine.configuration("client", channel="mtls13", listen="127.0.0.1:0")
        client = await machine.start("client", "--config", configuration, MCBN_CONNECT=far_end)
        host, port = (await client.event("ready"))["address"].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: far-end\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\nok")
        writer.close()
        for one in (client, server):
            one.process.send_signal(signal.SIGTERM)
            assert await one.end() == 0
    ours, theirs = ([one for one in end.events if one["event"] == "keys_verified"] for end in (client, server))
    assert [(one["own_key"], one["peer_key"]) for one in ours] == [(one["peer_key"], one["own_key"]) for one in theirs]
    assert ours[0]["own_key"].startswith("spki-sha256:")
    assert "PRIVATE KEY" not in json.dumps(client.events + server.events)


async def test_the_programs_of_the_page_print_ok_and_each_others_key(machine, page_program, listening_port, capsys):
    def settings(role, **variables):
        path = machine.configuration(role, channel="mtls13")
        return Settings.load(path, machine.environment(**variables))

    server = asyncio.create_task(page_program(PAGE, "listen(")(settings("server", MCBN_LISTEN="127.0.0.1:0")))
    await asyncio.wait([listening_port, server], return_when=asyncio.FIRST_COMPLETED)
    await page_program(PAGE, "connect(")(settings("client", MCBN_CONNECT=f"127.0.0.1:{listening_port.result()}"))
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"spki-sha256:[\w-]{43}$", "KEY", line) for line in lines] == [
        "the client holds KEY",
        "ok",
        "the server holds KEY",
    ]
    assert lines[0].split()[-1] != lines[2].split()[-1]
