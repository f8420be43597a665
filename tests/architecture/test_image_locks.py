"""The images' locks: exactly what the requirements ask for on the images' Python, and nothing of who made them."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from mcbn_images.definitions import Definitions
from mcbn_images.locks import check_wheels, read_debs

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)] + ["linux_x86_64"]
TAGS = {*cpython_tags((3, 11), platforms=PLATFORMS), *compatible_tags((3, 11), "cp311", PLATFORMS)}
TARGET = {
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "extra": "",
}


@pytest.fixture
def definitions(root):
    return Definitions(root)


def wanted(text):
    """Return name and version of each requirement that holds on the images' Python."""
    lines = re.findall(r"^([a-z0-9].*?) ?\\$", text, flags=re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {
        (canonicalize_name(one.name), str(one.specifier).removeprefix("=="))
        for one in found
        if one.marker is None or one.marker.evaluate(TARGET)
    }


@pytest.mark.parametrize("image", ["client", "broker", "simulator"])
def test_wheels_are_those_that_the_requirements_ask_for(definitions, image):
    lock, requirements = definitions.wheel_lock(image)
    pins = check_wheels(lock, requirements)
    assert {(pin.name, pin.version) for pin in pins} == wanted(requirements.read_text(encoding="utf-8"))


@pytest.mark.parametrize("image", ["client", "broker", "simulator"])
def test_wheels_run_on_the_images_python_and_machine(definitions, image):
    for pin in check_wheels(*definitions.wheel_lock(image)):
        name, version, _, tags = parse_wheel_filename(pin.filename)
        assert (name, str(version)) == (pin.name, pin.version)
        assert tags & TAGS, pin.filename


def test_packages_are_those_of_the_list(definitions):
    assert [pin.name for pin in read_debs(definitions.debs_lock)] == definitions.package_names()
    assert len(definitions.package_names()) <= 20


def test_no_lock_holds_an_address(definitions):
    for path in definitions.folder.glob("*.lock"):
        text = path.read_text(encoding="ascii")
        assert re.findall(r"://|\b[\w-]+\.(?:org|com|net|io|dev)\b|\s/", text) == [], path.name


def test_the_wheel_of_mbed_tls_is_the_one_that_is_tested(definitions):
    folder = definitions.folder / "mbed-tls"
    pins = check_wheels(folder / "wheels.lock", folder / "requirements.txt")
    ((name, version),) = wanted((folder / "requirements.txt").read_text(encoding="utf-8"))
    assert [(pin.name, pin.version) for pin in pins] == [(name, version)]
    tested = (definitions.root / "requirements/dev.txt").read_text(encoding="utf-8")
    todo = "take the pin over from requirements/dev.txt, then mcbn-images lock --spec deploy/images/mbed-tls/image.toml"
    assert (name, version) in wanted(tested), todo
    assert all(f"--hash=sha256:{pin.sha256}" in tested for pin in pins), todo
