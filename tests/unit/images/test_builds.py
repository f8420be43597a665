"""What decides a digest, and what does not."""

import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from mcbn_images.errors import ExitCode
from mcbn_images.oci import read_image, root_of

SITE = "usr/local/lib/python3.11/dist-packages"


def test_two_builds_agree_whatever_the_surroundings(tree, tmp_path):
    first = tree.build(tmp_path / "one")
    for path in tree.root.rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (time.time() + 5000,) * 2)
    caches = tree.root / "workload/mcbn_workload/__pycache__"
    caches.mkdir()
    (caches / "x.cpython-311.pyc").write_bytes(b"stray")
    words = ["build", "--roster", tree.roster, "--out", tmp_path / "two" / "deep", *tree.sources]
    program = "import os, sys; os.umask(0o077); from mcbn_images.cli import main; sys.exit(main(sys.argv[1:]))"
    second = subprocess.run(
        [sys.executable, "-c", program, "--source", tree.root, *words],
        env={"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "4711", "LC_ALL": "C", "HOME": "/nonexistent"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (second.returncode, second.stderr) == (0, "")
    assert json.loads((tmp_path / "two/deep/digests.json").read_text()) == first
    for name in first:
        assert (tmp_path / "one" / f"{name}.tar").read_bytes() == (tmp_path / f"two/deep/{name}.tar").read_bytes()


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("workload/mcbn_workload/__init__.py", {"client", "server"}),
        ("broker/mcbn_broker/__init__.py", {"broker"}),
        ("protocol/mcbn_protocol/__init__.py", {"client", "server", "broker"}),
        ("deploy/images/server.toml", {"server"}),
        ("workload/mcbn_workload/key_log.py", set()),
    ],
)
def test_one_byte_changes_the_images_it_is_in_and_no_other(tree, tmp_path, file, changed):
    before = tree.build(tmp_path / "before")
    path = tree.root / file
    path.write_bytes(path.read_bytes() + b"\n")
    after = tree.build(tmp_path / "after")
    assert {name for name in before if before[name] != after[name]} == changed


def test_another_roster_changes_both_workload_images(tree, tmp_path):
    before = tree.build(tmp_path / "before")
    tree.write_roster(network="other")
    after = tree.build(tmp_path / "after")
    assert {name for name in before if before[name] != after[name]} == {"client", "server"}


def test_roles_differ_by_configuration_command_and_labels_alone(tree, tmp_path):
    client, server = (tree.image(role, tmp_path / role) for role in ("client", "server"))
    assert client.layers[:2] == server.layers[:2]
    assert (client.config["Cmd"], server.config["Cmd"]) == (["client"], ["server"])
    ours, theirs = root_of(client), root_of(server)
    assert {path for path in ours if ours[path] != theirs[path]} == {"etc/mcbn/workload.toml"}


def test_an_archive_has_what_docker_and_oci_readers_look_for(tree, tmp_path):
    digest = tree.build(tmp_path / "out")["server"]
    (tmp_path / "loaded").mkdir()
    with tarfile.open(tmp_path / "out/server.tar") as tar:
        names = tar.getnames()
        tar.extractall(tmp_path / "loaded", filter="data")
    docker, index = (json.loads((tmp_path / f"loaded/{name}.json").read_text()) for name in ("manifest", "index"))
    assert docker[0]["RepoTags"] == ["mcbn-server:latest"]
    assert {docker[0]["Config"], *docker[0]["Layers"]} <= set(names)
    assert [one["digest"] for one in index["manifests"]] == [digest]
    assert json.loads((tmp_path / "out/server/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert read_image(tmp_path / "out/server.tar").digest == read_image(tmp_path / "out/server").digest == digest


def test_no_blob_tells_a_time(tree, tmp_path):
    image = tree.image("client", tmp_path / "out")
    assert "created" not in json.loads(image.configuration)
    assert {layer["mediaType"] for layer in json.loads(image.manifest)["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar"
    }


def test_a_stray_file_in_the_source_is_refused(tree, tmp_path, capsys):
    tree.write("workload/mcbn_workload/.settings.py.swp", "editor")
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    assert code == ExitCode.USAGE
    assert "workload/mcbn_workload/.settings.py.swp is no part of the source" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "is no roster"),
        ('{"format":"other","participants":[{"name":"alice"}]}', "is no mcbn-roster-v1"),
        ('{"format":"mcbn-roster-v1","participants":[{"name":"A,B"}]}', "participant without a name"),
        ('{"format": "mcbn-roster-v1","participants":[{"name":"alice"}]}', "canonical"),
    ],
)
def test_a_roster_of_another_form_is_refused(tree, tmp_path, capsys, text, problem):
    tree.roster.write_text(text)
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    assert (code, problem in capsys.readouterr().err) == (ExitCode.USAGE, True)


def test_the_terms_say_digest_arguments_and_environment(tree, tmp_path, capsys):
    tomllib = pytest.importorskip("tomllib")
    image = tree.image("client", tmp_path / "out")
    text = (tmp_path / "out/terms-client.toml").read_text()
    assert tomllib.loads(text) == {
        "image_digests": [image.digest],
        "args": ["/usr/bin/python3.11", "-I", "-m", "mcbn_workload", "client"],
        "env": {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    }
    assert "MCBN_BROKER_ALICE, MCBN_BROKER_BOB_AND_SONS, MCBN_CONNECT, MCBN_LOG_LEVEL, MCBN_MANIFEST" in text
    assert not (tmp_path / "out/terms-broker.toml").exists()
    assert f"client    {image.digest}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("channel", "port"), [("tls13-psk", "7443/tcp"), ("mtls13", "7443/tcp"), ("dtls12-psk", "7443/udp")]
)
def test_the_launcher_opens_the_servers_port_and_none_for_a_client(tree, tmp_path, channel, port):
    tree.write("deploy/images/server.toml", f'role = "server"\nchannel = "{channel}"\n')
    assert tree.image("server", tmp_path / "out").config["ExposedPorts"] == {port: {}}
    assert "ExposedPorts" not in read_image(tmp_path / "out/client").config


def test_only_builds_one(tree, tmp_path, capsys):
    words = ["--roster", str(tree.roster), "--out", str(tmp_path / "out"), "--only", "broker", "--output", "json"]
    assert tree.run("build", *words, *tree.sources) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"broker"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "broker",
        "broker.tar",
        "broker.cdx.json",
        "digests.json",
    }


def test_the_simulators_image_is_built_only_by_name(tree, tmp_path):
    tree.write("simulator/mcbn_simulator/__init__.py", '"""Simulator."""\n')
    assert set(tree.build(tmp_path / "all")) == {"client", "server", "broker"}
    words = ["--roster", str(tree.roster), "--out", str(tmp_path / "one"), "--only", "simulator"]
    assert tree.run("build", *words, *tree.sources) == 0
    image = read_image(tmp_path / "one/simulator")
    assert image.config["Entrypoint"][-1] == "mcbn_simulator"
    assert not [path for path in root_of(image) if "mcbn_workload" in path or "etc/mcbn" in path]


def test_version_and_missing_command(tree, capsys):
    assert tree.run("--version") == 0
    assert capsys.readouterr().out == "mcbn-images 9.9\n"
    with pytest.raises(SystemExit):
        tree.run()


def test_a_tree_without_definitions_says_what_to_do(tmp_path, tree, capsys):
    (tree.root / "deploy/images/server.toml").unlink()
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    assert code == ExitCode.USAGE
    assert "name it with --source" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tree, tmp_path, capsys):
    Path(tmp_path / "out").write_text("a file")
    code = tree.run("build", "--roster", str(tree.roster), "--out", str(tmp_path / "out"), *tree.sources)
    assert code == ExitCode.USAGE
    assert "cannot write" in capsys.readouterr().err
