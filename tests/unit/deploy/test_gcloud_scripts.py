"""The scripts for those without Terraform: what they ask gcloud for, and what they refuse before they ask."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mcbn_images.labels import operator_variables
from tests.unit.deploy.conftest import DIGEST, IMAGE, ROOT

SCRIPTS = ROOT / "deploy" / "gcloud"
PLACE = ("--project", "demo-project", "--zone", "europe-west4-b", "--name", "mcbn-frank")
ACCOUNT = "mcbn-frank@demo-project.iam.gserviceaccount.com"
VM = (*PLACE, "--image", IMAGE)


@pytest.fixture
def run(fakes):
    def start(name, *words):
        return subprocess.run([SCRIPTS / name, *words], capture_output=True, text=True, check=False)

    return start


def test_every_script_is_clean_by_shellcheck(require_tool):
    scripts = [path for path in SCRIPTS.iterdir() if path.is_file()] + [ROOT / "deploy" / "smoke"]
    command = [require_tool("shellcheck"), "--external-sources", *map(str, scripts)]
    result = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def metadata_of(call):
    (option,) = [word for word in call if word.startswith("--metadata=")]
    delimiter, _, rest = option.removeprefix("--metadata=^").partition("^")
    return dict(item.split("=", 1) for item in rest.split(delimiter))


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        ("SEV", ["--machine-type=n2d-standard-2", "--min-cpu-platform=AMD Milan", "--maintenance-policy=MIGRATE"]),
        ("TDX", ["--machine-type=c3-standard-4", "--maintenance-policy=TERMINATE"]),
    ],
)
def test_a_vm_is_confidential_hardened_and_by_digest(run, fakes, hardware, expected):
    fakes.answer("instances create", "10.77.0.3\n")
    result = run(
        "create-vm", *VM, "--role", "client", "--hardware", hardware, "--env", "MCBN_CONNECT=203.0.113.20:7443",
        "--env", "MCBN_BROKER_BOB_AND_SONS=https://bob.example",
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "10.77.0.3\n"), result.stderr
    (call,) = fakes.calls
    assert call[:5] == ["gcloud", "compute", "instances", "create", "mcbn-frank-client"]
    assert {f"--confidential-compute-type={hardware}", "--shielded-secure-boot", *expected} <= set(call)
    assert {"--image-project=confidential-space-images", "--image-family=confidential-space"} <= set(call)
    assert {f"--service-account={ACCOUNT}", "--scopes=cloud-platform"} <= set(call)
    assert "--network-interface=subnet=mcbn-frank,nic-type=GVNIC,no-address" in call
    assert metadata_of(call) == {
        "tee-image-reference": IMAGE,
        "tee-restart-policy": "Never",
        "tee-env-MCBN_CONNECT": "203.0.113.20:7443",
        "tee-env-MCBN_BROKER_BOB_AND_SONS": "https://bob.example",
    }


def test_debug_and_an_external_address_are_asked_for_by_name(run, fakes):
    fakes.answer("instances create", "203.0.113.20\n")
    words = (*VM, *SERVER, *LISTEN)
    assert run("create-vm", *words, "--debug", "--external-address").returncode == 0
    (call,) = fakes.calls
    assert "--image-family=confidential-space-debug" in call
    assert "--network-interface=subnet=mcbn-frank,nic-type=GVNIC" in call
    assert "--format=value(networkInterfaces[0].accessConfigs[0].natIP)" in call


@pytest.mark.parametrize("role", ["client", "server"])
def test_every_variable_that_the_images_label_admits_can_be_set(run, fakes, role):
    names = operator_variables(role, ["alice", "bob-and-sons"])
    settings = [word for name in names for word in ("--env", f"{name}=value:1")]
    assert run("create-vm", *VM, "--role", role, "--hardware", "TDX", *settings).returncode == 0
    (call,) = fakes.calls
    assert {name.removeprefix("tee-env-") for name in metadata_of(call) if name.startswith("tee-env-")} == set(names)


MANIFEST = ("--env", "MCBN_MANIFEST=https://files.example/bundle.json")
LISTEN = ("--env", "MCBN_LISTEN=0.0.0.0:7443", *MANIFEST)
SERVER = ("--role", "server", "--hardware", "TDX")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((*PLACE, *SERVER, *LISTEN, "--image", IMAGE.replace(f"@{DIGEST}", ":latest")), "never by a tag"),
        ((*PLACE, *SERVER, *LISTEN, "--image", IMAGE + "0"), "by its digest"),
        ((*PLACE, *SERVER, *LISTEN), "--image is needed"),
        ((*VM, *SERVER), "--env MCBN_LISTEN=HOST:PORT is needed"),
        ((*VM, *SERVER, "--env", "MCBN_LISTEN=0.0.0.0:7443"), "--env MCBN_MANIFEST=URL is needed"),
        ((*VM, *SERVER, *LISTEN, "--env", "MCBN_CONNECT=x:1"), "takes no MCBN_CONNECT"),
        ((*VM, *SERVER, *LISTEN, "--env", "LD_PRELOAD=/x"), "takes no LD_PRELOAD"),
        ((*VM, *SERVER, *LISTEN, "--env", "MCBN_LOG_LEVEL=INFO~tee-cmd=[]"), "a tilde"),
        ((*VM, *LISTEN, "--role", "server", "--hardware", "SEV_SNP"), "SEV or TDX"),
        ((*VM, *LISTEN, "--role", "broker", "--hardware", "TDX"), "client or server"),
        ((*VM, *SERVER, *LISTEN, "--tee-cmd", "x"), "unknown: --tee-cmd"),
        ((*VM, *SERVER, *LISTEN, "--name"), "--name needs a value"),
        ((*VM, *SERVER, *LISTEN, "--name", "Frank"), "6 to 22"),
        ((*VM, *SERVER, *LISTEN, "--name", "default"), "project's own network"),
        ((*VM, *SERVER, *LISTEN, "--zone", "europe"), "such as europe-west4-b"),
    ],
)
def test_a_vm_that_brokers_would_refuse_is_not_created(run, fakes, words, reason):
    result = run("create-vm", *words)
    assert result.returncode == 2
    assert reason in result.stderr
    assert "usage: create-vm" in result.stderr
    assert fakes.calls == []


@pytest.mark.parametrize("name", ["prepare", "prepare-build", "create-vm", "remove"])
def test_help_is_no_mistake(run, fakes, name):
    result = run(name, "--help")
    assert (result.returncode, result.stderr, fakes.calls) == (0, "", [])
    assert f"usage: {name} --project" in result.stdout


def test_prepare_grants_three_roles_and_opens_one_port(run, fakes):
    result = run("prepare", *PLACE, "--repository", "mcbn", "--source-range", "203.0.113.10/32", "--nat")
    assert result.returncode == 0, result.stderr
    granted = [word for call in fakes.calls for word in call if word.startswith("--role=")]
    assert sorted(granted) == [
        "--role=roles/artifactregistry.reader",
        "--role=roles/confidentialcomputing.workloadUser",
        "--role=roles/logging.logWriter",
    ]
    assert {f"--member=serviceAccount:{ACCOUNT}"} == {w for call in fakes.calls for w in call if "--member=" in w}
    assert "mcbn" in fakes.call("add-iam-policy-binding", "artifacts")  # on the repository, not on the project
    firewall = fakes.call("firewall-rules")
    assert {"--rules=tcp:7443", "--source-ranges=203.0.113.10/32", f"--target-service-accounts={ACCOUNT}"} <= set(
        firewall
    )
    assert "--enable-private-ip-google-access" in fakes.call("subnets")
    assert "--subnet-mode=custom" in fakes.call("networks", "--subnet-mode=custom")
    assert fakes.call("nats")


def test_prepare_for_a_client_opens_nothing(run, fakes):
    assert run("prepare", *PLACE, "--repository", "mcbn").returncode == 0
    assert not [call for call in fakes.calls if "firewall-rules" in call or "routers" in call]


OPEN = ("--repository", "mcbn", "--source-range", "203.0.113.10/32")
OURS = "MCBN, made by deploy/gcloud/prepare"


def exists(fakes, kind, name, description):
    """Let a resource be there already, with a description."""
    fakes.answer(f"{kind} create {name}", err=f"ERROR: The resource '{name}' already exists", status=1)
    fakes.answer(f"{kind} describe {name}", description + "\n")


def test_prepare_may_run_again(run, fakes):
    exists(fakes, "networks", "mcbn-frank", OURS)
    result = run("prepare", *PLACE, *OPEN)
    assert result.returncode == 0, result.stderr
    assert fakes.call("subnets", "create")
    assert not [call for call in fakes.calls if "update" in call]


def test_what_prepare_makes_it_knows_again(run, fakes):
    assert run("prepare", *PLACE, *OPEN).returncode == 0
    for words in (("networks", "--subnet-mode=custom"), ("firewall-rules", "create")):
        assert f"--description={OURS}" in fakes.call(*words)


def test_a_narrower_range_replaces_the_one_before(run, fakes):
    exists(fakes, "networks", "mcbn-frank", OURS)
    exists(fakes, "firewall-rules", "mcbn-frank-channel", OURS)
    result = run("prepare", *PLACE, *OPEN, "--protocol", "udp", "--port", "7000")
    assert result.returncode == 0, result.stderr
    admitted = {"--rules=udp:7000", "--source-ranges=203.0.113.10/32", f"--target-service-accounts={ACCOUNT}"}
    update = fakes.call("firewall-rules", "update")
    assert {"mcbn-frank-channel", "--project=demo-project", *admitted} <= set(update)


def test_a_rule_that_cannot_be_narrowed_is_a_failure(run, fakes):
    exists(fakes, "firewall-rules", "mcbn-frank-channel", OURS)
    fakes.answer("firewall-rules update", err="ERROR: PERMISSION_DENIED", status=1)
    result = run("prepare", *PLACE, *OPEN)
    assert (result.returncode, "PERMISSION_DENIED" in result.stderr) == (1, True)


@pytest.mark.parametrize("description", ["", "Default network for the project"])
@pytest.mark.parametrize(("kind", "name"), [("networks", "mcbn-frank"), ("firewall-rules", "mcbn-frank-channel")])
def test_what_is_somebody_elses_is_not_taken_over(run, fakes, kind, name, description):
    exists(fakes, kind, name, description)
    result = run("prepare", *PLACE, *OPEN, "--nat")
    assert result.returncode == 1
    assert f"{name} (gcloud compute {kind} describe) is there, but was not made by this program" in result.stderr
    assert not [call for call in fakes.calls if "update" in call or "routers" in call]


def test_a_network_that_cannot_be_looked_at_is_not_taken_over(run, fakes):
    fakes.answer("networks create", err="ERROR: The resource 'mcbn-frank' already exists", status=1)
    fakes.answer("networks describe", err="ERROR: PERMISSION_DENIED", status=1)
    result = run("prepare", *PLACE, *OPEN)
    assert (result.returncode, "PERMISSION_DENIED" in result.stderr) == (1, True)
    assert not [call for call in fakes.calls if "subnets" in call]


@pytest.mark.parametrize("words", [("prepare", *PLACE, *OPEN), ("remove", *PLACE)])
def test_the_projects_own_network_is_left_alone(run, fakes, words):
    result = run(*words, "--name", "default")
    assert (result.returncode, "project's own network" in result.stderr) == (2, True)
    assert fakes.calls == []


def test_prepare_stops_when_something_cannot_be_made(run, fakes):
    fakes.answer("networks create", err="ERROR: quota", status=1)
    result = run("prepare", *PLACE, "--repository", "mcbn")
    assert result.returncode == 1
    assert "ERROR: quota" in result.stderr
    assert not [call for call in fakes.calls if "subnets" in call]


def test_prepare_does_not_wait_for_what_is_no_matter_of_time(run, fakes):
    fakes.answer("add-iam-policy-binding", err="ERROR: PERMISSION_DENIED", status=1)
    assert run("prepare", *PLACE, "--repository", "mcbn").returncode == 1
    assert len([call for call in fakes.calls if "add-iam-policy-binding" in call]) == 1


BUILD = ("prepare-build", "--project", "demo-project", "--region", "europe-west4")
BUCKET = "gs://demo-project-mcbn-build"


def granted_on(fakes, *words):
    return [w.removeprefix("--role=") for w in fakes.call("add-iam-policy-binding", *words) if w.startswith("--role=")]


def test_a_build_may_log_read_its_source_and_push_and_nothing_else(run, fakes):
    result = run(*BUILD, "--repository", "mcbn")
    assert result.returncode == 0, result.stderr
    assert granted_on(fakes, "projects", "demo-project") == ["roles/logging.logWriter"]
    assert granted_on(fakes, "storage", BUCKET) == ["roles/storage.objectViewer"]
    assert granted_on(fakes, "artifacts", "mcbn") == ["roles/artifactregistry.writer"]
    assert len([call for call in fakes.calls if "add-iam-policy-binding" in call]) == 3
    members = {word for call in fakes.calls for word in call if word.startswith("--member=")}
    assert members == {"--member=serviceAccount:mcbn-build@demo-project.iam.gserviceaccount.com"}
    assert {"--uniform-bucket-level-access", "--public-access-prevention"} <= set(fakes.call("create", BUCKET))


def test_the_account_is_the_one_that_the_build_names(run, fakes):
    assert run(*BUILD).returncode == 0
    account = fakes.call("service-accounts", "create")[4]
    assert f"serviceAccounts/{account}@${{PROJECT_ID}}" in (ROOT / "deploy" / "cloudbuild.yaml").read_text()
    assert not [call for call in fakes.calls if "artifacts" in call]  # nothing to push, nowhere to push to


def test_a_build_is_prepared_again_where_it_was(run, fakes):
    said = "ERROR: HTTPError 409: Your previous request to create the named bucket succeeded and you already own it."
    fakes.answer("buckets create", err=said, status=1)
    assert run(*BUILD).returncode == 0
    assert granted_on(fakes, "storage", BUCKET) == ["roles/storage.objectViewer"]
    assert {"--uniform-bucket-level-access", "--public-access-prevention"} <= set(fakes.call("update", BUCKET))


def test_somebody_elses_bucket_gets_no_source(run, fakes):
    fakes.answer("buckets create", err="ERROR: HTTPError 409: The requested bucket name is not available.", status=1)
    result = run(*BUILD)
    assert (result.returncode, "not available" in result.stderr) == (1, True)
    assert not [call for call in fakes.calls if "buckets" in call and "add-iam-policy-binding" in call]


@pytest.mark.parametrize("words", [("--region", "europe-west4-b"), ("--zone", "europe-west4-b"), ("--project",)])
def test_a_build_that_cannot_be_prepared_asks_for_nothing(run, fakes, words):
    result = run(*BUILD, *words)
    assert (result.returncode, "usage: prepare-build" in result.stderr) == (2, True)
    assert fakes.calls == []


def made_and_removed(fakes):
    made = [call for call in fakes.calls if "create" in call]
    removed = [call for call in fakes.calls if "delete" in call]
    return {kind_of(call) for call in made}, {kind_of(call) for call in removed}


def roles_in(fakes, verb):
    return {word for call in fakes.calls if verb in call for word in call if word.startswith("--role=")}


def kind_of(call):
    verb = "create" if "create" in call else "delete"
    name = call[call.index(verb) + 1].partition("@")[0]
    return tuple(call[1 : call.index(verb)]), name


def test_remove_deletes_everything_that_the_others_make(run, fakes):
    run("prepare", *PLACE, "--repository", "mcbn", "--source-range", "203.0.113.10/32", "--nat")
    run("create-vm", *VM, *SERVER, *LISTEN)
    run("create-vm", *VM, "--role", "client", "--hardware", "TDX", "--env", "MCBN_CONNECT=x:1", *MANIFEST)
    assert run("remove", *PLACE, "--repository", "mcbn").returncode == 0
    made, removed = made_and_removed(fakes)
    nats = {one for one in made if one[0][-1] == "nats"}  # they go with their router
    assert made - nats == removed
    bound, unbound = roles_in(fakes, "add-iam-policy-binding"), roles_in(fakes, "remove-iam-policy-binding")
    assert bound - unbound == {"--role=roles/artifactregistry.reader"}  # goes with the repository


def test_remove_leaves_a_repository_that_was_not_named(run, fakes):
    assert run("remove", *PLACE).returncode == 0
    assert not [call for call in fakes.calls if "artifacts" in call]


def test_what_is_not_there_is_no_failure(run, fakes):
    fakes.answer("delete", err="ERROR: The resource was not found", status=1)
    assert run("remove", *PLACE).returncode == 0


def test_remove_says_so_where_it_can_see_nothing(run, fakes, monkeypatch, tmp_path):
    fakes.rules.clear()
    fakes.answer("value(projectId)", err="ERROR: project demo-project was not found", status=1)
    result = run("remove", *PLACE)
    assert (result.returncode, "nothing was removed" in result.stderr) == (1, True)
    assert not [call for call in fakes.calls if "delete" in call]
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "basename", "env"):
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(programs))
    result = run("remove", *PLACE)
    assert (result.returncode, "gcloud is not installed" in result.stderr) == (2, True)


def test_remove_goes_on_and_names_what_is_left(run, fakes):
    fakes.answer("networks delete", err="ERROR: in use", status=1)
    result = run("remove", *PLACE)
    assert result.returncode == 1
    assert "LEFT BEHIND" in result.stderr
    assert "gcloud compute networks delete mcbn-frank --project=demo-project --quiet" in result.stderr
    assert fakes.call("service-accounts", "delete")


def test_the_scripts_and_terraform_order_the_same_vm():
    script = (SCRIPTS / "create-vm").read_text()
    terraform = "".join(path.read_text() for path in Path(ROOT / "deploy/terraform/workload").glob("*.tf"))
    for value in ("n2d-standard-2", "c3-standard-4", "AMD Milan", "MIGRATE", "TERMINATE", "confidential-space-debug"):
        assert value in script
        assert value in terraform
    prepare = (SCRIPTS / "prepare").read_text()
    for role in (
        "roles/confidentialcomputing.workloadUser",
        "roles/logging.logWriter",
        "roles/artifactregistry.reader",
    ):
        assert role in prepare
        assert role in terraform
