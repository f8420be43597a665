"""What becomes of packages and wheels in a layer."""

import gzip
import lzma
import shutil
import subprocess
import zipfile

import pytest

from mcbn_images.debs import read_deb
from mcbn_images.errors import InputError
from mcbn_images.oci import root_of
from mcbn_images.pins import DebPin, WheelPin
from mcbn_images.rootfs import base_layer
from mcbn_images.tree import MTIME, Kind, Tree, read_archive
from mcbn_images.wheels import SITE, wheel_tree, wheels_layer
from tests.unit.images.conftest import CERTIFICATE, CONTROL, ar_of, deb_of, tar_of

PIN = DebPin("tool", "1.0", "all", "pool/main/t/tool/tool_1.0_all.deb", "0" * 64, 1)
CA = DebPin("ca-certificates", "1.0", "all", "pool/main/c/ca.deb", "0" * 64, 1)
WHEEL = WheelPin("thing", "1.0", "thing-1.0-py3-none-any.whl", "0" * 64)


@pytest.fixture
def layer(tmp_path):
    """Return the base layer of one package with these files, beside a CA."""

    def make(files, **more):
        certificate = {"usr/share/ca-certificates/one.crt": (CERTIFICATE.format("one").encode(), 0o644)}
        debs = {PIN: deb_of("tool", files, **more), CA: deb_of("ca-certificates", certificate)}
        read = []
        for pin, data in debs.items():
            path = tmp_path / f"{pin.name}.deb"
            path.write_bytes(data)
            read.append((pin, read_deb(path)))
        return base_layer(read)

    return make


def test_the_image_has_no_program_but_the_interpreter(tree, tmp_path):
    entries = root_of(tree.image("server", tmp_path / "out"))
    assert [path for path in entries if path.startswith("usr/bin/")] == ["usr/bin/python3.11"]


def test_usr_is_merged_and_modes_are_normal(tree, tmp_path):
    entries = root_of(tree.image("server", tmp_path / "out"))
    assert (entries["lib"].kind, entries["lib"].target) == (Kind.LINK, "usr/lib")
    assert (entries["usr/lib/libc.so.6"].data, entries["usr/lib/libc.so.6"].mode) == (b"libc", 0o755)
    assert {entry.mode for entry in entries.values() if entry.kind is Kind.FILE} <= {0o644, 0o755}


def test_the_ca_bundle_is_sorted_and_where_openssl_looks(tree, tmp_path):
    entries = root_of(tree.image("server", tmp_path / "out"))
    bundle = (CERTIFICATE.format("a") + CERTIFICATE.format("b")).encode()
    assert entries["etc/ssl/certs/ca-certificates.crt"].data == bundle
    assert entries["usr/lib/ssl/cert.pem"].target == "/etc/ssl/certs/ca-certificates.crt"


def test_nobody_but_the_data_directory_belongs_to_the_user(tree, tmp_path):
    broker = root_of(tree.image("broker", tmp_path / "out"))
    assert {path for path, entry in broker.items() if entry.owner} == {"var/lib/mcbn-broker"}
    assert (broker["var/lib/mcbn-broker"].mode, broker["var/lib/mcbn-broker"].owner) == (0o700, 65532)


def test_documentation_goes_and_licences_stay(layer):
    files = [
        "usr/share/doc/tool/README",
        "usr/share/doc/tool/copyright",
        "usr/share/man/man1/tool.1",
        "usr/share/locale/de/x",
    ]
    kept = layer(dict.fromkeys(files, (b"x", 420))).entries
    assert [name for name in files if name in kept] == ["usr/share/doc/tool/copyright"]


def test_scanners_find_what_is_installed(layer):
    entry = layer({"etc/tool": (b"x", 0o644)}).entries["var/lib/dpkg/status.d/tool"]
    assert entry.data.decode() == CONTROL.format(name="tool")


def test_links_are_kept_and_hard_links_become_files(layer):
    entries = layer(
        {"usr/lib/a": (b"a", 0o644)}, links={"usr/lib/b": "a"}, hard_links={"usr/lib/c": "./usr/lib/a"}
    ).entries
    assert (entries["usr/lib/b"].kind, entries["usr/lib/b"].target) == (Kind.LINK, "a")
    assert entries["usr/lib/c"] == entries["usr/lib/a"]


def test_packages_that_disagree_about_a_file_are_refused(tmp_path):
    read = []
    for name in ("one", "two"):
        path = tmp_path / name
        path.write_bytes(deb_of(name, {"etc/x": (name.encode(), 0o644)}))
        read.append((PIN, read_deb(path)))
    with pytest.raises(InputError, match="/etc/x comes twice"):
        base_layer(read)


def test_without_certificates_there_is_no_image(tmp_path):
    path = tmp_path / "x.deb"
    path.write_bytes(deb_of("tool", {"etc/x": (b"", 0o644)}))
    with pytest.raises(InputError, match="ca-certificates is missing"):
        base_layer([(PIN, read_deb(path))])


@pytest.mark.parametrize(("suffix", "compress"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_package_is_read_however_it_is_compressed(tmp_path, suffix, compress):
    control, data = tar_of({"control": (b"C", 0o644)}), tar_of({"etc/x": (b"x", 0o644)})
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar{suffix}": compress(control),
        f"data.tar{suffix}": compress(data),
    }
    (tmp_path / "x.deb").write_bytes(ar_of(members))
    deb = read_deb(tmp_path / "x.deb")
    assert (deb.control, deb.files.entries["etc/x"].data) == (b"C", b"x")


@pytest.fixture
def zstd_deb(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    folder = tmp_path / "package"
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN/control").write_text(CONTROL.format(name="z") + "Maintainer: x <x@example.org>\nDescription: x\n")
    (folder / "file").write_bytes(b"data")
    path = tmp_path / "z.deb"
    subprocess.run(["dpkg-deb", "-Zzstd", "--build", folder, path], check=True, capture_output=True)
    return path


def test_zstd_is_read_by_dpkg(zstd_deb):
    assert read_deb(zstd_deb).files.entries["file"].data == b"data"


def test_zstd_without_dpkg_says_what_to_install(zstd_deb, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="needs the program dpkg-deb: install dpkg"):
        read_deb(zstd_deb)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"no archive", "is no Debian package"),
        (ar_of({"debian-binary": b"2.0\n"}), "has no control.tar"),
        (ar_of({"control.tar.xz": b"broken"}), "control.tar.xz is damaged"),
        (ar_of({"control.tar": b"broken" * 200, "data.tar": tar_of({})}), "not a tar archive"),
        (ar_of({"control.tar": tar_of({}), "data.tar": tar_of({})}), "has no control file"),
        (b"!<arch>\n" + b"x" * 60, "is damaged"),
    ],
)
def test_a_damaged_package_is_refused(tmp_path, data, problem):
    (tmp_path / "x.deb").write_bytes(data)
    with pytest.raises(InputError, match=problem):
        read_deb(tmp_path / "x.deb")


@pytest.fixture
def wheel(tmp_path):
    def make(files):
        path = tmp_path / WHEEL.filename
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    return make


def test_a_wheel_is_unpacked_without_an_installers_notes(wheel):
    files = {
        "thing/__init__.py": b"1",
        "thing-1.0.dist-info/METADATA": b"2",
        "thing-1.0.dist-info/RECORD": b"3",
        "thing-1.0.dist-info/INSTALLER": b"4",
        "thing-1.0.data/purelib/pure.py": b"5",
        "thing-1.0.data/platlib/plat.py": b"6",
        "thing-1.0.data/data/share/x": b"7",
        "thing-1.0.data/scripts/tool": b"8",
        "thing-1.0.data/headers/x.h": b"9",
    }
    found = {path: e.data for path, e in wheel_tree(WHEEL, wheel(files)).entries.items() if e.kind is Kind.FILE}
    assert found == {
        f"{SITE}/thing/__init__.py": b"1",
        f"{SITE}/thing-1.0.dist-info/METADATA": b"2",
        f"{SITE}/pure.py": b"5",
        f"{SITE}/plat.py": b"6",
        "usr/local/share/x": b"7",
    }


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "thing-1.0.data/purelib/../../x", "thing-1.0.data/other/x"]
)
def test_a_wheel_that_reaches_out_is_refused(wheel, name):
    with pytest.raises(InputError):
        wheel_tree(WHEEL, wheel({name: b"x"}))


def test_a_wheel_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"thing-1\.0"):
        wheels_layer([(WHEEL, tmp_path / "x.whl")])


def test_an_archive_is_sorted_and_has_one_time_and_owner(tmp_path):
    first, second = Tree(), Tree()
    names = ["usr/lib/z", "a/b", "a.b", "usr/lib/größe", "usr/" + "long/" * 60 + "x"]
    for tree, order in ((first, names), (second, names[::-1])):
        for name in order:
            tree.add_file(name, name.encode())
    assert first.archive() == second.archive()
    assert read_archive(first.archive()).entries == first.entries
    assert MTIME == 315532800


@pytest.mark.parametrize("path", ["", "/etc/x", "a//b", "a/../b", "./a", "a\0b"])
def test_a_path_has_one_spelling(path):
    with pytest.raises(InputError):
        Tree().add_file(path, b"")


def test_a_file_cannot_be_a_directory_too():
    tree = Tree()
    tree.add_file("a", b"")
    with pytest.raises(InputError, match="/a/b lies below /a, which is a file"):
        tree.add_file("a/b", b"")
