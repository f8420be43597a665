"""Cloud Build's and compose's files fit their schemas, and the build's own scripts do what they say."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.images.building import PARTS

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "deploy" / "cloudbuild.yaml"
NAMES = {"_ROSTER", "_CLIENT", "_SERVER", "_BROKER", "_PUBLISH", "_DEBS"}
DIGESTS = {name: f"sha256:{number}" + "0" * 63 for number, name in enumerate(("client", "server", "broker"))}


@pytest.fixture(scope="module")
def build():
    return YAML(typ="safe").load(BUILD)


@pytest.mark.parametrize(
    ("schema", "path"), [("vendor.cloudbuild", BUILD), ("vendor.compose-spec", ROOT / "docker-compose.yml")]
)
def test_the_file_fits_its_schema(schema, path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_substitution_reaches_a_script_by_its_environment_only(build):
    assert set(build["substitutions"]) == NAMES | {"_PYTHON"}
    passed = {}
    for step in build["steps"]:
        for line in step["env"]:
            name, _, value = line.partition("=")
            assert value == f"${{_{name}}}"
            passed[f"_{name}"] = value
        assert not set(re.findall(r"_[A-Z]+\b", step["script"].split("\n", 1)[1])) & NAMES - named_for_people(step)
    assert set(passed) == NAMES


def test_the_build_runs_in_one_image_by_its_digest_and_under_an_account_of_its_own(build):
    assert {step["name"] for step in build["steps"]} == {"${_PYTHON}"}
    assert re.fullmatch(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", build["substitutions"]["_PYTHON"])
    account = "mcbn-build@${PROJECT_ID}.iam.gserviceaccount.com"
    assert build["serviceAccount"] == f"projects/${{PROJECT_ID}}/serviceAccounts/{account}"
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"  # the one log that such an account can have


def test_what_is_uploaded_is_what_images_are_made_of_and_no_key_that_lies_beside_it(tmp_path, require_tool):
    """git reads the same patterns as gcloud, but for the line that includes `.gitignore`."""
    patterns = (ROOT / ".gcloudignore").read_text()
    assert patterns.endswith("\n#!include:.gitignore\n")
    (tmp_path / ".gitignore").write_text(patterns + (ROOT / ".gitignore").read_text())
    wanted = {f"{part}/some/file.py" for part in PARTS} | {"deploy/cloudbuild.yaml"}
    private = {
        "alice.consent-key.json",
        "kek",
        "a.backup",
        "data/broker.sqlite3",
        "deploy/terraform/dave/terraform.tfvars",
    }
    for name in wanted | private:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    git = [require_tool("git"), "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    listed = subprocess.run([*git, "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True)
    assert set(listed.stdout.decode().split("\0")) - {""} == wanted


def named_for_people(step):
    return set(re.findall(r"(_[A-Z]+)(?: is empty|=\\\$)", step["script"]))


def test_every_script_stops_at_the_first_failure(build, require_tool):
    shellcheck = require_tool("shellcheck")
    for step in build["steps"]:
        assert step["script"].startswith("#!/bin/bash\nset -euo pipefail\n")
        result = subprocess.run([shellcheck, "-"], input=step["script"], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


@pytest.fixture
def workspace(tmp_path):
    """Give a source tree in which the images were just built."""
    tree = tmp_path / "workspace"
    (tree / "build" / "images").mkdir(parents=True)
    (tree / "build" / "images" / "digests.json").write_text(json.dumps(DIGESTS))
    return tree


@pytest.fixture
def run(build, fakes, tmp_path, workspace):
    """Give `run("compare", CLIENT="...")`: a step's script, in the workspace."""
    scripts = {step["id"]: step for step in build["steps"]}

    def play(step, **given):
        environment = {line.partition("=")[0]: "" for line in scripts[step]["env"]} | given
        return subprocess.run(
            ["bash", "-c", scripts[step]["script"]],
            cwd=workspace,
            env={"PATH": fakes.path, "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return play


def test_the_roster_comes_out_of_the_substitution_as_it_went_in(run, workspace):
    roster = (ROOT / "deploy/images/example-roster.json").read_bytes()
    assert run("roster", ROSTER=base64.b64encode(roster).decode()).returncode == 0
    assert (workspace / "build/roster.json").read_bytes() == roster


def test_a_build_without_a_roster_says_how_to_give_one(run):
    result = run("roster")
    assert result.returncode == 2
    assert "base64 --wrap=0 roster.json" in result.stderr


def test_expected_digests_pass(run):
    result = run("compare", CLIENT=DIGESTS["client"], SERVER=DIGESTS["server"])
    assert result.returncode == 0
    assert f"client {DIGESTS['client']} is the expected one" in result.stdout
    assert f"broker {DIGESTS['broker']} was compared with nothing" in result.stdout


def test_another_digest_fails_the_build_and_all_are_printed(run):
    result = run("compare", CLIENT=DIGESTS["server"], SERVER=DIGESTS["server"])
    assert result.returncode == 4
    assert f"client {DIGESTS['client']} is not the expected {DIGESTS['server']}" in result.stderr
    assert f"server {DIGESTS['server']} is the expected one" in result.stdout


def test_nothing_is_published_unless_it_was_asked_for(run):
    result = run("publish", CLIENT=DIGESTS["client"])
    assert result.returncode == 0
    assert "nothing is pushed" in result.stdout


def test_only_what_was_compared_is_published(run, tmp_path):
    """The step's script, with a python3 that makes an environment of programs which record what they are asked."""
    folder = Path(os.environ["PATH"].partition(":")[0])
    record = tmp_path / "pushed"
    copies = "".join(f"cp {folder}/recorder build/venv/bin/{name}\n" for name in ("pip", "python"))
    programs = {
        "recorder": f'#!/bin/sh\necho "$*" >> {record}\n',
        "python3": f"#!/bin/sh\nmkdir -p build/venv/bin\n{copies}",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    publish = "europe-west4-docker.pkg.dev/project/mcbn"
    result = run("publish", PUBLISH=publish, CLIENT=DIGESTS["client"], SERVER=DIGESTS["server"])
    assert result.returncode == 0, result.stderr
    assert "broker was compared with nothing" in result.stdout
    install, *pushes = record.read_text().splitlines()
    assert "--require-hashes" in install
    assert "requirements/broker.txt" in install
    assert pushes == [f"-m mcbn_images push build/images/{role} {publish}/{role}" for role in ("client", "server")]


def test_the_lock_that_publishing_installs_has_what_a_push_needs():
    lock = (ROOT / "requirements" / "broker.txt").read_text()
    assert {"httpx", "google-auth", "requests"} <= set(re.findall(r"(?m)^([a-z0-9-]+)(?:\[[a-z]+\])?==", lock))
