"""The real images: the same digests from other surroundings, the recorded ones, and a root directory that runs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mcbn_images.definitions import Definitions
from mcbn_images.errors import ExitCode
from mcbn_images.images import Builder
from mcbn_images.locks import read_wheels
from mcbn_images.oci import root_of as entries_of
from mcbn_images.report import contents_page
from mcbn_images.roster import read_roster
from mcbn_images.sources import Sources, default_cache
from mcbn_images.terms import arguments
from mcbn_images.tree import Kind
from tests.images.building import EXAMPLE, ROOT, copy_of_the_tree, mcbn_images
from tests.images.conftest import unpack

pytestmark = pytest.mark.timeout(600)

PYTHONS = ("3.13", "3.12", "3.11")
FORBIDDEN = re.compile(
    r"(.*/)?(sh|bash|dash|busybox|gcc|cc|ld|as|apt|apt-get|dpkg|pip|perl|openssl|ldconfig|su|sudo|mount)(\d[\d.]*)?"
    r"|.*/(pip|setuptools|ensurepip|wheel|mcbn_simulator|pytest|coverage|uvloop|mbedtls)/.*"
    r"|.*/key_log\.py|.*\.pyc|.*/mcbn_images/.*"
)


def another_python():
    """Return an interpreter of another version than this one, or this one where there is none that works."""
    versions = [version for version in PYTHONS if version != "{}.{}".format(*sys.version_info[:2])]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [path for version in versions for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    found += [Path(name) for version in versions if (name := shutil.which(f"python{version}"))]
    for path in found:
        if subprocess.run([path, "-c", "import lzma, ssl"], capture_output=True, check=False).returncode == 0:
            return str(path)
    return sys.executable


def test_two_builds_agree(built, cached, tmp_path):
    tree = copy_of_the_tree(tmp_path / "elsewhere" / "deeper")
    for name in ("deploy/images", "requirements"):  # where the locks had to be made anew, the same ones
        shutil.copytree(built.tree / name, tree / name, dirs_exist_ok=True)
    for path in tree.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    words = ("build", "--roster", tree / EXAMPLE, "--out", tmp_path / "out", "--cache", tmp_path / "cache", *cached)
    surroundings = {"TZ": "Pacific/Chatham", "PYTHONHASHSEED": "99", "LC_ALL": "C", "HOME": str(tmp_path)}
    result = mcbn_images(tree, *words, python=another_python(), umask=0o077, **surroundings)
    assert (result.returncode, result.stderr.count("\n")) == (0, 1), result.stderr
    assert "the example's roster, whose keys nobody has" in result.stderr
    assert json.loads((tmp_path / "out/digests.json").read_text()) == built.digests


def test_the_digests_are_the_recorded_ones(built, capsys):
    if built.superseded:
        with capsys.disabled():
            sys.stderr.write(f"\n{built.superseded}")
        pytest.skip(built.superseded.splitlines()[0])
    recorded = json.loads((ROOT / "deploy/images/example-digests.json").read_text())
    assert built.digests == recorded, (
        "the source, a lock or a definition has changed. Record it: make record, and commit"
    )


def test_the_page_of_contents_is_what_the_build_says(built):
    if built.superseded:
        pytest.skip(built.superseded.splitlines()[0])
    definitions = Definitions(ROOT)
    builder = Builder(definitions, Sources(default_cache()), read_roster(definitions.example_roster))
    page = (ROOT / "docs/reference/images.md").read_text(encoding="utf-8")
    assert page == contents_page(builder), "what is in the images has changed. Record it: make record, and commit"


@pytest.mark.parametrize("name", ["client", "server"])
def test_the_bill_of_materials_names_every_locked_wheel_and_the_openssl_in_one(built, name):
    bill = json.loads((built.out / f"{name}.cdx.json").read_text(encoding="utf-8"))
    found = {one["name"]: one for one in bill["components"]}
    wheels = {pin.name: pin.version for pin in read_wheels(Definitions(built.tree).wheel_lock(name)[0])}
    assert wheels
    assert wheels == {wheel: found[wheel]["version"] for wheel in wheels}
    parts = found["cryptography"]["components"]
    (openssl,) = [part for part in parts if part["purl"].startswith("pkg:generic/openssl@")]
    assert re.fullmatch(r"\d+\.\d+\.\d+", openssl["version"])


@pytest.mark.parametrize("name", ["client", "server"])
def test_a_workload_image_holds_nothing_that_it_does_not_need(built, name):
    entries = entries_of(built.image(name))
    files = [path for path, entry in entries.items() if entry.kind is not Kind.DIRECTORY]
    assert [path for path in files if FORBIDDEN.fullmatch(path)] == []
    assert [path for path in entries if "mcbn_broker" in path] == []
    programs = [path for path, entry in entries.items() if path.startswith(("usr/bin/", "usr/sbin/"))]
    assert programs == ["usr/bin/python3.11"]
    assert {entry.owner for entry in entries.values()} == {0}
    assert {entry.mode for entry in entries.values() if entry.kind is Kind.FILE} == {0o644, 0o755}


def test_the_broker_image_holds_no_workload(built):
    entries = entries_of(built.image("broker"))
    assert [path for path in entries if "mcbn_workload" in path or "mcbn_simulator" in path] == []


@pytest.mark.parametrize(
    ("name", "answer"),
    [("client", "mcbn-workload"), ("server", "mcbn-workload"), ("broker", "mcbn-broker")],
)
def test_an_image_runs_from_its_own_root(built, root_of, run_in, name, answer):
    command = [*built.image(name).config["Entrypoint"], "--version"]
    result = run_in(root_of(name), command)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{answer} ")


def test_the_workload_starts_as_its_own_command_says(built, root_of, run_in):
    result = run_in(root_of("server"), arguments(built.image("server")))
    assert (result.returncode, json.loads(result.stderr)["message"]) == (
        3,
        "MCBN_LISTEN is not set, and is needed here",
    )


def test_a_configuration_with_a_key_log_is_refused_by_name(built, root_of, run_in):
    root = root_of("server")
    configuration = root / "etc/mcbn/key-log.toml"
    configuration.write_text((root / "etc/mcbn/workload.toml").read_text() + 'key_log = "/tmp/keys"\n')
    command = [*arguments(built.image("server")), "--config", "/etc/mcbn/key-log.toml"]
    result = run_in(root, command, MCBN_LISTEN="127.0.0.1:0", MCBN_MANIFEST="/absent")
    assert result.returncode == 3
    assert "this image was built without the key log" in result.stderr
    assert not (root / "tmp/keys").exists()


@pytest.mark.parametrize("name", ["server", "broker"])
def test_everything_that_is_linked_is_there(root_of, run_in, name):
    program = (
        "import ctypes, importlib, os, pathlib, ssl, sys\n"
        "folder = pathlib.Path('/usr/lib/python3.11/lib-dynload')\n"
        "for path in folder.glob('*.so'): importlib.import_module(path.name.partition('.')[0])\n"
        "for path in pathlib.Path('/usr/local').rglob('*.abi3.so'): ctypes.CDLL(str(path))\n"
        "assert len(ssl.create_default_context().get_ca_certs()) > 100\n"
        "assert not os.access('/usr/local', os.W_OK) and os.getuid() in {0, 65532}\n"
        "print(sys.flags.isolated, sys.flags.utf8_mode)\n"
    )
    result = run_in(root_of(name), ["/usr/bin/python3.11", "-I", "-c", program])
    assert (result.returncode, result.stdout.split()[0]) == (0, "1"), result.stderr


def test_the_environment_decides_nothing_about_imports(root_of, run_in):
    evil = {"PYTHONPATH": "/tmp", "PYTHONSTARTUP": "/tmp/x", "PYTHONHOME": "/tmp"}
    result = run_in(root_of("server"), ["/usr/bin/python3.11", "-I", "-m", "mcbn_workload", "--version"], **evil)
    assert (result.returncode, result.stderr) == (0, "")


GREET = """\
import http.server, runpy, threading, urllib.request
greeter = runpy.run_path("/opt/greeter/greeter.py")["Greeter"]
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), greeter) as server:
    threading.Thread(target=server.serve_forever).start()
    print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").read().decode(), end="")
    server.shutdown()
"""


def test_an_extended_image_is_reproducible_and_runs(built, run_in, tmp_path):
    application = ROOT / "deploy/images/example-application"
    copy = tmp_path / "elsewhere"
    shutil.copytree(application, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.*"):
        path.chmod(0o600)
    outs = {tmp_path / "one": (application, 0o022), tmp_path / "two": (copy, 0o077)}
    for out, (folder, umask) in outs.items():
        words = ("extend", built.out / "server", "--spec", folder / "application.toml", "--out", out)
        result = mcbn_images(built.tree, *words, umask=umask)
        assert result.returncode == ExitCode.OK, result.stderr
    assert len({(out / "digests.json").read_text() for out in outs}) == 1
    tmp_path.chmod(0o755)
    unpack(tmp_path / "one/greeter", tmp_path / "root")
    python, *_, program = tomllib.loads((application / "workload.toml").read_text())["application"]["command"]
    assert (tmp_path / "root" / program[1:]).is_file()
    result = run_in(tmp_path / "root", [python, "-I", "-c", GREET])
    assert result.stdout == "hello from inside\n", result.stderr


HELLO = """\
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.errors import EngineUnavailableError
from mcbn_workload.channels.psk import NO_TERMS
from mcbn_workload.epoch_keys.engines import psk_engines
from mcbn_workload.kinds import EngineName
from mcbn_workload.settings import Settings
settings = Settings.load("/etc/mcbn/workload.toml", {"MCBN_CONNECT": "127.0.0.1:9"})
try:
    engines = psk_engines(ChannelKind.DTLS12_PSK, EngineName.MBEDTLS)
except EngineUnavailableError as error:
    exit(str(error))
client = engines.client("mcbn1.x", Secret(bytes(32)), NO_TERMS)()
client.handshake()
print(settings.channel, settings.engine, client.outgoing()[0][:3].hex())
"""


def test_the_image_with_mbed_tls_is_the_one_that_was_asked_for(built, root_of, run_in, tmp_path):
    folder = ROOT / "deploy/images/mbed-tls"
    result = mcbn_images(
        built.tree, "extend", built.out / "client", "--spec", folder / "image.toml", "--out", tmp_path / "out"
    )
    assert result.returncode == ExitCode.OK, result.stderr
    tmp_path.chmod(0o755)
    unpack(tmp_path / "out/client-on-mbed-tls", tmp_path / "root")
    result = run_in(tmp_path / "root", ["/usr/bin/python3.11", "-I", "-c", HELLO])
    # The last are the first bytes of a DTLS 1.2 handshake record, RFC 6347 section 4.1.
    assert result.stdout == "dtls12-psk mbedtls 16fefd\n", result.stderr
    result = run_in(root_of("client"), ["/usr/bin/python3.11", "-I", "-c", HELLO])
    assert "docs/how-to/extend-an-image.md" in result.stderr


def test_nothing_in_the_images_names_this_machine(built):
    needles = {str(ROOT), str(built.tree), str(default_cache()), sys.prefix}
    for name in built.digests:
        image = built.image(name)
        for blob in (image.configuration, image.manifest, image.layers[-1]):
            assert [needle for needle in needles if needle.encode() in blob] == []
