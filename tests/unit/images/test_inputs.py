"""Locks admit one file for each name; where it comes from does not matter, and what cannot be had is named."""

import functools
import http.server
import os
import threading

import pytest

from mcbn_images import refresh as refreshing
from mcbn_images.errors import ExitCode, InputError, SupersededError, UsageError
from mcbn_images.finders import by_pip, file_hash
from mcbn_images.locks import check_wheels, read_debs, read_wheels
from mcbn_images.pins import DebPin, WheelPin
from mcbn_images.sources import Sources, default_cache

HASH = "a" * 64


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a folder that comes first on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def deb(tree):
    return read_debs(tree.root / "deploy/images/debs.lock")[0]


def test_what_was_found_once_is_kept(tree, tmp_path, deb):
    cache = tmp_path / "kept"
    Sources(cache, (str(tree.inputs),)).get_debs([deb])
    ((_, path),) = Sources(cache, ("/nowhere",)).get_debs([deb])
    assert file_hash(path) == deb.sha256


def test_a_damaged_cache_is_not_believed(tree, tmp_path, deb):
    sources = Sources(tmp_path / "kept", (str(tree.inputs),))
    ((_, path),) = sources.get_debs([deb])
    path.write_bytes(b"damaged")
    ((_, path),) = sources.get_debs([deb])
    assert file_hash(path) == deb.sha256


def test_another_file_of_the_same_version_is_refused(tree, tmp_path, deb):
    (tree.inputs / "base_1.0_all.deb").write_bytes(b"other")
    with pytest.raises(InputError, match=f"the lock says SHA-256 {deb.sha256}"):
        Sources(tmp_path / "kept", (str(tree.inputs),)).get_debs([deb])


def test_superseded_inputs_are_named_with_the_command(tree, tmp_path, capsys):
    (tree.inputs / "base_1.0_all.deb").unlink()
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    error = capsys.readouterr().err
    assert (code, ExitCode.SUPERSEDED.value) == (3, 3)
    assert error.startswith("inputs superseded: base\n")
    assert error.endswith("mcbn-images lock\n")
    assert not (tmp_path / "out").exists()


def test_a_missing_wheel_is_named(tree, tmp_path, capsys):
    (tree.inputs / "broker_only-2.0-py3-none-any.whl").unlink()
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    assert code == ExitCode.SUPERSEDED
    assert "inputs superseded: broker-only\n" in capsys.readouterr().err


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def archive(tmp_path):
    """Serve a folder over HTTP, as a snapshot archive would; return folder and URL."""
    folder = tmp_path / "archive"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("place", ["pool/main/b/base", "."])
def test_packages_come_from_an_archives_pool_or_from_beside_a_release(tree, tmp_path, deb, archive, place):
    folder, url = archive
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / place / "base_1.0_all.deb").write_bytes((tree.inputs / "base_1.0_all.deb").read_bytes())
    ((_, path),) = Sources(tmp_path / "kept", ("/nowhere", url)).get_debs([deb])
    assert file_hash(path) == deb.sha256


def test_each_source_says_why_it_has_nothing(tmp_path, deb, archive):
    with pytest.raises(SupersededError) as caught:
        Sources(tmp_path / "kept", ("/nowhere", archive[1])).get_debs([deb])
    assert "base 1.0: not in /nowhere" in str(caught.value)
    assert "base 1.0: File not found" in str(caught.value)


def test_apt_is_asked_for_name_and_version(tree, tmp_path, programs):
    program(programs, "apt-get", f'echo "$@" >> {tmp_path}/asked; cp {tree.inputs}/*.deb .')
    pins = read_debs(tree.root / "deploy/images/debs.lock")
    found = Sources(tmp_path / "kept").get_debs(pins)
    assert [file_hash(path) for _, path in found] == [pin.sha256 for pin in pins]
    assert (tmp_path / "asked").read_text() == "download --quiet --quiet base=1.0 ca-certificates=1.0\n"


def test_what_apt_does_not_have_is_asked_for_one_by_one(tree, tmp_path, programs):
    program(
        programs,
        "apt-get",
        f'case "$*" in *base=*) echo "E: no base" >&2; exit 100;; esac; cp {tree.inputs}/ca-*.deb .',
    )
    with pytest.raises(SupersededError, match="no base") as caught:
        Sources(tmp_path / "kept").get_debs(read_debs(tree.root / "deploy/images/debs.lock"))
    assert caught.value.names == ("base",)


def test_without_apt_the_text_says_so(tmp_path, deb, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SupersededError, match="apt-get is not installed"):
        Sources(tmp_path / "kept").get_debs([deb])


def test_pip_gives_the_wheel_that_the_lock_names(tree, tmp_path, monkeypatch):
    (pin,) = read_wheels(tree.root / "deploy/images/workload-wheels.lock")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tree.inputs))
    ((_, path),) = Sources(tmp_path / "kept").get_wheels([pin])
    assert file_hash(path) == pin.sha256
    with pytest.raises(SupersededError, match="pip download: ERROR"):
        Sources(tmp_path / "kept").get_wheels([WheelPin("absent", "1.0", "absent-1.0-py3-none-any.whl", HASH)])


def test_without_pip_the_text_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="give --wheels DIR"):
        by_pip([], tmp_path)


def test_a_cache_that_cannot_be_made_is_named(tree, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    assert (code, "Name a folder: --cache" in capsys.readouterr().err) == (ExitCode.USAGE, True)


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "mcbn-images"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache().parent.name == ".cache"


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        ("workload-only 2.0 workload_only-2.0-py3-none-any.whl " + HASH, "is not in workload.txt"),
        ("other 2.0 other-2.0-py3-none-any.whl " + HASH, "is not in workload.txt"),
        ("no lock", "line 1 has another form"),
        ("", "is empty"),
    ],
)
def test_a_lock_that_requirements_do_not_admit_is_refused(tree, lock, problem):
    path = tree.root / "deploy/images/workload-wheels.lock"
    path.write_text(lock)
    with pytest.raises(UsageError, match=problem):
        check_wheels(path, tree.root / "requirements/workload.txt")


def test_a_requirement_without_a_wheel_is_refused_unless_it_has_a_condition(tree):
    requirements = tree.root / "requirements/workload.txt"
    lock = tree.root / "deploy/images/workload-wheels.lock"
    before = requirements.read_text()
    requirements.write_text(f"{before}colorama==0.4 ; sys_platform == 'win32' \\\n    --hash=sha256:{HASH}\n")
    assert len(check_wheels(lock, requirements)) == 1
    requirements.write_text(f"{before}more==0.4 \\\n    --hash=sha256:{HASH}\n")
    with pytest.raises(UsageError, match=r"more of workload\.txt has no wheel"):
        check_wheels(lock, requirements)


def test_names_in_a_lock_ascend(tree):
    path = tree.root / "deploy/images/debs.lock"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    with pytest.raises(UsageError, match="names must ascend"):
        read_debs(path)
    with pytest.raises(UsageError, match=r"there is no .*absent\.lock: make it with"):
        read_debs(path.with_name("absent.lock"))


def test_a_lock_without_a_package_of_the_list_is_refused(tree, tmp_path, capsys):
    tree.write("deploy/images/debs.txt", "base\nca-certificates\nmore\n")
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    assert (code, "not those of the list" in capsys.readouterr().err) == (ExitCode.USAGE, True)


SHOWN = "Package: $4\nVersion: 3\nArchitecture: all\nFilename: pool/main/x/$4_3_all.deb\nSize: 7\nSHA256: " + HASH


def test_lock_pins_what_apt_and_pip_give_now(tree, programs, monkeypatch, capsys):
    program(programs, "apt-cache", f"cat <<END\n{SHOWN.replace('$4', '$3')}\nEND")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tree.inputs))
    before = (tree.root / "deploy/images/workload-wheels.lock").read_text()
    assert tree.run("lock") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert read_debs(tree.root / "deploy/images/debs.lock")[0] == DebPin(
        "base", "3", "all", "pool/main/x/base_3_all.deb", HASH, 7
    )
    after = (tree.root / "deploy/images/workload-wheels.lock").read_text()
    assert [line for line in after.splitlines() if not line.startswith("#")] == before.splitlines()


def test_lock_names_a_package_that_apt_does_not_know(tree, programs, capsys, monkeypatch):
    program(programs, "apt-cache", "exit 100")
    assert tree.run("lock") == ExitCode.INPUT
    assert "apt has no package base" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    assert tree.run("lock") == ExitCode.INPUT
    assert "on a Debian machine" in capsys.readouterr().err


def test_lock_refuses_a_wheel_that_no_requirement_admits(tree, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(InputError, match=r"pip cannot get the wheels of workload\.txt"):
        refreshing.resolve_wheels(tree.root / "requirements/workload.txt")
