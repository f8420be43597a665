"""`verify` says yes to one digest, and names what differs in any other image; `record` notices what has changed."""

import gzip
import hashlib
import io
import json
import tarfile

import pytest

from mcbn_images.compare import differences
from mcbn_images.errors import ExitCode, UsageError
from mcbn_images.oci import Image, read_image, to_json, write_archive, write_layout
from mcbn_images.tree import Entry, Kind, Tree, read_archive

TOML = "etc/mcbn/workload.toml"


@pytest.fixture
def server(tree, tmp_path):
    return tree.image("server", tmp_path / "out")


@pytest.fixture
def verify(tree, tmp_path, capsys):
    """Verify an image against the tree; return exit code, output and errors."""

    def run(image, *words):
        path = tmp_path / "theirs"
        write_layout(image, path, "theirs:latest")
        capsys.readouterr()
        given = [image.digest, "--roster", str(tree.roster), "--against", str(path), *words]
        code = tree.run("verify", *given, *tree.sources)
        return code, *capsys.readouterr()

    return run


def changed(image, change):
    """Return the image with its top layer changed."""
    top = read_archive(image.layers[-1])
    change(top)
    return Image(image.config, (*image.layers[:-1], top.archive()))


def labelled(image, name, value):
    return Image({**image.config, "Labels": {**image.config["Labels"], name: value}}, image.layers)


def test_the_right_digest_is_said_to_be_which_image(server, verify):
    code, out, _ = verify(server)
    assert (code, "is the server image" in out) == (0, True)


def test_the_answer_as_json(tree, server, capsys):
    words = ["--roster", str(tree.roster), "--output", "json", *tree.sources]
    capsys.readouterr()
    assert tree.run("verify", server.digest, *words) == 0
    assert json.loads(capsys.readouterr().out) == {"image": "server", "digest": server.digest}


def test_an_added_file_is_named(server, verify):
    code, out, err = verify(changed(server, lambda top: top.add_file("usr/bin/sh", b"#!", executable=True)))
    assert code == ExitCode.DIFFERENT
    assert "From its server image it differs in:\nadded: /usr/bin/sh\n" in err
    assert server.digest in out


def test_a_removed_file_is_named(server, verify):
    assert f"removed: /{TOML}" in verify(changed(server, lambda top: top.entries.pop(TOML)))[2]


def test_a_changed_file_is_named_with_both_hashes(server, verify):
    def change(top):
        del top.entries[TOML]
        top.add_file(TOML, b"role = 'client'", executable=True)

    error = verify(changed(server, change))[2]
    assert f"changed: /{TOML}: mode 0644 became 0755" in error
    assert f"changed: /{TOML}: content sha256:" in error


def test_a_changed_label_is_named(server, verify):
    name = "tee.launch_policy.allow_cmd_override"
    error = verify(labelled(server, name, "true"))[2]
    assert f"changed: config.Labels.{name}: 'false' became 'true'" in error


def test_a_wider_override_is_named(server, verify):
    name = "tee.launch_policy.allow_env_override"
    wider = server.config["Labels"][name] + ",LD_PRELOAD"
    assert "LD_PRELOAD" in verify(labelled(server, name, wider))[2]


def test_a_changed_variable_and_a_missing_member_are_named(server, verify):
    config = {**server.config, "Env": ["PATH=/evil"]}
    del config["User"]
    error = verify(Image(config, server.layers))[2]
    assert "changed: config.Env: ['PATH=/usr/local/sbin" in error
    assert "changed: config.User: '65532' became nothing" in error


def test_links_kinds_and_owners_are_compared():
    def image(change):
        tree = Tree()
        change(tree)
        return Image({}, (tree.archive(),))

    link = image(lambda tree: tree.add_link("a", "x"))
    assert differences(link, image(lambda tree: tree.add_link("a", "y"))) == ["changed: /a: leads to y, not to x"]
    assert differences(link, image(lambda tree: tree.add_file("a", b""))) == ["changed: /a: a link became a file"]
    mine = image(lambda tree: tree.add_directory("a"))
    theirs = image(lambda tree: tree.add_directory("a", owner=7))
    assert differences(mine, theirs) == ["changed: /a: owner 0 became 7"]


def test_other_layers_with_the_same_files_are_said_to_be_so(server):
    whole = Tree()
    for layer in server.layers:
        whole.entries |= read_archive(layer).entries
    (line,) = differences(server, Image(server.config, (whole.archive(),)))
    assert "in another form" in line


def compressed(image, folder):
    """Write the image as other programs do: with a time in its configuration and compressed layers."""
    write_layout(image, folder, "theirs:latest")
    blobs = folder / "blobs/sha256"

    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    configuration = put(json.dumps(json.loads(image.configuration) | {"created": "2030-01-01T00:00:00Z"}).encode())
    layers = [put(gzip.compress(layer)) for layer in image.layers]
    manifest = put(json.dumps({"schemaVersion": 2, "config": configuration, "layers": layers}).encode())
    (folder / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    return manifest["digest"]


def test_an_image_of_another_program_is_explained_too(tree, server, tmp_path, capsys):
    other = changed(server, lambda top: top.add_file("usr/bin/sh", b"#!", executable=True))
    for name, image, line in (("x", other, "added: /usr/bin/sh"), ("y", server, "in another form")):
        digest = compressed(image, tmp_path / name)
        words = ["--roster", str(tree.roster), "--against", str(tmp_path / name), *tree.sources]
        assert tree.run("verify", digest, *words) == ExitCode.DIFFERENT
        assert line in capsys.readouterr().err


def differs(expected, other):
    *lines, last = differences(expected, other)
    return lines, "do not sign for it" in last


def test_where_a_difference_can_hide_one_that_is_named_is_not_all(server):
    """A harmless difference beside it: what other programs may read otherwise is said all the same."""
    added = changed(server, lambda top: top.add_file("etc/mcbn/more", b""))
    named = ["added: /etc/mcbn/more"]
    assert differences(server, added) == named

    def with_top(data):
        return Image(added.config, (*added.layers[:-1], data))

    def rewritten(**members):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(added.layers[-1])) as old, tarfile.open(fileobj=buffer, mode="w") as new:
            for header in old:
                for name, value in members.items():
                    setattr(header, name, value)
                new.addfile(header, old.extractfile(header) if header.isfile() else None)
        return with_top(buffer.getvalue())

    capabilities = {"pax_headers": {"SCHILY.xattr.security.capability": "x"}}
    others = [rewritten(**one) for one in (capabilities, {"gid": 7}, {"mtime": 7})]
    others.append(with_top(added.layers[-1] + bytes(512)))
    for other in others:
        assert differs(server, other) == (named, True)


def test_a_member_that_others_read_in_another_case_is_not_silently_left_out(server, tmp_path):
    added = labelled(server, "x", "y")
    members = json.loads(added.configuration)
    members["CONFIG"] = {"Labels": {"tee.launch_policy.log_redirect": "always"}}
    other = read_image(layout_of(added, members, tmp_path / "x"))
    assert differs(server, other) == (["changed: config.Labels.x: nothing became 'y'"], True)


def layout_of(image, configuration, folder):
    """Write a layout of an image with another configuration."""
    write_layout(image, folder, "x:latest")
    blobs = folder / "blobs/sha256"
    descriptors = []
    manifest = json.loads(image.manifest)
    for members in (configuration, manifest):
        data = to_json(members)
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        descriptors.append({"digest": f"sha256:{digest}", "size": len(data)})
        manifest["config"] |= descriptors[0]
    (folder / "index.json").write_text(json.dumps({"manifests": [descriptors[1]]}))
    return folder


def test_a_layer_that_hides_a_directory_hides_what_is_in_it(server):
    """As an engine lays them: a file in the place of a directory, and then a directory again, leaves nothing below."""

    file, directory = Tree(), Tree()
    file.add_file("etc/mcbn", b"")
    directory.add_directory("etc/mcbn")
    hidden = Image(server.config, (*server.layers, file.archive(), directory.archive()))
    assert f"removed: /{TOML}" in differences(server, hidden)


@pytest.mark.parametrize("index", [{}, {"manifests": 1}, {"manifests": [1]}, {"manifests": [{}]}, []])
def test_a_layout_with_a_member_of_another_type_is_damaged(server, tmp_path, index):
    write_layout(server, tmp_path / "x", "x:latest")
    (tmp_path / "x/index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="is damaged"):
        read_image(tmp_path / "x")


def test_an_image_of_another_program_is_no_base(tree, server, tmp_path, capsys):
    compressed(server, tmp_path / "x")
    (tmp_path / "spec.toml").write_text('name = "x"\n')
    words = ["extend", str(tmp_path / "x"), "--spec", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "y")]
    assert tree.run(*words) == ExitCode.USAGE
    assert "was not written by this program" in capsys.readouterr().err


def test_a_layer_whose_compression_is_damaged_is_refused(tree, server, tmp_path, capsys):
    broken = Image(server.config, (b"\x1f\x8bbroken",))
    write_layout(broken, tmp_path / "x", "x:latest")
    words = ["--roster", str(tree.roster), "--against", str(tmp_path / "x"), *tree.sources]
    assert tree.run("verify", broken.digest, *words) == ExitCode.USAGE
    assert "a layer is damaged" in capsys.readouterr().err


def test_without_against_the_text_says_what_would_help(tree, server, capsys):
    code = tree.run("verify", "sha256:" + "0" * 64, "--roster", str(tree.roster), *tree.sources)
    assert (code, "`--against PATH` names what differs" in capsys.readouterr().err) == (ExitCode.DIFFERENT, True)


def test_against_a_third_image_is_said_to_be_one(tree, server, tmp_path, capsys):
    words = ["--roster", str(tree.roster), "--against", str(tmp_path / "out/server"), *tree.sources]
    assert tree.run("verify", "sha256:" + "0" * 64, *words) == ExitCode.DIFFERENT
    assert "a third one" in capsys.readouterr().err


def test_what_was_added_to_the_image_that_the_digest_names_is_listed(tree, server, tmp_path, capsys):
    """An author's extension beside the base that everybody can rebuild."""
    extended = changed(server, lambda top: top.add_file("usr/lib/app/main.py", b"print()"))
    write_layout(extended, tmp_path / "theirs", "theirs:latest")
    capsys.readouterr()
    words = ["--roster", str(tree.roster), "--against", str(tmp_path / "theirs"), *tree.sources]
    assert tree.run("verify", server.digest, *words) == ExitCode.DIFFERENT
    out, err = capsys.readouterr()
    assert out == ""
    assert f"is the server image, but what --against names is {extended.digest}" in err
    assert "added: /usr/lib/app/main.py" in err


def test_a_files_name_cannot_speak_to_the_terminal(server, verify):
    name = "x\x1b[2J\nit is the server image"
    code, out, err = verify(changed(server, lambda top: top.entries.update({name: Entry(Kind.FILE, 0o644)})))
    assert code == ExitCode.DIFFERENT
    assert "\x1b" not in out + err
    assert "added: /x\\x1b[2J\\nit is the server image" in err


def test_a_digest_has_one_form(tree, capsys):
    assert tree.run("verify", "latest", "--roster", str(tree.roster), *tree.sources) == ExitCode.USAGE
    assert "64 hex digits" in capsys.readouterr().err


def damaged(folder, kind):
    if kind == "blob":
        blob = max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        blob.write_bytes(blob.read_bytes() + b"x")
    elif kind == "index":
        (folder / "index.json").write_text("[]")
    elif kind == "json":
        (folder / "index.json").write_text("{")
    elif kind == "missing":
        (folder / "index.json").unlink()
    elif kind == "two":
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({"manifests": index["manifests"] * 2}))


@pytest.mark.parametrize("kind", ["blob", "index", "json", "missing", "two"])
def test_a_damaged_layout_is_refused(tree, server, tmp_path, capsys, kind):
    damaged(tmp_path / "out/server", kind)
    words = ["--roster", str(tree.roster), "--against", str(tmp_path / "out/server"), *tree.sources]
    assert tree.run("verify", server.digest, *words) == ExitCode.USAGE
    assert "out/server" in capsys.readouterr().err


def test_an_archive_is_read_as_well(tree, server, tmp_path, capsys):
    other = labelled(server, "x", "y")
    write_archive(other, tmp_path / "other.tar", "x:latest")
    words = ["--roster", str(tree.roster), "--against", str(tmp_path / "other.tar"), *tree.sources]
    assert tree.run("verify", other.digest, *words) == ExitCode.DIFFERENT
    assert "config.Labels.x: nothing became 'y'" in capsys.readouterr().err
    (tmp_path / "other.tar").write_bytes(b"no archive")
    assert tree.run("verify", other.digest, *words) == ExitCode.USAGE


@pytest.fixture
def recorded(tree):
    """Return a tree with its record made."""
    (tree.root / "docs/reference").mkdir(parents=True)
    (tree.root / "deploy/images/example-roster.json").write_bytes(tree.roster.read_bytes())
    assert tree.run("record", *tree.sources) == 0
    return tree


def test_the_record_is_what_the_build_gives(recorded, tmp_path, capsys):
    assert recorded.run("record", "--check", *recorded.sources) == 0
    digests = json.loads((recorded.root / "deploy/images/example-digests.json").read_text())
    assert digests == recorded.build(tmp_path / "out")
    page = (recorded.root / "docs/reference/images.md").read_text()
    assert "| workload-only | 2.0 | none | 3 |" in page
    assert "| `workload/` | both workload images | 1 | 1 | 0 |" in page


def test_a_record_that_the_source_has_left_behind_names_the_command(recorded, capsys):
    recorded.write("workload/mcbn_workload/__init__.py", "# changed\nx = 1\n")
    assert recorded.run("record", "--check", *recorded.sources) == ExitCode.DIFFERENT
    error = capsys.readouterr().err
    assert "client: recorded sha256:" in error
    assert "broker: recorded" not in error
    assert "images.md does not say what is in the images" in error
    assert "make record" in error


def test_a_missing_record_names_the_command(recorded, capsys):
    (recorded.root / "docs/reference/images.md").unlink()
    assert recorded.run("record", "--check", *recorded.sources) == ExitCode.USAGE
    assert "make record" in capsys.readouterr().err
