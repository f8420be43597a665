"""The smoke test's cloud, by programs that record what they are asked: what it makes, deletes, and never says aloud."""

import asyncio
import dataclasses
import io
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.narration import Narrator
from mcbn_smoke.cloud import Order
from mcbn_smoke.errors import ExitCode, LeftBehindError, SmokeError
from mcbn_smoke.gcloud import cloud as gcloud_cloud
from mcbn_smoke.gcloud import relay as gcloud_relay
from mcbn_smoke.gcloud.cloud import GoogleCloud, Plan
from mcbn_smoke.gcloud.programs import Programs
from tests.unit.deploy.conftest import DIGEST, IMAGE, ROOT

NAME = "mcbn-smoke-0a1b2c"
PLAN = Plan(project="demo-project", zone="europe-west4-b", hardware="TDX", debug=False, name=NAME)
MANIFEST = {"MCBN_MANIFEST": "https://10.77.0.4:5001/v1/manifest"}
TOKEN = "ya29.a-secret-token"


@pytest.fixture
def talk():
    return io.StringIO()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "private"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def google(fakes, folder, talk, monkeypatch):
    fakes.answer("projects describe", "123456789012\n")
    fakes.answer("instances create", "10.77.0.2\n")
    fakes.answer("print-access-token", f"{TOKEN}\n")
    monkeypatch.setattr(gcloud_cloud, "script", lambda name: str(fakes.folder / "bin" / name))
    return GoogleCloud(PLAN, folder, Programs(Narrator(Console(file=talk, width=500))))


def answer_ssh(fakes):
    fakes.answer("ssh -F", "ready\n", stays=True)


async def test_open_makes_a_network_and_a_way_to_this_machine(google, fakes, folder):
    answer_ssh(fakes)
    site = await google.open([5001, 5002])
    await google._relay.close()
    assert (site.project_number, site.hwmodel, site.debug) == ("123456789012", "GCP_INTEL_TDX", False)
    assert site.issuer == "https://confidentialcomputing.googleapis.com"
    assert (site.host, site.ports, site.listen) == ("10.77.0.2", {5001: 9440, 5002: 9441}, "0.0.0.0:7443")
    ssh = fakes.call("ssh")
    assert [ssh[at + 1] for at, word in enumerate(ssh) if word == "-R"] == [
        "*:9440:127.0.0.1:5001",
        "*:9441:127.0.0.1:5002",
    ]
    assert ssh[ssh.index("-F") + 1] == "none"  # nobody's own configuration
    assert "ExitOnForwardFailure=yes" in ssh
    iap = fakes.call(f"{NAME}-iap")
    assert {"--source-ranges=35.235.240.0/20", "--rules=tcp:22", f"--target-tags={NAME}-relay"} <= set(iap)
    inner = fakes.call(f"{NAME}-relay", "firewall-rules")
    assert {"--source-ranges=10.77.0.0/28", "--rules=tcp:9440,tcp:9441"} <= set(inner)
    relay = fakes.call("instances", "create")
    assert {"--no-service-account", "--no-scopes", f"--network-interface=subnet={NAME},no-address"} <= set(relay)
    assert f"--metadata-from-file=startup-script={folder / 'relay-startup'}" in relay
    text = (folder / "relay-startup").read_text()
    assert "GatewayPorts clientspecified" in text
    assert text.index("systemctl reload ssh") < text.index("authorized_keys")
    assert 'restrict,port-forwarding,command="echo ready; exec sleep infinity" ssh-ed25519 ' in text
    assert (folder / "relay").stat().st_mode & 0o777 == 0o600


async def test_a_relay_that_still_boots_is_asked_again(google, fakes, monkeypatch):
    monkeypatch.setattr(gcloud_relay, "_AGAIN_SECONDS", 0)
    fakes.answer("ssh -F", err="connection refused", status=255, once=True)
    answer_ssh(fakes)
    await google.open([5001])
    await google._relay.close()
    assert len([call for call in fakes.calls if call[0] == "ssh"]) == 2


async def test_a_relay_that_never_answers_names_the_missing_role(google, fakes, monkeypatch):
    monkeypatch.setattr(gcloud_relay, "_BOOT_SECONDS", -1)
    fakes.answer("ssh -F", err="4033: not authorized", status=255)
    with pytest.raises(SmokeError, match=r"iap\.tunnelResourceAccessor") as caught:
        await google.open([5001])
    assert "4033: not authorized" in caught.value.log


async def test_publish_hands_the_token_over_in_a_file_that_is_gone_afterwards(google, fakes, folder, talk, tmp_path):
    reference = f"europe-west4-docker.pkg.dev/demo-project/{NAME}/mcbn-smoke-client"
    fakes.answer("mcbn-images push", json.dumps({"image": f"{reference}@{DIGEST}"}))
    assert await google.publish(tmp_path / "layout", "mcbn-smoke-client") == f"{reference}@{DIGEST}"
    push = fakes.call("mcbn-images")
    assert push[1:4] == ["push", str(tmp_path / "layout"), reference]
    assert push[push.index("--username") + 1] == "oauth2accesstoken"
    assert push[push.index("--password-file") + 1] == str(folder / "token")
    assert list(folder.iterdir()) == []
    assert TOKEN not in str(fakes.calls)
    assert TOKEN not in talk.getvalue()


async def test_the_tokens_file_is_private_while_it_is_there(google, fakes, folder, monkeypatch):
    fakes.answer("mcbn-images push", err="no such repository", status=6)
    seen = []
    unlink = Path.unlink

    def look_and_unlink(path):
        seen.append(path.stat().st_mode & 0o777)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", look_and_unlink)
    with pytest.raises(SmokeError) as caught:
        await google.publish(folder, "mcbn-smoke-client")
    assert caught.value.log[1:] == ["no such repository"]
    assert seen == [0o600]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("role", list(Role))
async def test_start_orders_a_vm_by_digest(fakes, folder, talk, role, debug):
    address = "10.77.0.2" if role is Role.CLIENT else "10.77.0.2:7443"
    fakes.answer("instances create", "10.77.0.2\n")
    plan = Plan(project="demo-project", zone="europe-west4-b", hardware="SEV", debug=debug, name=NAME)
    google = GoogleCloud(plan, folder, Programs(Narrator(Console(file=talk))))
    name = "MCBN_CONNECT" if role is Role.CLIENT else "MCBN_LISTEN"
    assert await google.start(Order(role, IMAGE, {name: "10.77.0.3:7443", **MANIFEST})) == address
    call = fakes.call(f"{NAME}-{role}")
    assert "--confidential-compute-type=SEV" in call
    assert ("--image-family=confidential-space-debug" in call) is debug
    (metadata,) = [word for word in call if word.startswith("--metadata=")]
    assert f"tee-image-reference={IMAGE}" in metadata
    assert f"tee-env-{name}=10.77.0.3:7443" in metadata


async def test_a_vm_takes_the_place_of_the_one_before_and_can_boot_the_debug_image_alone(google, fakes):
    order = Order(Role.CLIENT, IMAGE, {"MCBN_CONNECT": "10.77.0.3:7443", **MANIFEST})
    await google.start(order)
    await google.start(dataclasses.replace(order, debug=True))
    client, verbs = f"{NAME}-client", ("create", "delete")
    made = [call for call in fakes.calls if client in call]
    assert [next(word for word in call if word in verbs) for call in made] == ["create", "delete", "create"]
    families = [word for call in made for word in call if word.startswith("--image-family=")]
    assert families == ["--image-family=confidential-space", "--image-family=confidential-space-debug"]


async def test_a_vms_last_words_are_those_of_its_console(google, fakes):
    fakes.answer("get-serial-port-output", "".join(f"line {number}\n" for number in range(100)))
    assert (await google.log(Role.CLIENT))[-1] == "line 99"
    assert len(await google.log(Role.CLIENT)) == 30


async def test_a_console_that_cannot_be_read_says_why(google, fakes):
    fakes.answer("get-serial-port-output", err="ERROR: no such VM", status=1)
    assert (await google.log(Role.CLIENT))[-1] == "ERROR: no such VM"


async def test_close_deletes_everything_that_was_made(google, fakes):
    answer_ssh(fakes)
    await google.open([5001])
    await google.start(Order(Role.SERVER, IMAGE, {"MCBN_LISTEN": "0.0.0.0:7443", **MANIFEST}))
    await google.start(Order(Role.CLIENT, IMAGE, {"MCBN_CONNECT": "10.77.0.2:7443", **MANIFEST}))
    await google.close()

    def named(verb):
        calls = [call for call in fakes.calls if verb in call]
        return {(*call[1 : call.index(verb)], call[call.index(verb) + 1].partition("@")[0]) for call in calls}

    assert named("create") == named("delete") - {("compute", "routers", NAME)}  # only a VM that needs it has one
    assert len(named("create")) == 10


async def test_close_of_what_was_never_begun_asks_for_nothing(google, fakes):
    await google.close()
    assert fakes.calls == []


async def test_what_cannot_be_deleted_is_named_and_the_rest_is_deleted(google, fakes):
    answer_ssh(fakes)
    fakes.answer("firewall-rules delete", err="ERROR: permission", status=1)
    await google.open([5001])
    with pytest.raises(LeftBehindError) as caught:
        await google.close()
    assert f"gcloud compute firewall-rules delete {NAME}-relay --project=demo-project --quiet" in caught.value.log
    assert any(line.startswith(str(ROOT / "deploy/gcloud/remove")) for line in caught.value.log)
    assert fakes.call("service-accounts", "delete")


async def test_what_is_gone_already_is_no_failure(google, fakes):
    answer_ssh(fakes)
    fakes.answer("delete", err="ERROR: The resource was not found", status=1)
    await google.open([5001])
    await google.close()


async def test_a_program_that_is_missing_is_named(talk):
    programs = Programs(Narrator(Console(file=talk)))
    with pytest.raises(SmokeError, match="no-such-program cannot be started"):
        await programs.run("no-such-program")


async def test_a_cancelled_wait_lets_the_program_finish(fakes, talk):
    fakes.answer("gcloud make", until="go")
    task = asyncio.ensure_future(Programs(Narrator(Console(file=talk))).run("gcloud", "make"))
    await asyncio.to_thread(fakes.wait_for_a_call)
    task.cancel()
    asyncio.get_running_loop().call_later(0.2, (fakes.folder / "go").touch)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (fakes.folder / "done").exists()


def smoke(*words, **more):
    command = [str(ROOT / "deploy" / "smoke"), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_the_command_fails_when_the_project_is_not_there_and_still_writes_its_report(fakes, tmp_path):
    fakes.answer("projects describe", err="ERROR: no such project", status=1)
    process = smoke("demo-project", "--out", tmp_path / "out")
    out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.FAILED, err
    assert "ERROR: no such project" in err
    report = Path(out.strip())
    text = report.read_text()
    assert json.loads(text)["passed"] is False
    assert "gcloud ended with status 1." in text
    assert "demo-project" not in text
    assert "gcloud projects describe demo-project" in err  # whoever ran it sees all
    assert [call[1] for call in fakes.calls] == ["projects"]


def test_the_command_says_what_is_left(fakes, tmp_path):
    fakes.answer("projects describe", "1\n")
    fakes.answer("services enable", err="ERROR: billing", status=1)
    fakes.answer("networks delete", err="ERROR: in use", status=1)
    process = smoke("demo-project", "--out", tmp_path)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.LEFT_BEHIND
    assert "LEFT BEHIND" in err


def test_ctrl_c_lets_the_step_finish_and_deletes_what_it_made(fakes, tmp_path):
    fakes.answer("projects describe", "1\n")
    fakes.answer("instances create", "10.77.0.2\n", until="go")
    with smoke("demo-project", "--out", tmp_path) as process:
        assert process.stderr is not None
        said = ""
        while not re.search(r"gcloud compute instances create", said):
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # impatience changes nothing
        (fakes.folder / "go").touch()
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "Traceback" not in err
    assert (fakes.folder / "done").exists()
    deleted = [call[4] for call in fakes.calls if call[1:4] == ["compute", "instances", "delete"]]
    assert any(name.endswith("-relay") for name in deleted)
    assert [call[0] for call in fakes.calls].count("ssh") == 0


@pytest.mark.parametrize(
    "words", [(), ("Demo",), ("demo-project", "--zone", "x"), ("demo-project", "--hardware", "SNP")]
)
def test_a_wrong_command_line_makes_nothing(fakes, words):
    process = smoke(*words)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.USAGE
    assert "usage: deploy/smoke" in err
    assert fakes.calls == []
