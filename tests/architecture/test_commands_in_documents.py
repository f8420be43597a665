"""Every command that a document tells somebody to type exists, with every option that is given to it."""

import re
import shlex
from collections.abc import Iterator

import pytest

PROGRAMS = {
    "mcbn-broker": "mcbn-broker",
    "mcbn-broker-admin": "mcbn-broker",
    "mcbn-workload": "mcbn-workload",
    "mcbn-simulator": "mcbn-simulator",
    "mcbn-images": "mcbn-images",
    "deploy/smoke": "deploy/smoke",
}
SHELLS = {"", "sh", "bash", "console"}
INLINE = re.compile(r"`((?:\.venv/bin/)?(?:mcbn-[a-z-]+|make|deploy/smoke) [^`\n]+)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
END_OF_COMMAND = {"|", "||", "&&", ";", "&", ")", ">", ">>", "<"}


def documents(root):
    pages = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("docs/how-to/*.md"), *root.glob("docs/adr/*.md")]
    return sorted([*pages, *root.glob("deploy/**/*.md")])


def in_blocks(text: str) -> str:
    """Return the lines of all blocks for a shell."""
    language: str | None = None  # of the block that is open; None outside of blocks
    kept = []
    for line in text.splitlines(keepends=True):
        fence = re.match(r" *```(\w*)", line)
        if fence:
            language = fence[1] if language is None else None
        elif language in SHELLS:
            kept.append(line)
    return "".join(kept)


def lines(text: str) -> Iterator[str]:
    yield from in_blocks(text).replace("\\\n", " ").splitlines()
    yield from INLINE.findall(text)


def commands(line: str) -> Iterator[list[str]]:
    """Give the commands of one line of a shell, each as its words."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    try:
        words = list(reader)
    except ValueError:  # a quotation that ends on another line
        words = line.split()
    command: list[str] = []
    for word in [*words, ";"]:
        if word in END_OF_COMMAND:
            if command:
                yield command
            command = []
        else:
            command.append(word)


@pytest.fixture(scope="module")
def helps(root):
    """The help text of every command, by its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "tools"))
        generator = __import__("generate_reference")
    pages = [generator.typer_page("mcbn-broker"), generator.typer_page("mcbn-simulator")]
    text = "".join([*pages, generator.workload_cli_page(), generator.images_cli_page(), generator.smoke_page()])
    return dict(re.findall(r"^## `([^`]+)`\n\n```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def targets(root):
    return set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))


def program(word: str) -> str | None:
    """Return which of the programs a word starts, by its name or by its path."""
    return PROGRAMS.get(word) or PROGRAMS.get(word.rpartition("/")[2])


def complaints(words: list[str], helps: dict[str, str], targets: set[str]) -> Iterator[str]:
    if words[0] == "make":
        asked = [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)]
        yield from (f"make {word}: no such target" for word in asked if word not in targets)
    found = next(((path, words[place + 1 :]) for place, word in enumerate(words) if (path := program(word))), None)
    if found is None:
        return
    path, rest = found
    while rest and f"{path} {rest[0]}" in helps:
        path, rest = f"{path} {rest[0]}", rest[1:]
    if rest and "COMMAND" in helps[path] and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        yield f"{path} {rest[0]}: no such command"
    known = set(OPTION.findall(helps[path]))
    options = [word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)]
    yield from (f"{path} {option}: no such option" for option in options if option not in known)
    yield from (f"{path} {word}: a shell hands the bracket on" for word in rest if word.startswith("[-"))


def test_every_command_in_a_document_is_one(root, helps, targets):
    found = 0
    wrong = []
    for page in documents(root):
        for line in lines(page.read_text(encoding="utf-8")):
            for words in commands(line):
                found += 1
                wrong += [f"{page.relative_to(root)}: {one}" for one in complaints(words, helps, targets)]
    assert wrong == []
    assert found > 100


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("mcbn-broker consnt pause", "mcbn-broker consnt: no such command"),
        ("umask 077 && .venv/bin/mcbn-images verify --agianst x", "mcbn-images verify --agianst: no such option"),
        ("mcbn-workload probe --explain=1 | less", "mcbn-workload probe --explain: no such option"),
        ("make imagse", "make imagse: no such target"),
        ("mcbn-broker status --out x", "mcbn-broker status --out: no such option"),  # it has --output
        ("mcbn-broker restore a [--replace]", "mcbn-broker restore [--replace]: a shell hands the bracket on"),
        ("deploy/smoke PROJECT --hardwear TDX", "deploy/smoke --hardwear: no such option"),
    ],
)
def test_a_wrong_one_is_noticed(helps, targets, line, complaint):
    assert [one for words in commands(line) for one in complaints(words, helps, targets)] == [complaint]


def test_a_block_for_a_shell_is_found_after_one_for_another_language():
    page = "```python\nnot = this\n```\ntext, not a command\n\n```sh\nmake \\\n  images\n```\n"
    assert list(lines(page)) == ["make    images"]
