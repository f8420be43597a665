"""A whole source tree in small: two packages, one wheel each, a few lines of code. Builds of it need no network."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mcbn_images.cli import main
from mcbn_images.oci import Image, read_image

CONTROL = "Package: {name}\nVersion: 1.0\nArchitecture: all\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
ROSTER = {
    "format": "mcbn-roster-v1",
    "network": "small",
    "participants": [
        {"name": name, "consent_key": f"{name}-consent", "release_key": f"{name}-release"}
        for name in ("alice", "bob-and-sons")
    ],
    "threshold": 2,
}
BASE = {
    "bin/sh": (b"#!", 0o755),
    "lib/libc.so.6": (b"libc", 0o4755),
    "usr/bin/python3.11": (b"py", 0o755),
}
Files = dict[str, tuple[bytes, int]]


def tar_of(files: Files, links: dict[str, str] | None = None, hard_links: dict[str, str] | None = None) -> bytes:
    """Return a tar archive as dpkg makes them: names begin with `./`, directories come first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folders = {parent.as_posix() for name in files for parent in Path(name).parents}
        for folder in sorted(folders - {"."}):
            header = tarfile.TarInfo(f"./{folder}")
            header.type, header.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(header)
        for name, (data, mode) in files.items():
            header = tarfile.TarInfo(f"./{name}")
            header.size, header.mode, header.mtime = len(data), mode, 1234567890
            tar.addfile(header, io.BytesIO(data))
        for kind, given in ((tarfile.SYMTYPE, links or {}), (tarfile.LNKTYPE, hard_links or {})):
            for name, target in given.items():
                header = tarfile.TarInfo(f"./{name}")
                header.type, header.linkname = kind, target
                tar.addfile(header)
    return buffer.getvalue()


def ar_of(members: dict[str, bytes]) -> bytes:
    """Return an `ar` archive, as deb(5) says."""
    text = b"!<arch>\n"
    for name, data in members.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
        text += head.encode() + data + b"\n" * (len(data) % 2)
    return text


def deb_of(name: str, files: Files, **more: dict[str, str]) -> bytes:
    """Return a Debian package, uncompressed."""
    control = tar_of({"control": (CONTROL.format(name=name).encode(), 0o644)})
    data = tar_of(files, **more)
    return ar_of({"debian-binary": b"2.0\n", "control.tar": control, "data.tar": data})


def wheel_of(path: Path, files: dict[str, bytes]) -> str:
    """Write a wheel and return its SHA-256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class SmallTree:
    """A source tree below `root`, its inputs below `inputs`."""

    root: Path
    inputs: Path
    roster: Path = field(init=False)

    def __post_init__(self) -> None:
        self.write("protocol/mcbn_protocol/__init__.py", '__version__ = "9.9"\n')
        self.write("workload/mcbn_workload/__init__.py", '"""Workload."""\n')
        self.write("workload/mcbn_workload/key_log.py", '"""Key log."""\n')
        self.write("broker/mcbn_broker/__init__.py", '"""Broker."""\n')
        for role in ("client", "server"):
            self.write(f"deploy/images/{role}.toml", f'role = "{role}"\nchannel = "tls13-psk"\n')
        self.write("deploy/images/debs.txt", "base  # the root\nca-certificates\n")
        self.roster = self.root / "roster.json"
        self.write_roster()
        self.add_debs()
        for name in ("workload", "broker", "simulator"):
            self.add_wheel(name)

    def write(self, name: str, text: str | bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def write_roster(self, **changed: object) -> None:
        self.roster.write_text(json.dumps(ROSTER | changed, sort_keys=True, separators=(",", ":")))

    def add_debs(self, base: Files | None = None) -> None:
        base_files = base or {
            "bin/sh": (b"#!", 0o755),
            "lib/libc.so.6": (b"libc", 0o4755),
            "usr/bin/python3.11": (b"py", 0o755),
        }
        certificates = {
            f"usr/share/ca-certificates/mozilla/{name}.crt": (CERTIFICATE.format(name).encode(), 0o600) for name in "ba"
        }
        debs = {"base": deb_of("base", base_files), "ca-certificates": deb_of("ca-certificates", certificates)}
        lines = []
        for name, data in debs.items():
            (self.inputs / f"{name}_1.0_all.deb").write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            lines.append(f"{name} 1.0 all pool/main/b/{name}/{name}_1.0_all.deb {digest} {len(data)}\n")
        self.write("deploy/images/debs.lock", "".join(lines))

    def add_wheel(self, image: str) -> None:
        name = f"{image}_only"
        file = f"{name}-2.0-py3-none-any.whl"
        notes = {
            "METADATA": f"Metadata-Version: 2.1\nName: {image}-only\nVersion: 2.0\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        files = {f"{name}-2.0.dist-info/{note}": text.encode() for note, text in notes.items()}
        digest = wheel_of(self.inputs / file, {f"{name}/__init__.py": b"", **files})
        self.write(
            f"requirements/{image}.txt",
            f"{image}-only==2.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{digest}\n",
        )
        self.write(f"deploy/images/{image}-wheels.lock", f"{image}-only 2.0 {file} {digest}\n")

    @property
    def sources(self) -> list[str]:
        return ["--debs", str(self.inputs), "--wheels", str(self.inputs), "--cache", str(self.root.parent / "cache")]

    def run(self, *words: str) -> int:
        """Run `mcbn-images` on this tree."""
        return main(["--source", str(self.root), *words])

    def build(self, out: Path) -> dict[str, str]:
        """Build all images and return their digests."""
        assert self.run("build", "--roster", str(self.roster), "--out", str(out), *self.sources) == 0
        digests: dict[str, str] = json.loads((out / "digests.json").read_text())
        return digests

    def image(self, name: str, out: Path) -> Image:
        self.build(out)
        return read_image(out / name)


@pytest.fixture
def tree(tmp_path: Path) -> SmallTree:
    (tmp_path / "inputs").mkdir()
    return SmallTree(tmp_path / "tree", tmp_path / "inputs")
