"""The parts of the services that whole processes show too, here one by one."""

import asyncio
import json
import signal

import pytest

from mcbn_protocol.identifiers import Role
from mcbn_workload.app import _probe, _serve
from mcbn_workload.app.services import connect, serve
from mcbn_workload.app.stopping import Stopping
from mcbn_workload.errors import ConfigurationError, ExitCode
from mcbn_workload.probe import as_json, as_table
from mcbn_workload.settings import Settings


async def test_a_table_has_a_line_for_each_broker(network):
    network.brokers["bob"].refusal = "consent_paused"
    gathering = await network.quorum().gather(network.names, lambda _row, _outcome: None)
    heading, *rows, summary = as_table(gathering).splitlines()
    assert heading.split() == ["BROKER", "OUTCOME", "MS", "ATTEMPTS", "DETAIL"]
    assert [row.split()[:2] for row in rows] == [["alice", "released"], ["bob", "refused"], ["carol", "released"]]
    assert (
        len({line.index(word) for line, word in zip([heading, rows[1]], ["DETAIL", "bob refuses"], strict=True)}) == 1
    )
    assert summary.endswith("INCOMPLETE, 2 of 3 needed shares")
    assert json.loads(as_json(gathering))["complete"] is False


async def test_the_first_signal_ends_a_service_in_peace():
    with Stopping() as stopping:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        await stopping.wait()
        assert stopping.asked


async def test_a_signal_at_the_start_ends_it(network):
    async def gather_for_ever(_settings, _stopping):
        signal.raise_signal(signal.SIGINT)
        await asyncio.get_running_loop().create_future()

    assert await asyncio.create_task(_serve(gather_for_ever, network.settings())) is ExitCode.OK


async def test_a_second_signal_does_not_wait(network):
    async def stuck(_settings, stopping):
        signal.raise_signal(signal.SIGTERM)
        await stopping.wait()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.get_running_loop().create_future()

    assert await asyncio.create_task(_serve(stuck, network.settings())) is ExitCode.OK


async def test_a_cancellation_that_no_signal_asked_for_is_passed_on(network):
    async def cancelled(_settings, _stopping):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(_serve(cancelled, network.settings()))


class StopAtOnce(Stopping):
    async def wait(self):
        """Be ready, and stop."""


@pytest.mark.parametrize(("role", "service"), [("server", serve), ("client", connect)])
async def test_a_service_is_ready_and_stops(machine, caplog, role, service):
    caplog.set_level("INFO", "mcbn")
    end = {"forward": "127.0.0.1:1"} if role == "server" else {"listen": "127.0.0.1:0"}
    environment = machine.environment(MCBN_LISTEN="[::1]:0", MCBN_CONNECT="[::1]:7")
    await service(Settings.load(machine.configuration(role, **end), environment), StopAtOnce())
    (ready,) = [record for record in caplog.records if getattr(record, "event", "") == "ready"]
    assert ready.role == role
    assert ready.address.startswith("[::1]:" if role == "server" else "127.0.0.1:")


async def test_an_image_of_the_other_role_starts_nothing(machine):
    settings = Settings.load(machine.configuration("client"), machine.environment())
    with pytest.raises(ConfigurationError, match="role client"):
        await serve(settings, StopAtOnce())
    assert settings.role is Role.CLIENT


@pytest.mark.parametrize("output", ["table", "json"])
async def test_probe_keeps_no_share(network, machine, capsys, output):
    settings = Settings.load(machine.configuration("client"), machine.environment())
    assert await _probe(settings, output) is ExitCode.OK
    text = capsys.readouterr().out
    assert "complete" in text
    assert not any(network.share(name).reveal().hex() in text for name in network.names)
