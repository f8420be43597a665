"""The bills of materials: valid, the same each time, and right about the OpenSSL inside cryptography's wheel."""

import importlib.metadata
import json
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.backends.openssl import backend

from mcbn_images.definitions import Definitions
from mcbn_images.errors import InputError
from mcbn_images.locks import read_debs, read_wheels
from mcbn_images.pins import DebPin, WheelPin
from mcbn_images.sbom import bundled_bills, cyclonedx

DEFINITIONS = Definitions(Path(__file__).resolve().parents[3])
DEB = DebPin("libcrypt1", "1:4.4.33-2+b1", "amd64", "pool/main/libx/libcrypt1.deb", "ab" * 32, 89464)
WHEEL = WheelPin("pynacl", "1.6.2", "pynacl-1.6.2-py3-none-any.whl", "cd" * 32)
DIGEST = "sha256:" + "ef" * 32
INNER = {
    "bomFormat": "CycloneDX",
    "components": [{"type": "library", "name": "inner", "version": "3", "bom-ref": "/x"}],
}


def bill(**changed):
    arguments = {
        "image_name": "mcbn-client",
        "digest": DIGEST,
        "version": "1.0",
        "debs": [DEB],
        "wheels": [WHEEL],
        "source": {"usr/lib/b.py": b"b", "usr/lib/a.py": b"a"},
        "bundled": {},
    }
    return cyclonedx(**(arguments | changed))


def components(text: bytes):
    return {one["name"]: one for one in json.loads(text)["components"]}


def cryptography_bills() -> dict[str, tuple[bytes, ...]]:
    files = importlib.metadata.files("cryptography") or []
    found = [Path(str(one.locate())) for one in files if "sboms" in one.parts]
    return {"cryptography": tuple(path.read_bytes() for path in sorted(found))}


def test_valid_by_the_strict_schema_for_the_locks_themselves():
    debs = read_debs(DEFINITIONS.debs_lock)
    wheels = read_wheels(DEFINITIONS.wheel_lock("client")[0])
    text = bill(debs=debs, wheels=wheels, bundled=cryptography_bills())
    # Imported here: whoever only collects tests does not wait four seconds for the grammars of jsonschema's formats.
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode()) is None
    assert {pin.name for pin in debs} | {pin.name for pin in wheels} <= components(text).keys()


def test_names_the_openssl_that_cryptography_itself_reports():
    wheels = read_wheels(DEFINITIONS.wheel_lock("client")[0])
    (pin,) = [one for one in wheels if one.name == "cryptography"]
    assert pin.version == importlib.metadata.version("cryptography")
    parts = components(bill(wheels=wheels, bundled=cryptography_bills()))["cryptography"]["components"]
    (openssl,) = [part for part in parts if part["purl"].startswith("pkg:generic/openssl@")]
    assert backend.openssl_version_text().split()[:2] == ["OpenSSL", openssl["version"]]


def test_same_contents_same_bytes_and_another_content_another_serial_number():
    assert bill() == bill(source={"usr/lib/a.py": b"a", "usr/lib/b.py": b"b"})
    changed = bill(source={"usr/lib/a.py": b"a", "usr/lib/b.py": b"c"})
    assert json.loads(bill())["serialNumber"] != json.loads(changed)["serialNumber"]
    assert "timestamp" not in json.loads(bill())["metadata"]


def test_package_urls_and_hashes():
    text = bill()
    found = components(text)
    assert found["libcrypt1"]["purl"] == "pkg:deb/debian/libcrypt1@1%3A4.4.33-2%2Bb1?arch=amd64&distro=bookworm"
    assert found["pynacl"]["purl"] == "pkg:pypi/pynacl@1.6.2"
    assert found["pynacl"]["hashes"] == [{"alg": "SHA-256", "content": "cd" * 32}]
    assert found["/usr/lib/a.py"]["hashes"][0]["content"].startswith("ca978112ca1bbdca")  # SHA-256 of "a"
    assert json.loads(text)["metadata"]["component"]["purl"] == f"pkg:oci/mcbn-client@sha256%3A{'ef' * 32}"


def wheel(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / WHEEL.filename
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_bills_inside_a_wheel_are_found_and_nested_without_their_builders_paths(tmp_path):
    path = wheel(
        tmp_path,
        {
            "pynacl-1.6.2.dist-info/sboms/x.json": json.dumps(INNER).encode(),
            "pynacl-1.6.2.dist-info/METADATA": b"",
            "pynacl/sboms/y.json": b"no bill",
        },
    )
    bills = bundled_bills([(WHEEL, path)])
    assert bills == {"pynacl": (json.dumps(INNER).encode(),)}
    (inner,) = components(bill(bundled=bills))["pynacl"]["components"]
    assert inner == {"type": "library", "name": "inner", "version": "3", "bom-ref": "pynacl:inner@3"}


def test_wheel_without_bills_adds_nothing(tmp_path):
    assert bundled_bills([(WHEEL, wheel(tmp_path, {"pynacl/__init__.py": b""}))]) == {}


@pytest.mark.parametrize("inner", [b"not json", b"[]", b'{"components": [{"name": "x"}]}'])
def test_unreadable_bill_inside_a_wheel_is_refused(inner):
    with pytest.raises(InputError, match=r"pynacl-1\.6\.2"):
        bill(bundled={"pynacl": [inner]})


def test_damaged_wheel_is_refused(tmp_path):
    path = tmp_path / WHEEL.filename
    path.write_bytes(b"no zip archive")
    with pytest.raises(InputError, match=r"pynacl-1\.6\.2"):
        bundled_bills([(WHEEL, path)])
