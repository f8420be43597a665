"""Image labels, the manifest's template and the workload agree about the variables that the operator may set."""

import json
import re
import tomllib

import pytest

from mcbn_broker.ceremony.template import PLACEHOLDER, terms_template
from mcbn_broker.ceremony.terms import Terms
from mcbn_images.images import PATH, PYTHON
from mcbn_images.labels import ADDRESS, OVERRIDE, PREFIX, launch_policy, operator_variables
from mcbn_images.oci import Image
from mcbn_images.terms import terms, workload_role
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import ConfidentialSpaceReference
from mcbn_workload.settings import BROKER_PREFIX, VARIABLES, broker_variable

NAMES = ("alice", "bob-and-sons", "carol")
ROLES = [role.value for role in Role]
LAUNCHER_LABELS = {
    *("allow_env_override", "allow_cmd_override", "allow_capabilities", "allow_cgroups", "allow_mount_destinations"),
    *("log_redirect", "hardened_monitoring", "debug_monitoring"),
}
"""What Confidential Space's launcher knows; a label of another name does nothing."""


def evidence_of(role):
    """Return the one reference value of a role in the template, and the names that are only in its comments."""
    text = terms_template(None)
    commented = set(re.findall(r"^# (MCBN_\w+) =", text, flags=re.MULTILINE))
    return tomllib.loads(PLACEHOLDER.sub("x", text))["roles"][role]["evidence"][0], commented


@pytest.mark.parametrize("role", ROLES)
def test_labels_admit_what_the_workload_reads_in_this_role(role):
    other = {name for one, name in ADDRESS.items() if one != role}
    expected = (set(VARIABLES) - other) | {broker_variable(name) for name in NAMES}
    assert set(operator_variables(role, NAMES)) == expected


def test_every_variable_that_the_workload_reads_is_some_roles():
    assert {name for role in ROLES for name in operator_variables(role, ())} == set(VARIABLES)


@pytest.mark.parametrize("role", ROLES)
def test_the_template_admits_the_same(role):
    evidence, commented = evidence_of(role)
    brokers = {name for name in commented if name.startswith(BROKER_PREFIX)}
    assert brokers == {broker_variable("alice")}
    assert set(evidence["env_override"]) | brokers == set(operator_variables(role, ["alice"]))


@pytest.mark.parametrize("role", ROLES)
def test_the_template_expects_what_the_labels_say(role):
    evidence, _ = evidence_of(role)
    policy = launch_policy(role, NAMES)
    assert evidence["monitoring_memory"] is False
    assert {policy[PREFIX + name] for name in ("hardened_monitoring", "debug_monitoring")} == {"none"}
    assert evidence["env"] == {"PATH": PATH}
    assert policy[PREFIX + "allow_cmd_override"] == "false"
    assert policy[PREFIX + "log_redirect"] == "debugonly"


@pytest.mark.parametrize("role", ROLES)
def test_labels_have_the_launchers_names_and_its_form(role):
    policy = launch_policy(role, NAMES)
    assert {name.removeprefix(PREFIX) for name in policy} <= LAUNCHER_LABELS
    assert re.fullmatch(r"MCBN_\w+(,MCBN_\w+)*", policy[OVERRIDE])  # the launcher does not trim blanks


@pytest.mark.parametrize("role", ROLES)
def test_the_lines_that_a_build_prints_fit_into_the_template(role):
    entry = [*PYTHON, "mcbn_workload"]
    config = {"Entrypoint": entry, "Cmd": [role], "Env": [f"PATH={PATH}"], "Labels": launch_policy(role, NAMES)}
    image = Image(config, ())
    assert workload_role(image) == role
    lines = terms(role, image)
    head, table, body = terms_template(None).partition(f"[[roles.{role}.evidence]]")
    names = "|".join(tomllib.loads(lines))
    pasted = head + table + "\n" + lines + re.sub(rf"^({names}) = .*\n", "", body, count=3, flags=re.MULTILINE)
    read = Terms.parse(PLACEHOLDER.sub("1", pasted).encode(), read_text=str)
    (evidence,) = json.loads(json.dumps(read.members))["roles"][role]["evidence"]
    reference = ConfidentialSpaceReference.from_json(evidence, role)
    assert (reference.image_digests, reference.args) == ((image.digest,), (*entry, role))
    assert reference.env == {"PATH": PATH}


def test_the_interpreter_is_isolated():
    assert PYTHON == ("/usr/bin/python3.11", "-I", "-m")
