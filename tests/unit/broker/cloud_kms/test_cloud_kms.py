"""A key-encryption key in Cloud KMS, against a local service that does what the documentation says, or the opposite."""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import google_crc32c
import pytest

from mcbn_broker.errors import EXIT_CODES, KeystoreError, NotReadyError, UsageError
from mcbn_broker.keystore.cloud_kms.errors import CloudKmsError, CloudKmsUnavailableError
from mcbn_broker.keystore.cloud_kms.exchange import ANSWER_BYTES
from mcbn_broker.keystore.cloud_kms.key import CloudKmsKey, KeyName
from mcbn_broker.keystore.cloud_kms.wrapped import create_wrapped, load_wrapped
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek_source import KMS_ENDPOINT, KekFile, KekInCloudKms, check_endpoint, choose_kek

URI = "gcp-kms://projects/p-1/locations/europe-west3/keyRings/ring/cryptoKeys/broker-kek"
ALICE = Identity("demo", "alice", "https://alice.example")


def key_of(cloud, *, seconds: float = 20) -> CloudKmsKey:
    return CloudKmsKey(KeyName.parse(URI), cloud.address, seconds)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def wrapped(cloud, root):
    """Alice's key-encryption key, made."""
    return create_wrapped(key_of(cloud), root, ALICE, os.urandom)


# --- names and places


def test_a_key_is_named_in_full_and_without_a_version():
    assert str(KeyName.parse(URI)) == URI
    assert KeyName.parse(URI.replace("p-1", "example.com:p-1"))
    for bad in (
        URI[len("gcp-kms://") :],
        f"{URI}/cryptoKeyVersions/1",
        f"{URI}?x",
        f"{URI}\n",
        URI.replace("ring", ".."),
    ):
        with pytest.raises(UsageError, match="--kek is gcp-kms://projects"):
            KeyName.parse(bad)


@pytest.mark.parametrize(
    "good", [KMS_ENDPOINT, "https://cloudkms.eu.rep.googleapis.com:443", "http://127.0.0.1:8080", "http://[::1]:8080"]
)
def test_endpoints_are_https_or_loopback(good):
    assert check_endpoint(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "http://cloudkms.googleapis.com",
            "http://localhost",
            "ftp://127.0.0.1",
            "https://",
            "",
            "cloudkms",
            "https://h/v1",
        ),
        *(
            "https://h/",
            "https://h?x",
            "https://h#",
            "https://u@h",
            "https://h:x",
            "https://[::1",
            "http://127.0.0.1.x.example",
        ),
    ],
)
def test_other_endpoints_are_refused(bad):
    with pytest.raises(UsageError, match="--kms-endpoint is https://HOST"):
        check_endpoint(bad)


def test_exactly_one_key_is_named(tmp_path):
    assert choose_kek(None, tmp_path, None) == KekFile(tmp_path)
    assert choose_kek(URI, None, None) == KekInCloudKms(URI, KMS_ENDPOINT)
    for kek, file, endpoint in ((None, None, None), (URI, tmp_path, None), (None, tmp_path, KMS_ENDPOINT)):
        with pytest.raises(UsageError, match="--kek"):
            choose_kek(kek, file, endpoint)


def test_googles_libraries_are_loaded_only_for_a_key_in_cloud_kms():
    code = (
        "import sys, mcbn_broker.cli, mcbn_broker.app.serve\n"
        "sys.exit(any(name.startswith(('google.auth', 'google_crc32c')) for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what is made and kept


def test_only_the_wrapped_key_is_kept_and_one_call_opens_it(cloud, root, wrapped):
    (file,) = root.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("kek.wrapped", 0o600)
    assert wrapped.reveal() not in base64.urlsafe_b64decode(json.loads(file.read_bytes())["ciphertext"] + "==")
    cloud.calls.clear()
    assert load_wrapped(key_of(cloud), root, ALICE) == wrapped
    assert cloud.calls == ["/token", f"/v1/{URI.removeprefix('gcp-kms://')}:decrypt"]


def test_a_made_key_is_never_replaced(cloud, root, wrapped):
    with pytest.raises(KeystoreError, match="leave out --create-kek"):
        create_wrapped(key_of(cloud), root, ALICE, os.urandom)


def test_a_rotated_key_opens_what_an_older_version_wrapped(cloud, root, wrapped):
    cloud.versions["2"] = os.urandom(32)
    assert load_wrapped(key_of(cloud), root, ALICE) == wrapped


@pytest.mark.parametrize("other", [Identity("demo", "bob", ALICE.url), Identity("test", "alice", ALICE.url)])
def test_another_brokers_wrapped_key_does_not_open(cloud, root, wrapped, other):
    with pytest.raises(CloudKmsError, match="did not wrap this broker's key"):
        load_wrapped(key_of(cloud), root, other)


def test_without_a_wrapped_key_there_is_nothing_to_open(cloud, root):
    with pytest.raises(NotReadyError, match="not one of Cloud KMS"):
        load_wrapped(key_of(cloud), root, ALICE)


@pytest.mark.parametrize("change", [lambda old: old[:-1], lambda old: old.replace(b"-v1", b"-v2"), lambda _: b"{}"])
def test_an_altered_file_is_refused(cloud, root, wrapped, change):
    file = root / "kek.wrapped"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(KeystoreError, match="was altered"):
        load_wrapped(key_of(cloud), root, ALICE)


def test_the_key_that_wrapped_it_is_named_when_another_is_given(cloud, root, wrapped):
    other = CloudKmsKey(KeyName.parse(URI + "2"), cloud.address, 20)
    with pytest.raises(KeystoreError, match=r"was made with gcp-kms://.*broker-kek: give that one"):
        load_wrapped(other, root, ALICE)


def test_a_key_of_another_length_is_refused(cloud, root, wrapped):
    def short(answer):
        answer["plaintext"] = base64.b64encode(b"short").decode()
        answer["plaintextCrc32c"] = str(google_crc32c.value(b"short"))

    cloud.spoil = short
    with pytest.raises(KeystoreError, match="5 bytes"):
        load_wrapped(key_of(cloud), root, ALICE)


def test_a_key_that_does_not_come_back_is_not_used(cloud, root):
    def other(answer):
        if "plaintext" in answer:
            answer["plaintext"] = base64.b64encode(b"x" * 32).decode()
            answer["plaintextCrc32c"] = str(google_crc32c.value(b"x" * 32))

    cloud.spoil = other
    with pytest.raises(KeystoreError, match="nothing was made"):
        create_wrapped(key_of(cloud), root, ALICE, os.urandom)
    assert not list(root.iterdir())


# --- answers that cannot be trusted


def _flip(member):
    def spoil(answer):
        if member in answer:
            data = bytearray(base64.b64decode(answer[member]))
            data[3] ^= 1
            answer[member] = base64.b64encode(data).decode()

    return spoil


SPOILED_ENCRYPT = {
    "ciphertext flipped": _flip("ciphertext"),
    "checksum changed": lambda answer: answer.update(ciphertextCrc32c="1"),
    "checksum a number": lambda answer: answer.update(ciphertextCrc32c=int(answer["ciphertextCrc32c"])),
    "checksum missing": lambda answer: answer.pop("ciphertextCrc32c"),
    "plaintext not verified": lambda answer: answer.update(verifiedPlaintextCrc32c=False),
    "plaintext's flag missing": lambda answer: answer.pop("verifiedPlaintextCrc32c"),
    "flag a text": lambda answer: answer.update(verifiedPlaintextCrc32c="true"),
    "associated data not verified": lambda answer: answer.pop("verifiedAdditionalAuthenticatedDataCrc32c"),
    "another key": lambda answer: answer.update(name=answer["name"].replace("broker-kek", "other")),
    "no key": lambda answer: answer.pop("name"),
    "ciphertext missing": lambda answer: answer.pop("ciphertext"),
}
SPOILED_DECRYPT = {
    "plaintext flipped": _flip("plaintext"),
    "checksum changed": lambda answer: answer.update(plaintextCrc32c="1"),
    "checksum missing": lambda answer: answer.pop("plaintextCrc32c"),
    "not base64": lambda answer: answer.update(plaintext="%%%"),
    "plaintext a number": lambda answer: answer.update(plaintext=7),
}


@pytest.mark.parametrize("spoil", SPOILED_ENCRYPT.values(), ids=SPOILED_ENCRYPT)
def test_a_wrong_answer_makes_no_key(cloud, root, spoil):
    cloud.spoil = spoil
    with pytest.raises(CloudKmsError, match="cannot be trusted"):
        create_wrapped(key_of(cloud), root, ALICE, os.urandom)
    assert not list(root.iterdir())


@pytest.mark.parametrize("spoil", SPOILED_DECRYPT.values(), ids=SPOILED_DECRYPT)
def test_a_wrong_answer_opens_nothing(cloud, root, wrapped, spoil):
    cloud.spoil = spoil
    with pytest.raises(CloudKmsError, match="cannot be trusted"):
        load_wrapped(key_of(cloud), root, ALICE)


STRANGE = {
    "html": ((200, b"<html>captive portal</html>"), "no JSON object"),
    "a list": ((200, b"[]"), "no JSON object"),
    "nested": ((200, b"[" * 100_000), "no JSON object"),
    "html error": ((502, b"<html>"), "502 .*start again later"),
    "unavailable": ((503, b'{"error": {"status": "UNAVAILABLE"}}'), "503 UNAVAILABLE .*start again later"),
    "internal": ((500, b'{"error": []}'), "500 "),
    "quota": ((429, b'{"error": {"status": "RESOURCE_EXHAUSTED"}}'), "429 RESOURCE_EXHAUSTED .*quota"),
    "redirect": ((302, b""), "302 .*--kms-endpoint"),
    "huge": ((200, b"x" * (ANSWER_BYTES + 1)), "longer than"),
}


PASSING = {"html error", "unavailable", "internal", "quota"}
"""What may be over at the next start."""


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_answer_is_refused_after_one_call(cloud, root, wrapped, name):
    cloud.instead, why = STRANGE[name]
    cloud.calls.clear()
    with pytest.raises(CloudKmsError, match=why) as caught:
        load_wrapped(key_of(cloud), root, ALICE)
    assert caught.value.exit_code == (9 if name in PASSING else 7)
    assert len([call for call in cloud.calls if call.endswith(":decrypt")]) == 1


# --- who may, and whether anybody answers


def test_a_revoked_permission_stops_the_next_start(cloud, root, wrapped):
    cloud.allowed = False
    with pytest.raises(CloudKmsError, match=r"403 PERMISSION_DENIED .*cryptoKeyEncrypterDecrypter") as caught:
        load_wrapped(key_of(cloud), root, ALICE)
    assert caught.value.exit_code == 7
    assert "CANARY" not in str(caught.value)


def test_a_key_that_does_not_exist(cloud, root):
    other = CloudKmsKey(KeyName.parse(URI + "2"), cloud.address, 20)
    with pytest.raises(CloudKmsError, match=r"404 NOT_FOUND .*check --kek"):
        create_wrapped(other, root, ALICE, os.urandom)


def test_a_disabled_or_destroyed_key_version(cloud, root, wrapped):
    cloud.versions.clear()
    with pytest.raises(CloudKmsError, match=r"400 INVALID_ARGUMENT .*disabled or destroyed"):
        load_wrapped(key_of(cloud), root, ALICE)


def test_a_token_that_is_not_accepted(cloud, root, wrapped, monkeypatch):
    monkeypatch.setattr(cloud, "_new_token", lambda: b'{"access_token": "x", "expires_in": 3600}')
    with pytest.raises(CloudKmsError, match=r"401 UNAUTHENTICATED .*clock"):
        load_wrapped(key_of(cloud), root, ALICE)


def test_a_deleted_service_account_gets_no_token(cloud, root, wrapped):
    cloud.token_answer = 400, b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}'
    with pytest.raises(CloudKmsError, match=r"no access token .*key was not deleted .*invalid_grant") as caught:
        load_wrapped(key_of(cloud), root, ALICE)
    assert caught.value.exit_code == 7


def test_a_token_endpoint_that_is_down_may_be_up_later(cloud, root, wrapped):
    cloud.token_answer = 503, b"{}"
    with pytest.raises(CloudKmsUnavailableError, match=r"no access token .*start again later"):
        load_wrapped(key_of(cloud), root, ALICE)


def test_a_token_endpoint_that_nobody_runs_may_be_there_later(cloud, root, wrapped, monkeypatch, unused_tcp_port):
    file = root.parent / "credentials.json"
    away = {"token_uri": f"http://127.0.0.1:{unused_tcp_port}/token"}
    file.write_text(json.dumps(cloud.service_account_file() | away))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(CloudKmsUnavailableError, match="ConnectError"):
        load_wrapped(key_of(cloud), root, ALICE)


@pytest.mark.parametrize("content", [None, "not json", "{}"])
def test_without_credentials_it_says_how_to_get_some(cloud, root, wrapped, monkeypatch, content):
    file = root.parent / "credentials.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(CloudKmsError, match=r"no Google credentials .*GOOGLE_APPLICATION_CREDENTIALS") as caught:
        load_wrapped(key_of(cloud), root, ALICE)
    assert caught.value.exit_code == 7


def test_a_service_that_hangs_is_given_up_at_the_deadline(cloud, root, wrapped):
    cloud.hangs.clear()
    with pytest.raises(CloudKmsUnavailableError, match=r"no answer from http://127\.0\.0\.1:[0-9]+ within 1 seconds"):
        load_wrapped(key_of(cloud, seconds=1), root, ALICE)


def test_a_service_that_nobody_runs(cloud, root, wrapped, unused_tcp_port):
    nobody = CloudKmsKey(KeyName.parse(URI), f"http://127.0.0.1:{unused_tcp_port}", 20)
    with pytest.raises(CloudKmsUnavailableError, match=r"cannot be reached: .*ConnectError"):
        load_wrapped(nobody, root, ALICE)


def test_a_proxy_in_the_environment_is_not_used(cloud, root, wrapped, monkeypatch, unused_tcp_port):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{unused_tcp_port}")
    assert load_wrapped(key_of(cloud), root, ALICE) == wrapped


# --- the command line, as a process of its own: on a VM, with the metadata server's credentials


def run(root, cloud, *words, **environment):
    places = {"MCBN_DATA_DIR": str(root), "MCBN_KEK": URI, "MCBN_KMS_ENDPOINT": cloud.address}
    outside = {name: os.environ[name] for name in ("PATH", "CLOUDSDK_CONFIG")}
    return subprocess.run(
        [sys.executable, "-m", "mcbn_broker", *words],
        env=outside | {"HOME": str(root.parent)} | places | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def metadata_server(cloud) -> dict[str, str]:
    host = cloud.address.removeprefix("http://")
    return {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}


INIT = ("init", "--network", "demo", "--name", "alice", "--url", "https://alice.example")


def test_a_broker_on_a_vm_uses_the_vms_service_account(cloud, root):
    made = run(root, cloud, *INIT, "--create-kek", **metadata_server(cloud))
    assert made.returncode == 0, made.stderr
    assert "never destroy its key versions" in made.stderr
    assert {"kek.wrapped", "release.key"} <= {path.name for path in root.iterdir()}
    key = ("consent-key", "new", "--out", root.parent / "c.json", "--passphrase-file", _passphrase(root))
    assert run(root, cloud, *key).returncode == 0
    card = ("card", "--consent-key", root.parent / "c.json", "--passphrase-file", _passphrase(root), "--out")
    signed = run(root, cloud, *card, root.parent / "card.json", **metadata_server(cloud))
    assert signed.returncode == 0, signed.stderr
    cloud.allowed = False
    refused = run(root, cloud, *card, root.parent / "card2.json", **metadata_server(cloud))
    assert refused.returncode == 7
    assert "403 PERMISSION_DENIED" in refused.stderr
    served = run(root, cloud, "serve", **metadata_server(cloud))
    assert served.returncode == 7
    assert "403 PERMISSION_DENIED" in served.stderr
    cloud.instead = 503, b""
    served = run(root, cloud, "serve", **metadata_server(cloud))
    assert served.returncode == 9
    assert "503" in served.stderr


def test_systemd_starts_the_broker_again_only_where_that_may_help():
    """The unit's list is of the exit codes that no restart repairs."""
    unit = (Path(__file__).parents[4] / "deploy/systemd/mcbn-broker.service").read_text()
    (line,) = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    left_down = {int(number) for number in line.split()}
    assert CloudKmsError.exit_code in left_down
    assert (
        not {CloudKmsUnavailableError.exit_code, EXIT_CODES["failed"].number, EXIT_CODES["storage"].number} & left_down
    )


def _passphrase(root):
    file = root.parent / "passphrase"
    if not file.exists():
        file.touch(0o600)
        file.write_text("correct horse battery staple\n")
    return file


def test_a_pause_needs_no_cloud(cloud, root):
    assert run(root, cloud, *INIT, "--create-kek", **metadata_server(cloud)).returncode == 0
    cloud.instead = 503, b""
    cloud.token_answer = 503, b""
    paused = run(root, cloud, "consent", "pause")
    assert paused.returncode == 0, paused.stderr


def test_two_keys_are_refused(cloud, root):
    both = run(root, cloud, *INIT, MCBN_KEK_FILE=str(root.parent / "kek"))
    assert both.returncode == 2
    assert "leave one out" in both.stderr


def test_a_backup_takes_the_wrapped_key_along_and_needs_the_cloud_to_come_back(cloud, root):
    at_metadata = metadata_server(cloud)
    assert run(root, cloud, *INIT, "--create-kek", **at_metadata).returncode == 0
    passphrase = ("--passphrase-file", _passphrase(root))
    made = run(root, cloud, "backup", "--out", root.parent / "b", *passphrase)
    assert made.returncode == 0, made.stderr
    shutil.rmtree(root)
    back = ("restore", root.parent / "b", *passphrase, "--confirm", "restore unchecked no epoch")
    cloud.allowed = False
    assert run(root, cloud, *back, **at_metadata).returncode == 7
    assert not root.exists()
    cloud.allowed = True
    done = run(root, cloud, *back, **at_metadata)
    assert done.returncode == 0, done.stderr
    assert (root / "kek.wrapped").exists()
