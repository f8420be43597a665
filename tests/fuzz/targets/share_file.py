"""Share files as `derive` reads them: exactly 64 hex digits, and no two alike."""

import re
import tempfile
from contextlib import suppress
from pathlib import Path

from mcbn_protocol.key_schedule import LEGACY_SCHEMES
from mcbn_workload.derive import ShareFileError, combine_files
from tests.fuzz.material import vectors

MAX_BYTES = 256
FILES = [Path(tempfile.gettempdir()) / name for name in ("one", "two")]
FORM = re.compile(rb"[0-9a-f]{64}\n?")


def seeds() -> list[bytes]:
    shares = vectors("legacy-combinations")[0]["input"]["throwaway_shares"]
    return ["|".join(list(shares.values())[:2]).encode(), b"0" * 64 + b"\n|" + b"1" * 64, b"|"]


def target(data: bytes) -> None:
    contents = data.partition(b"|")[::2]
    for path, content in zip(FILES, contents, strict=True):
        path.write_bytes(content)
    for scheme in sorted(LEGACY_SCHEMES):
        with suppress(ShareFileError):
            assert len(combine_files(scheme, FILES).reveal()) == 32
            assert all(FORM.fullmatch(content) for content in contents)
            assert contents[0][:64] != contents[1][:64]
