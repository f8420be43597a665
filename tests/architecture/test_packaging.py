"""What the distribution declares: reasons for dependencies, locks without addresses, programs with a version."""

import importlib
import importlib.resources
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("workload", "broker", "simulator", "dev")
PROGRAMS = ("mcbn-broker", "mcbn-workload", "mcbn-simulator", "mcbn-images")
WORKLOAD_DISTRIBUTIONS = {
    "anyio", "certifi", "cffi", "cryptography", "h11", "httpcore", "httpx", "idna", "pycparser", "pynacl", "pyopenssl",
    "rfc8785", "typing-extensions",
}  # fmt: skip
"""The closed list of what is trusted beside our own code; whoever adds to it adds to what participants audit."""


def pins_of(root, lock):
    """Return the pins of one lock as {name: version}."""
    text = (root / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_no_address(root, lock):
    text = (root / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    assert re.findall(r"://|index-url|find-links|@ ?file|\b\w+\.(?:org|com|net|io|dev)\b", text) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_pin_a_hash_or_a_comment(root, lock):
    lines = (root / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
    pin = r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[^\s;]+( ; [^\\]+)? \\"
    expected = re.compile(rf"{pin}|    --hash=sha256:[0-9a-f]{{64}}( \\)?|    #.*")
    assert [line for line in lines if not expected.fullmatch(line)] == []
    assert lines


def test_every_pin_has_a_hash(root):
    for lock in LOCKS:
        text = (root / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
        assert [block for block in blocks if block and "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("lock", LOCKS[:-1])
def test_what_is_shipped_is_what_was_tested(root, lock):
    tested = pins_of(root, "dev")
    shipped = pins_of(root, lock)
    assert shipped
    assert {name: version for name, version in shipped.items() if tested.get(name) != version} == {}


def test_workload_dependencies_are_a_closed_list(root):
    assert set(pins_of(root, "workload")) == WORKLOAD_DISTRIBUTIONS


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_the_declared_requirements(root, pyproject, lock):
    project, pins = pyproject["project"], pins_of(root, lock)
    for line in [*project["dependencies"], *project["optional-dependencies"][lock]]:
        requirement = Requirement(line)
        if requirement.name != "mcbn":
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), line


def test_every_direct_dependency_has_its_reason(root, pyproject):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    project = pyproject["project"]
    lines = text.splitlines()
    extras = project["optional-dependencies"].values()
    for requirement in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        if requirement.startswith("mcbn["):
            continue
        places = [number for number, line in enumerate(lines) if line.strip().startswith(f'"{requirement}"')]
        assert places, requirement
        for number in places:
            reason = lines[number].partition("#")[2] or lines[number - 1].strip().partition("#")[2]
            assert reason.strip(), f"{requirement}: say beside it what it is for"


def test_the_programs_are_the_declared_ones(pyproject):
    assert set(pyproject["project"]["scripts"]) == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_answers_version(pyproject, program):
    module = pyproject["project"]["scripts"][program].partition(":")[0]
    version = importlib.import_module("mcbn_protocol").__version__
    result = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip() == f"{program} {version}"


@pytest.mark.parametrize(
    "package", ["mcbn_protocol", "mcbn_broker", "mcbn_workload", "mcbn_simulator", "mcbn_images", "mcbn_smoke"]
)
def test_package_is_typed(package):
    assert importlib.resources.files(package).joinpath("py.typed").is_file()
