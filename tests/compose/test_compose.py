"""The compose file's containers at work: the images as they are built, the demo's acts, and who is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from mcbn_images.oci import read_image
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.roster import Roster
from tests.compose.containers import NAMES, Log, System
from tests.images.variants import with_a_file, with_a_label

pytestmark = pytest.mark.timeout(600)

SERVICES = {
    "issuer": {"participants"},
    **{name: {"participants", "frank", "dave"} for name in NAMES},
    "server": {"dave", "between"},
    "client": {"frank", "between"},
}
MOUNTED = "/var/lib/mcbn-broker"
WITHOUT_NETWORKS = ("dave-launcher", "frank-launcher", "application", "visitor")


def refused(log: Log, check: str) -> None:
    """Wait until all three have refused, signed, by name of a check."""
    for name in NAMES:
        assert log.event(event="refused", participant=name)["check"] == check


@pytest.mark.parametrize(("role", "operator"), [("client", "frank"), ("server", "dave")])
def test_what_runs_is_the_image_that_was_built_and_that_its_tokens_name(system: System, role: str, operator: str):
    image, machine = system.image(role), system.machine(operator)
    digests = json.loads((system.stage / "images/digests.json").read_text())
    assert image.digest == machine.image_digest == digests[role]
    # An engine calls an image by its configuration's digest, or, with a store of containerd's, by its manifest's.
    assert system.inspect(role)["Image"] in {image.image_id, image.digest}


@pytest.mark.parametrize("name", NAMES)
def test_a_broker_has_released_under_the_digests_that_were_built(system: System, name: str):
    tail = json.loads(system.broker(name, "audit", "tail", "-n", "100", "--output", "json"))
    released = {one["record"]["image_digest"] for one in tail["records"] if one["record"]["kind"] == "release"}
    assert released == {system.image("client").digest, system.image("server").digest}


@pytest.mark.parametrize("service", [*SERVICES, *WITHOUT_NETWORKS])
def test_no_container_can_do_more_than_it_needs(system: System, service: str):
    container = system.inspect(service)
    host = container["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert container["Config"]["User"].split(":")[0] not in {"", "0", "root"}


@pytest.mark.parametrize(("service", "networks"), SERVICES.items())
def test_each_stands_in_its_operators_networks_and_no_other(system: System, service: str, networks: set[str]):
    found = {name.removeprefix(f"{system.project}_") for name in system.inspect(service)["NetworkSettings"]["Networks"]}
    assert found == networks


@pytest.mark.parametrize("name", NAMES)
def test_secrets_come_as_files(system: System, name: str):
    container = system.inspect(name)
    secrets = {
        mount["Destination"] for mount in container["Mounts"] if mount["Destination"].startswith("/run/secrets/")
    }
    assert secrets == {"/run/secrets/kek", "/run/secrets/tls-key"}
    private_key = (system.stage / name / "tls.key").read_text().splitlines()[1]
    assert private_key not in json.dumps(container)


def test_bobs_pause_ends_the_channel_and_his_consent_brings_it_back(system: System):
    with system.log(system.container("visitor")) as visitor, system.log(system.container("client")) as client:
        assert "agree" in visitor.event(event="page")["text"]
        gone, pages = len(visitor.events(event="no_page")), len(visitor.events(event="page"))
        system.broker("bob", "consent", "pause", "--reason", "to see it end")
        visitor.event(event="no_page", number=gone + 1)
        assert client.event(event="refused", participant="bob")["code"] == "consent_paused"
        system.broker("bob", "consent", "allow")
        visitor.event(event="page", number=pages + 1)


def test_a_debug_image_is_refused(system: System):
    machine = dataclasses.replace(system.machine("frank"), debug=True)
    with system.client_vm(machine, operator="frank") as log:
        refused(log, "dbgstat")


def test_daves_vm_is_refused_the_clients_role_although_it_runs_the_clients_image(system: System):
    franks, daves = system.machine("frank"), system.machine("dave")
    machine = dataclasses.replace(franks, project_id=daves.project_id, project_number=daves.project_number)
    with system.client_vm(machine, operator="dave") as log:
        refused(log, "project_number")


@pytest.mark.parametrize("change", [with_a_file, with_a_label])
def test_a_changed_image_is_refused(system: System, change):
    image = change(read_image(Path(system.stage / "images/client")))
    name = change.__name__.replace("_", "-")
    system.load(image, name)
    machine = dataclasses.replace(system.machine("frank"), image_digest=image.digest)
    with system.client_vm(machine, operator="frank", image=name) as log:
        refused(log, "image_digest")


def test_a_broker_is_backed_up_and_restored_below_its_mount_point(system: System):
    roster = Roster.parse((system.stage / "post/roster.json").read_bytes())
    agreed = AgreedManifest.parse((system.stage / "post/bundle.json").read_bytes(), roster)
    words = f"restore epoch {agreed.manifest.epoch} {agreed.hash.hex()}"
    folder = system.stage / "alice/broker"
    system.own_file(folder / "passphrase", "correct horse battery staple")
    backup, passphrase = f"{MOUNTED}/alice.backup", ("--passphrase-file", f"{MOUNTED}/passphrase")
    once = ("run", "--rm", "--no-deps", "-T", "alice")

    with system.log(system.container("visitor")) as visitor, system.log(system.container("client")) as client:
        visitor.event(event="page")
        gone = len(visitor.events(event="no_page"))
        system.compose("stop", "alice")  # no record is written any more, so the backup is not behind
        system.compose(*once, "backup", "--out", backup, *passphrase)
        system.compose(*once, "restore", backup, "--replace", "--confirm", words, *passphrase)
        found = [path.name.rstrip("0123456789") for path in folder.iterdir() if path.name.startswith("data")]
        assert sorted(found) == ["data", "data.replaced-"]

        system.compose("start", "alice")
        visitor.event(event="no_page", number=gone + 1)
        client.event(event="refused", participant="alice", code="consent_paused")
        pages = len(visitor.events(event="page"))
        system.broker("alice", "consent", "allow")
        visitor.event(event="page", number=pages + 1)
