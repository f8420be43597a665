"""The search for secrets finds what was planted: each form, in each kind of place."""

import base64
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.secret_scanner import Evidence, Finding, ProcessWitness, Scanner, folder_evidence, forms_of

CANARY = bytes(range(0xC8, 0xE8))
PARTS = (b'{"alg":"RS256"}', b'{"aud":"x"}' * 9, CANARY)
TOKEN = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in PARTS)
SCANNER = Scanner({"canary": CANARY})
WRITTEN = {
    "raw": CANARY,
    "hex": CANARY.hex().encode(),
    "HEX": CANARY.hex().upper().encode(),
    **{f"base64+{n}": base64.b64encode(b"abc"[:n] + CANARY + b"tail") for n in range(3)},
    **{f"base64url+{n}": base64.urlsafe_b64encode(b"xyz"[:n] + CANARY + b"\xff") for n in range(3)},
}


def forms_found(found: set[Finding]) -> set[str]:
    return {one.form for one in found}


@pytest.mark.parametrize("form", WRITTEN)
def test_each_form_is_found(form: str) -> None:
    found = SCANNER.search([Evidence("here", b"before " + WRITTEN[form] + b" after")])
    assert Finding("canary", form, "here") in found


def test_each_form_that_is_searched_is_tested() -> None:
    assert forms_of(CANARY).keys() == WRITTEN.keys()


@pytest.mark.parametrize("padding", range(6))
def test_base64_is_found_wherever_it_begins_and_ends(padding: int) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for tail in range(3):
            assert SCANNER.search([Evidence("here", encode(b"p" * padding + CANARY + b"t" * tail).rstrip(b"="))])


def test_nothing_is_found_where_nothing_is() -> None:
    other = bytes(range(0xC9, 0xE9))
    data = b"".join((*forms_of(other).values(), CANARY[:-1], CANARY[1:], b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"))
    assert SCANNER.search([Evidence("here", data)]) == set()


def test_a_token_is_found_also_if_it_is_cut_off() -> None:
    assert forms_found(SCANNER.search([Evidence("log", b'{"token":"' + TOKEN + b'"}')])) >= {"JWS"}
    assert forms_found(SCANNER.search([Evidence("log", TOKEN[:100])])) == {"JWS"}


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("path", ["log", "deep/down/.hidden"])
def test_a_canary_in_a_file_is_found(tmp_path: Path, path: str, form: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * 5000 + WRITTEN[form])
    assert Finding("canary", form, path) in SCANNER.search(folder_evidence(tmp_path))


@pytest.mark.parametrize("form", WRITTEN)
def test_a_canary_in_a_database_is_found_even_across_pages(tmp_path: Path, form: str) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
        database.execute("CREATE TABLE t (value)")
        database.executemany("INSERT INTO t VALUES (?)", [(b"x" * (4000 + 7 * n) + WRITTEN[form],) for n in range(20)])
    assert Finding("canary", form, "a.db, table t") in SCANNER.search(folder_evidence(tmp_path))


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("part", ["cmdline", "environ"])
def test_a_canary_given_to_a_process_below_is_found(part: str, form: str) -> None:
    child = "import sys; print(flush=True); sys.stdin.read()"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
    arguments = [WRITTEN[form]] if part == "cmdline" else []
    environment = {b"HIDDEN": WRITTEN[form]} if part == "environ" else {}
    command: list[str | bytes] = [sys.executable, "-I", "-S", "-c", parent, child, *arguments]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        with ProcessWitness(process.pid) as witness:
            pass
        process.stdin.close()
    assert Finding("canary", form, f"{part} of a process") in SCANNER.search(witness.evidence)
