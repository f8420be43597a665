"""The application behind real workloads, channels and brokers; only the attestation service is simulated."""

import asyncio
import dataclasses
import json
import socket
import threading

import pytest
from shouting import Service

import mcbn_workload
from mcbn_simulator.errors import SimulatorError


@pytest.fixture
def application():
    """Run the application; give its address."""
    with Service(0) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield "{}:{}".format(*service.server_address)
        service.shutdown()
        thread.join()


@pytest.fixture
def client(network, application):
    """Run both ends of the tunnel; give the client's, to which a user of the application connects."""
    with (
        network.running("server", forward=application) as server,
        network.running("client", connect=server.address, listen="127.0.0.1:0") as client,
    ):
        yield client


def test_a_pause_ends_the_channel(network, client):
    with socket.create_connection(client.endpoint, timeout=30) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"hello\n")
        assert answers.readline() == b"HELLO\n"

        network.pause("bob")
        with pytest.raises(ConnectionResetError):
            answers.readline()
    assert "bob has paused its consent" in client.event("lease_ended")["message"]


def test_the_next_test_finds_everybody_allowing_again(client):
    with socket.create_connection(client.endpoint, timeout=30) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"again\n")
        assert answers.readline() == b"AGAIN\n"


def test_an_image_that_somebody_changed_gets_no_share(network):
    changed = network.running("server", forward="127.0.0.1:1", machine={"image_digest": "sha256:" + "00" * 32})
    with pytest.raises(SimulatorError, match="image_digest"), changed:
        pass


def test_python_at_one_end(network, application):
    async def shout(settings):
        async with mcbn_workload.connect(settings) as channel:
            await channel.write(b"from python\n")
            return await channel.read()

    with network.running("server", forward=application) as server:
        vm = network.workload("client", connect=server.address)
        settings = mcbn_workload.Settings.load(vm.configuration, vm.environment)
        assert asyncio.run(shout(settings)) == b"FROM PYTHON\n"


def test_python_at_both_ends(network):
    async def shout(channel):
        while data := await channel.read():
            await channel.write(data.upper())

    async def talk(server, client):
        settings = mcbn_workload.Settings.load(server.configuration, server.environment)
        async with mcbn_workload.listen(shout, settings) as listening:
            host, port = listening.addresses[0]
            environment = {**client.environment, "MCBN_CONNECT": f"{host}:{port}"}
            settings = mcbn_workload.Settings.load(client.configuration, environment)
            async with mcbn_workload.connect(settings) as channel:
                await channel.write(b"from python\n")
                return await channel.read()

    server, client = network.workload("server"), network.workload("client")
    assert asyncio.run(talk(server, client)) == b"FROM PYTHON\n"


def test_a_broker_is_a_real_one(broker):
    assert json.loads(broker.command("status", "--output", "json"))["participant"] == broker.name


def test_tokens_say_what_a_test_wants(token_issuer, launcher):
    launcher.machine = dataclasses.replace(launcher.machine, debug=True)
    assert launcher.socket.is_socket()
    token = token_issuer.token(audience="me", nonces=["0123456789"], claims={"submods.gce.zone": "nowhere"})
    assert token.count(".") == 2
    token_issuer.rotate()
    assert token_issuer.token(audience="me", nonces=["0123456789"]) != token
