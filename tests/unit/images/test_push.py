"""Publishing: by the distribution specification, with the digest read back, and no secret where it does not belong."""

import base64
import json
import socket
import time

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mcbn_images.cli import main
from mcbn_images.errors import ExitCode, RegistryError, UsageError
from mcbn_images.registry.authentication import Credentials
from mcbn_images.registry.layout import read_layout
from mcbn_images.registry.push import push
from mcbn_images.registry.reference import read_reference
from tests.unit.images.registries import Fake, docker_registry, serving, write_layout

LAYERS = (b"lowest layer", b"middle" * 500_000, b"lowest layer")


@pytest.fixture
def layout(tmp_path):
    write_layout(tmp_path / "layout", *LAYERS)
    return tmp_path / "layout"


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("secret-of-ann\n", encoding="utf-8")
    return path


def wait_for(process, port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("docker-registry does not answer")


@pytest.fixture
def registry(require_tool, tmp_path):
    """Give the address of Debian's docker-registry; it cannot take a socket from us, so a free port is asked for."""
    program = require_tool("docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(program, folder, port, wait_for) as address:
        yield address


def test_debians_registry_has_the_same_digest_under_digest_and_tag(layout, registry, capsys):
    digest = read_layout(layout).digest
    assert main(["push", str(layout), f"{registry}/mcbn/client:1.0", "--output", "json"]) == ExitCode.OK
    said = capsys.readouterr()
    assert json.loads(said.out) == {"image": f"{registry}/mcbn/client@{digest}"}
    assert "read back, unchanged" in said.err
    for name in (digest, "1.0"):
        answer = httpx.head(
            f"http://{registry}/v2/mcbn/client/manifests/{name}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        )
        assert answer.headers["Docker-Content-Digest"] == digest


def test_blobs_that_are_there_are_not_sent_twice(layout, registry, capsys):
    for _ in range(2):
        assert main(["push", str(layout), f"{registry}/mcbn/client"]) == ExitCode.OK
    said = capsys.readouterr().err
    assert (said.count(": uploading"), said.count(": is there")) == (3, 3)


def test_registry_that_changes_the_manifest_fails_the_push(layout, capsys):
    with serving(Fake(changes=True)) as address:
        assert main(["push", str(layout), f"{address}/a:1"]) == ExitCode.DIFFERENT
    said = capsys.readouterr()
    assert "changed the image" in said.err
    assert not said.out


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_registry_that_asks_for_credentials_gets_them_and_nobody_sees_them(scheme, layout, password_file, capsys):
    fake = Fake(scheme=scheme, password="secret-of-ann")
    with serving(fake) as address:
        arguments = ["push", str(layout), f"{address}/a", "--username", "ann", "--password-file", str(password_file)]
        assert main(arguments) == ExitCode.OK
    assert len(fake.blobs) == 3
    assert len(fake.manifests) == 1
    said = capsys.readouterr()
    for secret in (fake.token, fake.password, fake.basic):
        assert secret not in said.out + said.err


def test_anonymous_token_is_fetched_where_the_registry_gives_one(layout):
    fake = Fake(scheme="Bearer")
    with serving(fake) as address:
        assert main(["push", str(layout), f"{address}/a"]) == ExitCode.OK
    asked = [path for _, path, _ in fake.requests if path.startswith("/token")]
    assert asked == ["/token?service=fake&scope=repository%3Aa%3Apull%2Cpush"]


def test_wrong_password_is_refused_without_being_shown(layout, password_file, capsys):
    fake = Fake(scheme="Bearer", password="another")
    with serving(fake) as address:
        arguments = ["push", str(layout), f"{address}/a", "--username", "ann", "--password-file", str(password_file)]
        assert main(arguments) == ExitCode.REGISTRY
    said = capsys.readouterr().err
    assert "gives no token: status 401" in said
    assert "secret-of-ann" not in said


def test_attack_registry_that_sends_for_a_token_to_plain_http_elsewhere_gets_no_credentials(layout, password_file):
    fake = Fake(scheme="Bearer", password="secret-of-ann", realm="http://thief.invalid/token")
    with serving(fake) as address:
        arguments = ["push", str(layout), f"{address}/a", "--username", "ann", "--password-file", str(password_file)]
        assert main(arguments) == ExitCode.REGISTRY
    assert all(not given for _, _, given in fake.requests)


def test_attack_upload_that_goes_on_elsewhere_is_sent_without_the_token(layout):
    storage = Fake()
    with serving(storage) as elsewhere:
        fake = Fake(scheme="Bearer", redirect=f"http://{elsewhere}/storage/1")
        with serving(fake) as address:
            assert main(["push", str(layout), f"{address}/a"]) == ExitCode.OK
    assert storage.blobs
    assert all(not given for _, _, given in storage.requests)


@pytest.mark.parametrize("realm", ["https://thief.invalid/token", "http://europe-docker.pkg.dev/token"])
def test_attack_googles_token_goes_to_googles_registry_alone(realm, layout, monkeypatch):
    asked = []

    def answer(request):
        asked.append(request.url)
        return httpx.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: answer(request))
    with pytest.raises(RegistryError, match="not trusted with credentials"):
        push(
            read_layout(layout),
            read_reference("europe-docker.pkg.dev/p/r/client"),
            lambda: Credentials("oauth2accesstoken", "secret"),
            lambda _: None,
        )
    assert {url.host for url in asked} == {"europe-docker.pkg.dev"}


def test_googles_credentials_never_go_over_plain_http(layout):
    with pytest.raises(UsageError, match="never go over plain HTTP"):
        push(
            read_layout(layout),
            read_reference("europe-docker.pkg.dev/p/r/client"),
            lambda: None,
            lambda _: None,
            insecure_http=True,
        )


def test_application_default_credentials_are_used_for_artifact_registry(layout, monkeypatch, tmp_path, capsys):
    """A real google-auth, with a service account's file whose token endpoint is here."""
    given = []

    def answer(request):
        given.append(request.headers.get("Authorization"))
        if given[-1] is None:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return httpx.Response(403, json={"errors": [{"code": "DENIED", "message": given[-1]}]})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: answer(request))
    with serving(Fake()) as address:
        account = {"type": "service_account", "client_email": "a@b.invalid", "private_key": new_private_key()}
        path = tmp_path / "account.json"
        path.write_text(json.dumps(account | {"token_uri": f"http://{address}/oauth2"}), encoding="utf-8")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        assert main(["push", str(layout), "europe-docker.pkg.dev/p/r/client"]) == ExitCode.REGISTRY
    basic = base64.b64encode(b"oauth2accesstoken:token-of-google").decode()
    assert given == [None, f"Basic {basic}"]
    said = capsys.readouterr().err
    assert "status 403, DENIED. Whoever pushes needs the right" in said
    assert basic not in said


def new_private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def test_missing_google_credentials_say_what_to_do(layout, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))

    def answer(request):
        return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: answer(request))
    assert main(["push", str(layout), "europe-docker.pkg.dev/p/r/client"]) == ExitCode.REGISTRY
    assert "gcloud auth application-default login" in capsys.readouterr().err


def test_registry_that_is_not_there_says_so(layout, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main(["push", str(layout), f"127.0.0.1:{port}/a"]) == ExitCode.REGISTRY
    assert "cannot look for a blob at 127.0.0.1: ConnectError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["client", "library/client", "example.org/Client", "example.org/a@sha256:00", "example.org/a:", "../a", ""]
)
def test_target_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match="REGISTRY/REPOSITORY"):
        read_reference(text)


def test_names_that_only_look_like_googles_are_not():
    assert read_reference("europe-west4-docker.pkg.dev/p/r/a").is_google
    assert not read_reference("pkg.dev.thief.example/a").is_google
    assert not read_reference("thiefgcr.io/a").is_google


def test_damaged_blob_is_found_before_anything_is_sent(layout):
    digest = read_layout(layout).blobs[-1].path
    digest.write_bytes(b"changed")
    with pytest.raises(UsageError, match="is damaged"):
        read_layout(layout)


@pytest.mark.parametrize("options", [["--username", "ann"], ["--password-file", "x"]])
def test_name_and_password_go_together(options, layout, capsys):
    assert main(["push", str(layout), "example.org/a", *options]) == ExitCode.USAGE
    assert "go together" in capsys.readouterr().err
