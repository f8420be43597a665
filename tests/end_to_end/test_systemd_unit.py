"""The systemd unit: how it is judged, and the broker under it, started by a real systemd in namespaces of its own."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import httpx
import pytest

from mcbn_protocol.manifest import AgreedManifest
from tests.end_to_end.network import DEADLINE_SECONDS, ask, code_of

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy/systemd"
BOOT = Path(__file__).parent / "systemd/boot.sh"
CGROUPS = Path("/sys/fs/cgroup")
EXPOSURE_MAX = 1.5
STUBS = ("test", "sysinit", "basic", "sockets", "shutdown", "network-online", "time-sync")
PROGRAM = """\
#!/opt/mcbn/python/bin/python3.{minor} -I
import sys
sys.path[:0] = ["/opt/mcbn/broker", "/opt/mcbn/protocol", "/opt/mcbn/packages"]
from mcbn_broker.__main__ import main
main()
"""
PREPARE = """\
set -eu
mkdir -p /etc/credstore.encrypted /etc/mcbn-broker /var/lib/private
chmod 0700 /var/lib/private
mkdir /var/lib/private/mcbn-broker
cp -R /opt/mcbn/desk/state /var/lib/private/mcbn-broker/data
install -m 0600 /opt/mcbn/desk/passphrase /var/lib/private/mcbn-broker/passphrase
systemd-creds encrypt --with-key=host --name=mcbn-kek /opt/mcbn/desk/kek /etc/credstore.encrypted/mcbn-kek
cp /opt/mcbn/desk/tls-*.pem /etc/mcbn-broker
rm -rf /opt/mcbn/desk
"""
SERVICE = """\
[Service]
Environment=LD_LIBRARY_PATH=/opt/mcbn/python/lib MCBN_HEALTH_LISTEN={health}
WatchdogSec=2
StandardError=truncate:/run/broker.log
"""


def test_exposure(require_tool):
    analyze = require_tool("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=yes", "--no-pager", str(UNITS / "mcbn-broker.service")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (exposure,) = re.findall(r"Overall exposure level for mcbn-broker\.service: ([0-9.]+)", output)
    assert float(exposure) <= EXPOSURE_MAX, output


class Systemd:
    """A running systemd, and what it runs."""

    def __init__(self, pid: int, scratch: Path) -> None:
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--pid", "--cgroup", "--root", "--wd"]
        self._scratch = scratch

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside, to its end."""
        return subprocess.run(
            [*self._enter, *command], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).stdout.strip()

    def start(self, unit: str) -> None:
        """Start a unit, and return when it has told systemd that it is ready."""
        result = self.run("systemctl", "start", unit)
        status = self.run("systemctl", "status", "--no-pager", unit).stdout
        logs = self.run("sh", "-c", "cat /run/*.log").stdout
        assert result.returncode == 0, f"{status}\n{logs}"

    def until(self, unit: str, name: str, differs_from: str) -> str:
        """Wait until a property of a unit has another value."""
        until = time.monotonic() + DEADLINE_SECONDS
        while (value := self.show(unit, name)) == differs_from:
            assert time.monotonic() < until, f"{name} stays {value}"
            time.sleep(0.1)
        return value


@contextlib.contextmanager
def cgroup():
    """Make a control group in each hierarchy that systemd needs, so that the tree it sees is not this machine's."""
    hierarchies = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else [CGROUPS / "systemd", CGROUPS / "unified"]
    groups = [hierarchy / f"mcbn-test-{os.getpid()}" for hierarchy in hierarchies]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        for group in groups:
            for folder in sorted(group.rglob("*/"), reverse=True):
                folder.rmdir()
            group.rmdir()


@pytest.fixture
def may_boot(require_tool):
    """Skip where systemd cannot be booted, and say why."""
    for program, package in (("unshare", "util-linux"), ("systemctl", "systemd"), ("systemd-creds", "systemd")):
        require_tool(program, package)
    command = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        message = "systemd needs namespaces and mounts: run this as root, outside of a container"
        if os.environ.get("MCBN_REQUIRE_PEERS"):
            pytest.fail(message)
        pytest.skip(message)


def connect(url: str) -> httpx.Client:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is the test's own
    return httpx.Client(base_url=url, verify=context, trust_env=False, timeout=DEADLINE_SECONDS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def lay_out(scratch: Path, desk, agreed: AgreedManifest, port: int, health: int) -> None:
    """Write what `boot.sh` reads: the broker as it would lie in /opt/mcbn, one participant's desk, and the units."""
    site, units = scratch / "site", scratch / "units"
    (site / "bin").mkdir(parents=True)
    program = site / "bin/mcbn-broker"
    program.write_text(PROGRAM.format(minor=sys.version_info.minor))
    program.chmod(0o755)
    (site / "prepare").write_text(PREPARE)
    shutil.copytree(desk.root, site / "desk")
    certificate = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1")
    files = ("-keyout", str(site / "desk/tls-key.pem"), "-out", str(site / "desk/tls-certificate.pem"))
    subprocess.run(["openssl", "req", *certificate, *files], capture_output=True, check=True)
    binds = {
        sys.base_prefix: "python",
        sysconfig.get_path("purelib"): "packages",
        ROOT / "broker": "broker",
        ROOT / "protocol": "protocol",
    }
    (scratch / "binds").write_text("".join(f"{source} {target}\n" for source, target in binds.items()))
    shutil.copytree(UNITS, units)
    for name in STUBS:
        (units / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
    (units / "mcbn-broker.service.d").mkdir()
    (units / "mcbn-broker.service.d/test.conf").write_text(SERVICE.format(health=f"127.0.0.1:{health}"))
    (units / "mcbn-broker.socket.d").mkdir()
    (units / "mcbn-broker.socket.d/test.conf").write_text(f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n")
    passphrase = ("--passphrase-file", "passphrase")
    words = f'"restore older epoch {agreed.manifest.epoch} {agreed.hash.hex()}"'
    for name, command in {
        "pause": ("consent", "pause"),
        "allow": ("consent", "allow"),
        "backup": ("backup", "--out", "alice.backup", *passphrase),
        "restore": ("restore", "alice.backup", "--replace", *passphrase, "--confirm", words),
    }.items():
        (units / f"{name}.service").write_text(admin_unit(*command))


def admin_unit(*words: str) -> str:
    """Return a unit with the properties that `mcbn-broker-admin` gives its transient one (which would need a bus)."""
    properties = re.findall(r"--property=(\S+)", (UNITS / "mcbn-broker-admin").read_text())
    lines = ["[Service]", "Type=oneshot", f"ExecStart=/opt/mcbn/bin/mcbn-broker {' '.join(words)}", *properties]
    return "\n".join(
        [*lines, "Environment=LD_LIBRARY_PATH=/opt/mcbn/python/lib", "StandardError=truncate:/run/admin.log"]
    )


@pytest.fixture
def systemd(may_boot, require_tool, network, desk, tmp_path):
    """Boot systemd with the unit installed; give it, and the broker's address."""
    require_tool("openssl")
    port = free_port()
    lay_out(tmp_path, desk, network.agreed, port, free_port())
    unshare = ("--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc")
    with cgroup() as groups:
        enter = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
        command = ["sh", "-c", f'{enter} exec unshare "$@"', "sh", *unshare, "sh", str(BOOT), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as booting:
            try:
                yield booted(booting, tmp_path), f"https://127.0.0.1:{port}"
            finally:
                booting.kill()
        wait_until_empty(groups)


def booted(booting: subprocess.Popen[str], scratch: Path) -> Systemd:
    """Wait until systemd has reached its target."""
    until = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert booting.poll() is None, booting.stdout and booting.stdout.read()
        assert time.monotonic() < until, (scratch / "console").read_text()
        (pid,) = Path(f"/proc/{booting.pid}/task/{booting.pid}/children").read_text().split() or [""]
        if pid:
            systemd = Systemd(int(pid), scratch)
            if systemd.run("systemctl", "is-active", "test.target").stdout.strip() == "active":
                return systemd
        time.sleep(0.1)


def wait_until_empty(groups: list[Path]) -> None:
    """Wait until the kernel has ended the namespace's processes: their first one was killed."""
    until = time.monotonic() + DEADLINE_SECONDS
    while any(path.read_text() for group in groups for path in group.rglob("cgroup.procs")):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_broker_works_under_the_unit(systemd, network):
    inside, url = systemd
    service = "mcbn-broker.service"
    inside.start(service)

    status = dict(
        line.split(":\t", 1)
        for line in inside.run("cat", f"/proc/{inside.show(service, 'MainPID')}/status").stdout.splitlines()
    )
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    assert "0" not in status["Uid"].split()
    limits = inside.run("cat", f"/proc/{inside.show(service, 'MainPID')}/limits").stdout
    assert re.search(r"^Max core file size +1 +1 ", limits, re.MULTILINE), limits

    with connect(url) as client:
        network.released(ask(client, network.fresh_request(client)))

        inside.start("pause.service")
        assert code_of(ask(client, network.fresh_request(client))) == "consent_paused"


def test_a_backup_is_made_and_restored_under_the_unit(systemd, network):
    inside, url = systemd
    service = "mcbn-broker.service"
    inside.start(service)
    inside.start("backup.service")
    with connect(url) as client:
        network.released(ask(client, network.fresh_request(client)))
    inside.run("systemctl", "stop", service)

    inside.start("restore.service")
    found = inside.run("ls", "/var/lib/private/mcbn-broker").stdout.split()
    assert [name.rstrip("0123456789") for name in found if name.startswith("data")] == ["data", "data.replaced-"]

    inside.start(service)
    with connect(url) as client:
        assert code_of(ask(client, network.fresh_request(client))) == "consent_paused"
        inside.start("allow.service")
        network.released(ask(client, network.fresh_request(client)))


def test_a_broker_that_hangs_is_started_again(systemd, network):
    inside, url = systemd
    service = "mcbn-broker.service"
    inside.start(service)
    first = inside.show(service, "WatchdogTimestampMonotonic")
    inside.until(service, "WatchdogTimestampMonotonic", first)
    assert inside.show(service, "NRestarts") == "0"
    inside.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", service)
    assert inside.until(service, "NRestarts", "0") == "1"
    with connect(url) as client:
        network.released(ask(client, network.fresh_request(client)))  # the socket has waited for it
