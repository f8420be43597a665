"""An application is added to the server image as one more layer, reproducibly."""

import hashlib
import os
import re
import tomllib

import pytest

from mcbn_images.errors import ExitCode, InputError, UsageError
from mcbn_images.locks import check_wheels, read_requirements
from mcbn_images.oci import read_image, root_of
from mcbn_images.refresh import resolve_wheels
from tests.unit.images.conftest import deb_of, wheel_of

TOML = 'role = "server"\nchannel = "dtls12-psk"\n'


@pytest.fixture
def application(tree, tmp_path):
    """Return a function that writes the application's folder with a specification in it."""
    tree.build(tmp_path / "base")
    folder = tmp_path / "application"

    def write(text='name = "shop"\nfiles = "files"\ndestination = "/opt/shop"\nworkload_toml = "workload.toml"\n'):
        (folder / "files/bin").mkdir(parents=True, exist_ok=True)
        (folder / "files/bin/run").write_text("#!/usr/bin/python3.11\n")
        (folder / "files/bin/run").chmod(0o755)
        (folder / "files/page.html").write_text("hello")
        (folder / "workload.toml").write_text(TOML)
        (folder / "shop.toml").write_text(text)
        return folder / "shop.toml"

    return write


@pytest.fixture
def extend(tree, tmp_path):
    def run(spec, out="shop", base="server"):
        words = ["extend", str(tmp_path / "base" / base), "--spec", str(spec), "--out", str(tmp_path / out)]
        return tree.run(*words, *tree.sources)

    return run


def pin_deb(spec, inputs, data):
    """Lay a package `tool` into the inputs, and lock it beside a specification."""
    (inputs / "tool_1.0_all.deb").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (spec.parent / "debs.lock").write_text(f"tool 1.0 all pool/main/t/tool/tool_1.0_all.deb {digest} {len(data)}\n")


def lock_wheels(spec, tree, image):
    """Lock the wheels of one of the tree's own images beside a specification."""
    (spec.parent / "wheels.lock").write_bytes((tree.root / f"deploy/images/{image}-wheels.lock").read_bytes())
    (spec.parent / "requirements.txt").write_bytes((tree.root / f"requirements/{image}.txt").read_bytes())


def test_two_extensions_agree_whatever_the_surroundings(application, extend, tmp_path):
    assert extend(application()) == 0
    files = tmp_path / "application/files"
    (files / "page.html").chmod(0o600)
    (files / "bin/run").chmod(0o700)
    (files / "__pycache__").mkdir()
    (files / "__pycache__/x.pyc").write_bytes(b"stray")
    os.utime(files / "page.html", (1, 1))
    before = os.umask(0o077)
    try:
        assert extend(tmp_path / "application/shop.toml", "again", "server.tar") == 0
    finally:
        os.umask(before)
    assert (tmp_path / "shop/shop.tar").read_bytes() == (tmp_path / "again/shop.tar").read_bytes()


def test_the_application_is_one_layer_on_top(application, extend, tmp_path):
    assert extend(application()) == 0
    base, image = read_image(tmp_path / "base/server"), read_image(tmp_path / "shop/shop")
    assert image.layers[:-1] == base.layers
    root = root_of(image)
    assert (root["opt/shop/page.html"].data, root["opt/shop/page.html"].mode) == (b"hello", 0o644)
    assert root["opt/shop/bin/run"].mode == 0o755
    assert root["etc/mcbn/workload.toml"].data.decode() == TOML
    assert image.config["ExposedPorts"] == {"7443/udp": {}}
    policy = {name: value for name, value in base.config["Labels"].items() if name.startswith("tee.")}
    assert policy.items() <= image.config["Labels"].items()
    assert tomllib.loads((tmp_path / "shop/terms-shop.toml").read_text())["image_digests"] == [image.digest]


def test_without_a_configuration_of_its_own_the_bases_stays(application, extend, tmp_path):
    assert extend(application('name = "shop"\nfiles = "files"\n')) == 0
    base, image = read_image(tmp_path / "base/server"), read_image(tmp_path / "shop/shop")
    assert image.config["ExposedPorts"] == base.config["ExposedPorts"]
    assert root_of(image)["opt/application/page.html"].data == b"hello"


def test_entry_point_and_arguments_can_be_replaced(application, extend, tmp_path):
    assert extend(application('name = "shop"\nentrypoint = ["/usr/bin/tool"]\ncmd = []\n')) == 0
    config = read_image(tmp_path / "shop/shop").config
    assert (config["Entrypoint"], config["Cmd"]) == (["/usr/bin/tool"], [])


def test_locked_packages_and_wheels_come_with_their_programs(application, extend, tree, tmp_path):
    spec = application('name = "shop"\npackages = ["tool"]\nrequirements = "requirements.txt"\n')
    data = deb_of("tool", {"usr/bin/tool": (b"tool", 0o755), "usr/share/man/man1/x": (b"", 0o644)})
    pin_deb(spec, tree.inputs, data)
    lock_wheels(spec, tree, "broker")
    assert extend(spec) == 0
    root = root_of(read_image(tmp_path / "shop/shop"))
    assert (root["usr/bin/tool"].data, root["usr/bin/tool"].mode) == (b"tool", 0o755)
    assert "usr/local/lib/python3.11/dist-packages/broker_only/__init__.py" in root
    assert "usr/share/man/man1/x" not in root


def test_what_is_in_the_base_already_is_not_repeated(application, extend, tree, tmp_path):
    spec = application('name = "shop"\nrequirements = "requirements.txt"\n')
    lock_wheels(spec, tree, "workload")
    assert extend(spec) == 0
    assert "workload_only" not in read_image(tmp_path / "shop/shop").layers[-1].decode("ascii", "replace")


def test_locks_that_do_not_fit_are_refused(application, extend, tree, capsys):
    spec = application('name = "shop"\npackages = ["tool"]\n')
    (spec.parent / "debs.lock").write_bytes((tree.root / "deploy/images/debs.lock").read_bytes())
    assert extend(spec) == ExitCode.USAGE
    assert "not those of the list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("destination", "problem"),
    [
        ("usr/local/lib/python3.11/dist-packages/mcbn_workload", "may only add files"),
        ("etc/passwd", "is a file in the base image, and would become a directory"),
        ("../outside", "is no path inside an image"),
    ],
)
def test_an_application_cannot_replace_what_is_audited(application, extend, capsys, destination, problem):
    spec = application(f'name = "shop"\nfiles = "files"\ndestination = "{destination}"\n')
    (spec.parent / "files/__init__.py").write_text("evil")
    assert extend(spec) == ExitCode.INPUT
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    [
        "usr/lib/python3.11/mcbn_workload.py",
        "usr/lib/python3.11/mcbn_workload/__init__.py",
        "usr/local/lib/python3.11/dist-packages/mcbn_workload/key_log.py",
        "usr/local/lib/python3.11/dist-packages/first.pth",
        "usr/local/lib/python3.11/dist-packages/sitecustomize.py",
        "usr/local/lib/python3.11/dist-packages/usercustomize/__init__.py",
        "etc/ld.so.preload",
        "etc/ld.so.conf.d/mine.conf",
        "etc/mcbn/more.toml",
        "usr/local/lib/python3.11/dist-packages/.wh.mcbn_workload",
        "usr/local/lib/python3.11/dist-packages/.wh..wh..opq",
    ],
)
def test_an_application_cannot_change_what_the_base_does(application, extend, tmp_path, capsys, place):
    destination, _, name = place.rpartition("/")
    spec = application(f'name = "shop"\nfiles = "files"\ndestination = "{destination}"\n')
    (tmp_path / "application/files" / name).write_text("")
    assert extend(spec) == ExitCode.INPUT
    assert re.search("would (change what the base image does|delete a file)", capsys.readouterr().err)
    assert not (tmp_path / "shop/shop").exists()


PACKAGES = "usr/local/lib/python3.11/dist-packages"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@pytest.fixture
def extend_by(application, extend, tmp_path):
    """Return a function that extends the base by one file or link, at a path, and gives the exit code."""

    def run(place, link=None):
        destination, _, name = place.rpartition("/")
        spec = application(f'name = "shop"\nfiles = "one"\ndestination = "{destination or "x"}"\n')
        file = tmp_path / "application/one" / name
        file.parent.mkdir()
        file.symlink_to(link) if link else file.write_bytes(b"x")
        return extend(spec)

    return run


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("usr/bin/pyvenv.cfg", "standard library from elsewhere"),
        ("usr/pyvenv.cfg", "standard library from elsewhere"),
        ("opt/shop/pyvenv.cfg", "standard library from elsewhere"),
        ("usr/bin/python3.11._pth", "standard library from elsewhere"),
        ("usr/bin/pybuilddir.txt", "standard library from elsewhere"),
        ("usr/bin/Modules/Setup.local", "standard library from elsewhere"),
        ("usr/bin/lib/python3.11/os.py", "standard library from elsewhere"),
        ("usr/bin/lib/python3.11/lib-dynload/_socket.so", "standard library from elsewhere"),
        ("usr/bin/lib/python311.zip", "standard library from elsewhere"),
        ("usr/lib/python311.zip", "standard library is the base's"),
        (f"{PACKAGES}/shop/__init__.pyc", "compiled code"),
        (f"{PACKAGES}/__pycache__/typing_extensions.cpython-311.pyc", "compiled code"),
        ("opt/shop/other.pyo", "compiled code"),
        (f"{PACKAGES}/workload_only/more.py", "workload_only is the base's"),
        (f"{PACKAGES}/workload_only/__init__.cpython-311-x86_64-linux-gnu.so", "workload_only is the base's"),
        (f"{PACKAGES}/workload_only.py", "workload_only is the base's"),
        (f"{PACKAGES}/workload_only.abi3.so", "workload_only is the base's"),
        (f"{PACKAGES}/workload_only-2.0.dist-info/entry_points.txt", "workload_only-2.0.dist-info is the base's"),
        (f"{PACKAGES.replace('dist', 'site')}/workload_only/x.py", "workload_only is the base's"),
        ("usr/lib/python3/dist-packages/workload_only/x.py", "workload_only is the base's"),
        (f"{LIBRARIES}/glibc-hwcaps/x86-64-v3/libc.so.6", "the loader"),
        (f"{LIBRARIES}/tls/libc.so.6", "the loader"),
        (f"{LIBRARIES}/x86_64/libc.so.6", "the loader"),
        (f"{LIBRARIES}/haswell/avx512_1/libc.so.6", "the loader"),
        (f"{LIBRARIES}/avx512_1/libc.so.6", "the loader"),
        ("usr/lib/glibc-hwcaps/x86-64-v2/libc.so.6", "the loader"),
        ("usr/lib/ssl/openssl.cnf", "OpenSSL"),
        ("opt/pyca/cryptography/openssl/openssl.cnf", "OpenSSL"),
        ("opt/pyca/cryptography/openssl/lib64/ossl-modules/legacy.so", "OpenSSL"),
    ],
)
def test_an_application_cannot_stand_before_the_base(extend_by, tmp_path, capsys, place, why):
    assert extend_by(place) == ExitCode.INPUT
    found = re.search(r"/(\S+) would change what the base image does: (.*)", capsys.readouterr().err)
    assert found
    assert found[1] in place
    assert why in found[2]
    assert not (tmp_path / "shop/shop").exists()


def test_a_link_leads_around_nothing(application, extend, tmp_path, capsys):
    lock = application('name = "shop"\npackages = ["tool"]\n')
    data = deb_of("tool", {"srv/pyca/cryptography/openssl/openssl.cnf": (b"", 0o644)}, links={"opt": "srv"})
    pin_deb(lock, tmp_path / "inputs", data)
    assert extend(lock) == ExitCode.INPUT
    assert "/opt would change what the base image does: as a link" in capsys.readouterr().err


@pytest.mark.parametrize("place", [f"{LIBRARIES}/tls", "usr/bin/lib", "opt/pyca", f"{PACKAGES}/workload_only.so"])
def test_a_link_is_reserved_as_a_file_is(extend_by, capsys, place):
    assert extend_by(place, link="/srv/other") == ExitCode.INPUT
    assert f"/{place} would change what the base image does" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    [
        "usr/lib/ssl/certs/mine.pem",
        "usr/bin/tool",
        f"{PACKAGES}/shop/__init__.py",
        f"{PACKAGES}/workload_only_too.py",
        f"{PACKAGES}/workload.so",
        f"{LIBRARIES}/libshop.so.1",
        "opt/shop/lib/python3.11/site-packages/workload_only/__init__.py",
        "opt/shop/openssl.cnf",
    ],
)
def test_an_application_may_add_what_is_its_own(extend_by, tmp_path, place):
    assert extend_by(place) == 0
    assert root_of(read_image(tmp_path / "shop/shop"))[place].data == b"x"


@pytest.mark.parametrize("source", ["wheel", "package"])
def test_compiled_code_comes_neither_with_a_wheel_nor_with_a_package(application, extend, tmp_path, capsys, source):
    cache = "shop/__pycache__/x.cpython-311.pyc"
    if source == "wheel":
        spec = application('name = "shop"\nrequirements = "requirements.txt"\n')
        digest = wheel_of(tmp_path / "inputs/shop-1.0-py3-none-any.whl", {"shop/x.py": b"", cache: b""})
        (spec.parent / "requirements.txt").write_text(f"shop==1.0 --hash=sha256:{digest}\n")
        (spec.parent / "wheels.lock").write_text(f"shop 1.0 shop-1.0-py3-none-any.whl {digest}\n")
    else:
        spec = application('name = "shop"\npackages = ["tool"]\n')
        pin_deb(spec, tmp_path / "inputs", deb_of("tool", {f"usr/lib/python3/dist-packages/{cache}": (b"", 0o644)}))
    assert extend(spec) == ExitCode.INPUT
    assert "compiled code in place of the source" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../victim", "{victim}", "a/b", "-x", "."])
def test_an_images_name_is_no_path(application, extend, tmp_path, name):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "key").touch()
    assert extend(application(f'name = "{name.format(victim=victim)}"\nfiles = "files"\n')) == ExitCode.USAGE
    assert (victim / "key").exists()


def test_only_an_earlier_image_is_replaced(application, extend, tmp_path, capsys):
    (tmp_path / "shop/shop").mkdir(parents=True)
    (tmp_path / "shop/shop/key").touch()
    assert extend(application()) == ExitCode.USAGE
    assert "is no image layout" in capsys.readouterr().err
    assert (tmp_path / "shop/shop/key").exists()


@pytest.mark.parametrize("member", ["files", "workload_toml", "requirements"])
def test_a_specification_takes_nothing_from_elsewhere(application, extend, tmp_path, capsys, member):
    (tmp_path / "private").mkdir()
    for elsewhere in (str(tmp_path / "private"), "../private"):
        assert extend(application(f'name = "shop"\n{member} = "{elsewhere}"\n')) == ExitCode.USAGE
        assert f"{member} leads out of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "--no-binary evil",
        "-r other.txt",
        "--index-url https://example",
        "evil @ https://example/evil.tar.gz",
        "./evil",
        "evil==1.0",
        "evil==1.0 --hash=md5:00",
        "evil==1.0 ; python_version > '3' --config-settings=x=y --hash=sha256:" + "0" * 64,
        "evil>=1.0 --hash=sha256:" + "0" * 64,
        "evil==1/../${PWD}/files/data.tar.gz --hash=sha256:" + "0" * 64,
        "evil==1.0 ; python_version > '${HOME}' --hash=sha256:" + "0" * 64,
        "evil==1.0 --hash=sha256:" + "0" * 64 + "\x0cother @ https://example/evil.tar.gz",
        "evil==1.0\u2028--no-binary :all: --hash=sha256:" + "0" * 64,
    ],
)
def test_requirements_are_pins_and_nothing_else(application, tree, tmp_path, capsys, line):
    spec = application('name = "shop"\nrequirements = "requirements.txt"\n')
    (tmp_path / "application/requirements.txt").write_text(f"# a lock\n{line}\n")
    assert tree.run("lock", "--spec", str(spec)) == ExitCode.USAGE
    assert "is no NAME==VERSION" in capsys.readouterr().err


@pytest.mark.parametrize("hidden", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_pip_reads_the_lines_that_were_checked_and_never_the_file(tmp_path, monkeypatch, hidden):
    """What is a comment to one reader is a line of its own, and a coding is another text, to another."""
    pin = "shop==1.0 ; python_version > '3' --hash=sha256:" + "0" * 64
    lock = tmp_path / "requirements.txt"
    text = f"# coding: utf-7\n# a lock{hidden}--no-binary :all:\n# +AAo-evil\nshop==1.0 ; python_version > '3' \\\n"
    lock.write_text(f"{text}    --hash=sha256:{'0' * 64}\n    # via x\n", encoding="utf-8", newline="")
    read = []

    def pip(folder, command):
        read.append((folder / command[command.index("--requirement") + 1]).read_bytes())
        return "nothing on this index"

    monkeypatch.setattr("mcbn_images.refresh.run_in", pip)
    with pytest.raises(InputError, match="nothing on this index"):
        resolve_wheels(lock)
    assert [line.split() for line in read[0].decode("ascii").split("\n")] == [pin.split(), []]


@pytest.mark.parametrize("version", ["1/../${PWD}/files/data.tar.gz", "1@x", "$HOME"])
def test_a_locks_version_is_nothing_but_a_version(tmp_path, version):
    digest = "0" * 64
    (tmp_path / "wheels.lock").write_text(f"shop {version} shop-1-py3-none-any.whl {digest}\n")
    (tmp_path / "requirements.txt").write_text(f"shop=={version} --hash=sha256:{digest}\n")
    with pytest.raises(UsageError, match="line 1 has another form"):
        check_wheels(tmp_path / "wheels.lock", tmp_path / "requirements.txt")
    assert read_requirements(tmp_path / "requirements.txt") == {}


@pytest.mark.parametrize("name", ["-c=apt.conf", "--help", "Shop", "shop=1", "x;y"])
def test_a_package_that_is_locked_is_a_package_and_no_option(application, tree, capsys, name):
    assert tree.run("lock", "--spec", str(application(f'name = "shop"\npackages = ["{name}"]\n'))) == ExitCode.USAGE
    assert "is no name of a Debian package" in capsys.readouterr().err


def test_a_files_name_cannot_speak_for_the_program(application, extend, tmp_path, capsys):
    spec = application()
    (tmp_path / "application/files/x\nsha256 is the server image\n.pth").touch()
    assert extend(spec) == ExitCode.INPUT
    assert "\nsha256" not in capsys.readouterr().err


def test_links_are_kept(application, extend, tmp_path):
    spec = application()
    (tmp_path / "application/files/link").symlink_to("page.html")
    assert extend(spec) == 0
    assert root_of(read_image(tmp_path / "shop/shop"))["opt/shop/link"].target == "page.html"


def test_a_pinned_base_is_checked(application, extend, tmp_path, capsys):
    spec = application()
    digest = read_image(tmp_path / "base/server").digest
    spec.write_text(f'name = "shop"\nbase = "{digest}"\n')
    assert extend(spec) == 0
    assert extend(spec, base="client") == ExitCode.USAGE
    assert f"but the specification says {digest}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = ", "Invalid value"),
        ('files = "files"\n', "name is missing"),
        ('name = "shop"\nother = 1\n', "other is not known"),
        ('name = "shop"\nfiles = 1\n', "files has to be a text"),
        ('name = "shop"\ncmd = "x"\n', "cmd has to be a list of texts"),
        ('name = "shop"\nfiles = "absent"\n', "is no folder"),
        ('name = "shop"\nworkload_toml = "absent"\n', "cannot read"),
        ('name = "shop"\nworkload_toml = "shop.toml"\n', "has to say role"),
    ],
)
def test_a_specification_that_cannot_be_right_is_refused(application, extend, capsys, text, problem):
    assert extend(application(text)) == ExitCode.USAGE
    assert problem in capsys.readouterr().err


def test_lock_makes_the_locks_of_a_specification(application, tree, monkeypatch, tmp_path, capsys):
    spec = application('name = "shop"\npackages = ["tool"]\nrequirements = "requirements.txt"\n')
    (spec.parent / "requirements.txt").write_text((tree.root / "requirements/broker.txt").read_text())
    programs = tmp_path / "programs"
    programs.mkdir()
    fields = f"Package: $3\nVersion: 3\nArchitecture: all\nFilename: pool/x_3_all.deb\nSize: 7\nSHA256: {'a' * 64}"
    (programs / "apt-cache").write_text(f"#!/bin/sh\ncat <<END\n{fields}\nEND\n")
    (programs / "apt-cache").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name, value in {"NO_INDEX": "1", "CONFIG_FILE": os.devnull, "FIND_LINKS": str(tree.inputs)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    assert tree.run("lock", "--spec", str(spec)) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert (spec.parent / "debs.lock").read_text().splitlines()[1].startswith("tool 3 all pool/x_3_all.deb ")
    assert "broker-only 2.0 broker_only-2.0-py3-none-any.whl" in (spec.parent / "wheels.lock").read_text()
