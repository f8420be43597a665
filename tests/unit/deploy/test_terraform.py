"""Terraform's files say what the security of a deployment rests on, and both operators use the same module."""

import re
import shutil
import subprocess
import tomllib

import pytest

from mcbn_images.labels import ADDRESS, operator_variables
from mcbn_images.labels import launch_policy as labels_of
from tests.unit.deploy.terraform_files import TERRAFORM, named, one, read, resources

ROOTS = {"frank": "client", "dave": "server"}
NAMES = ("alice", "bob-and-sons", "carol")


@pytest.fixture(scope="module")
def workload():
    return read("workload")


@pytest.fixture(scope="module")
def instance(workload):
    return resources(workload)["google_compute_instance.workload"]


def local(blocks, name):
    (value,) = [block[name] for block in blocks["locals"] if name in block]
    return value


def test_the_files_are_formatted():
    terraform = shutil.which("terraform")
    if terraform is None:  # in no Debian package, so MCBN_REQUIRE_PEERS does not ask for it
        pytest.skip("terraform is missing: with it on PATH, `terraform fmt -check` is run")
    command = [terraform, "fmt", "-check", "-diff", "-recursive", str(TERRAFORM)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


@pytest.mark.parametrize("folder", ["workload", *ROOTS])
def test_the_provider_is_pinned_to_one_version(folder):
    (terraform,) = read(folder)["terraform"]
    (providers,) = terraform["required_providers"]
    assert providers["google"]["source"] == "hashicorp/google"
    assert re.fullmatch(r"\d+\.\d+\.\d+", providers["google"]["version"])
    assert set(providers) == {"google"}


def test_all_folders_pin_the_same_version():
    versions = [one(one(read(folder)["terraform"])["required_providers"])["google"] for folder in ("workload", *ROOTS)]
    assert versions[0] == versions[1] == versions[2]


def test_the_vm_is_confidential_by_a_validated_choice(workload, instance):
    assert one(instance["confidential_instance_config"]) == {"confidential_instance_type": "var.hardware"}
    (check,) = named(workload, "variable")["hardware"]["validation"]
    assert check["condition"] == 'contains(["SEV", "TDX"], var.hardware)'
    assert "default" not in named(workload, "variable")["hardware"]


def test_machine_and_maintenance_follow_the_hardware(workload, instance):
    hardware = local(workload, "hardware")
    choices = (TERRAFORM / "workload/main.tf").read_text()
    assert "}[var.hardware]" in choices
    sev, tdx = re.findall(r"(?:SEV|TDX) = \{(.*)\}", choices)
    for value in ('"n2d-standard-2"', '"AMD Milan"', '"MIGRATE"', '"GCP_AMD_SEV"'):
        assert value in sev
    for value in ('"c3-standard-4"', "min_cpu_platform = null", '"TERMINATE"', '"GCP_INTEL_TDX"'):
        assert value in tdx
    assert "SEV" in str(hardware)
    assert instance["machine_type"] == "coalesce(var.machine_type, local.hardware.machine_type)"
    assert instance["min_cpu_platform"] == "local.hardware.min_cpu_platform"
    assert one(instance["scheduling"]) == {"on_host_maintenance": "local.hardware.on_host_maintenance"}


def test_the_vm_boots_securely_from_confidential_spaces_own_image(workload, instance):
    shielded = one(instance["shielded_instance_config"])
    assert shielded == {"enable_secure_boot": True, "enable_vtpm": True, "enable_integrity_monitoring": True}
    boot = one(one(instance["boot_disk"])["initialize_params"])
    assert boot["image"] == "projects/confidential-space-images/global/images/family/${local.image_family}"
    assert local(workload, "image_family") == 'var.debug ? "confidential-space-debug" : "confidential-space"'
    assert "default" not in named(workload, "variable")["debug"]
    for root in ROOTS:
        assert named(read(root), "variable")["debug"]["default"] is False


def image_pattern(workload):
    condition = named(workload, "variable")["image"]["validation"][0]["condition"]
    (pattern,) = re.findall(r'^can\(regex\("(.*)", var\.image\)\)$', condition)
    return pattern.replace("\\\\", "\\")


DIGEST = "sha256:" + "0" * 64
REPOSITORY = "europe-west4-docker.pkg.dev/frank-project/mcbn/client"


@pytest.mark.parametrize(
    ("image", "good"),
    [
        (f"{REPOSITORY}@{DIGEST}", True),
        (f"{REPOSITORY}:1@{DIGEST}", False),
        (f"{REPOSITORY}:latest", False),
        (REPOSITORY, False),
        (f"{REPOSITORY}@{DIGEST}0", False),
        (f"{REPOSITORY}@{DIGEST.upper()}", False),
        (f"{REPOSITORY}@sha256:{'0' * 63}", False),
        (f"registry.example/mcbn/client@{DIGEST}", False),
    ],
)
def test_an_image_is_taken_by_its_digest_only(workload, image, good):
    pattern = image_pattern(workload)
    assert pattern.endswith("@sha256:[0-9a-f]{64}$")
    assert bool(re.search(pattern, image)) is good


def test_metadata_has_the_image_the_restart_policy_and_allowed_variables_only(workload, instance):
    assert instance["metadata"] == "local.metadata"
    metadata = local(workload, "metadata")
    assert set(re.findall(r'"(tee-[^"$]*)', metadata)) == {"tee-image-reference", "tee-restart-policy", "tee-env-"}
    assert re.search(r'"tee-image-reference"\s*[=:]\s*var\.image', metadata)
    assert re.search(r'"tee-restart-policy"\s*[=:]\s*"Never"', metadata)
    everything = "".join(path.read_text() for path in TERRAFORM.rglob("*.tf"))
    code = re.sub(r"#.*", "", everything)
    for forbidden in (
        "tee-cmd",
        "tee-mount",
        "tee-added-capabilities",
        "tee-impersonate",
        "startup-script",
        "ssh-keys",
    ):
        assert forbidden not in code


@pytest.mark.parametrize("role", ROOTS.values())
def test_the_variables_are_those_that_the_image_of_the_role_admits(workload, role):
    environment = local(workload, "environment")
    names = set(re.findall(r'"(MCBN_[A-Z_]+?)"', environment))
    other = {name for one, name in ADDRESS.items() if one != role}
    assert names - other == set(operator_variables(role, ()))
    assert 'var.role == "server" ? "MCBN_LISTEN" : "MCBN_CONNECT"' in environment
    # One variable for each broker, named as the label names it.
    assert '"MCBN_BROKER_${upper(replace(name, "-", "_"))}"' in environment
    label = labels_of(role, NAMES)["tee.launch_policy.allow_env_override"]
    for name in NAMES:
        assert "MCBN_BROKER_" + name.upper().replace("-", "_") in label.split(",")


def test_a_change_of_metadata_makes_a_new_vm(workload, instance):
    assert one(instance["lifecycle"])["replace_triggered_by"] == ["terraform_data.launch"]
    assert resources(workload)["terraform_data.launch"]["input"] == "local.metadata"


def test_the_service_account_has_three_roles(workload, instance):
    found = resources(workload)
    project = found["google_project_iam_member.workload"]
    repository = found["google_artifact_registry_repository_iam_member.workload"]
    roles = set(re.findall(r"roles/[\w.]+", project["for_each"])) | {repository["role"]}
    assert roles == {
        "roles/confidentialcomputing.workloadUser",
        "roles/logging.logWriter",
        "roles/artifactregistry.reader",
    }
    members = {body["member"] for name, body in found.items() if "_iam_" in name}
    assert members == {"google_service_account.workload.member"}
    account = one(instance["service_account"])
    assert account == {"email": "google_service_account.workload.email", "scopes": ["cloud-platform"]}
    assert not [name for name in found if "_iam_binding" in name or "_iam_policy" in name]


def test_only_a_servers_ciphertext_port_is_open_and_only_to_named_sources(workload):
    firewalls = {name: body for name, body in resources(workload).items() if name.startswith("google_compute_firewall")}
    assert set(firewalls) == {"google_compute_firewall.channel"}
    channel = firewalls["google_compute_firewall.channel"]
    assert channel["count"] == 'var.role == "server" ? 1 : 0'
    assert channel["direction"] == "INGRESS"
    assert channel["source_ranges"] == "var.source_ranges"
    assert channel["target_service_accounts"] == ["google_service_account.workload.email"]
    allowed = one(channel["allow"])
    assert allowed == {"protocol": "var.channel_protocol", "ports": ['regex("[0-9]+$", var.address)']}
    checks = [check["condition"] for check in named(workload, "variable")["source_ranges"]["validation"]]
    assert '(var.role == "server") == (length(var.source_ranges) > 0)' in checks
    assert "default" not in named(workload, "variable")["source_ranges"]
    assert "default" not in named(read("dave"), "variable")["source_ranges"]


def test_the_network_is_its_own_and_reaches_google_privately(workload, instance):
    found = resources(workload)
    assert found["google_compute_network.workload"]["auto_create_subnetworks"] is False
    assert found["google_compute_subnetwork.workload"]["private_ip_google_access"] is True
    interface = one(instance["network_interface"])
    assert interface["subnetwork"] == "google_compute_subnetwork.workload.id"
    assert one(interface["dynamic"])["access_config"]["for_each"] == "google_compute_address.workload"
    assert found["google_compute_address.workload"]["count"] == "var.external_address ? 1 : 0"
    for name in ("router", "router_nat"):
        assert found[f"google_compute_{name}.workload"]["count"] == "var.external_address ? 0 : 1"
    assert instance["can_ip_forward"] is False


@pytest.mark.parametrize(("root", "role"), ROOTS.items())
def test_both_operators_use_the_module_and_hand_everything_on(workload, root, role):
    blocks = read(root)
    module = named(blocks, "module")[role]
    assert module["source"] == "../workload"
    assert module["role"] == role
    assert "resource" not in blocks
    optional = {name for name, body in named(workload, "variable").items() if "default" in body}
    required = set(named(workload, "variable")) - optional
    assert required <= set(module)
    own = named(blocks, "variable")
    used = set(re.findall(r"var\.(\w+)", str(module))) | set(re.findall(r"var\.(\w+)", str(blocks["provider"])))
    assert used == set(own)


@pytest.mark.parametrize("root", ROOTS)
def test_outputs_have_what_the_manifest_needs(root, workload):
    outputs = named(read(root), "output")
    assert set(outputs) == set(named(workload, "output"))
    assert {"project_number", "instance_id", "service_account", "external_address", "terms"} <= set(outputs)
    assert named(workload, "output")["project_number"]["value"] == "data.google_project.operator.number"


@pytest.mark.parametrize("root", ROOTS)
def test_the_example_sets_what_is_required_and_nothing_unknown(root, workload):
    text = (TERRAFORM / root / "terraform.tfvars.example").read_text()
    values = tomllib.loads(text)  # assignments of texts, lists and booleans are written alike in both
    own = named(read(root), "variable")
    assert {name for name, body in own.items() if "default" not in body} <= set(values) <= set(own)
    assert re.search(image_pattern(workload), values["image"])
    assert values["debug"] is False
    commented = set(re.findall(r"(?m)^# (\w+) +=", text))
    assert commented <= set(own)
