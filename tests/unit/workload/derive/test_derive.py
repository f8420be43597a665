"""`derive` gives the published keys, and refuses what made the old systems give others."""

import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from mcbn_protocol.key_schedule import Scheme
from mcbn_workload.app import main
from mcbn_workload.derive import ShareFileError, combine_files
from mcbn_workload.errors import ConfigurationError, ExitCode

# Published by the system that this one grew from.
SHARES = {
    "alice": "2c6f63f8c0f53a565db041b91c0a95add8913fc102670589db3982228dbfed90",
    "bob": "b15244faf36e5e4b178d3891701d245f2e45e881d913b6c35c0ea0ac14224cc2",
    "carol": "3e2078d5cd04beabfa4a7a1486bc626d679184df2e0a2b9942d913d4b835516c",
}
KEYS = {
    Scheme.SHA256_CONCAT: "6d1bbd1e6235c9d9ec8cdbdf9b32d4d08304a7f305f7c6c67775130d914f4dc4",
    Scheme.HMAC_SHA256_CHAIN: "2b6c5604e7b5a3a9832ec2590fd058d610807cee2f3e87bb08dafbb57475d976",
}


@pytest.fixture
def files(tmp_path):
    for name, text in SHARES.items():
        (tmp_path / name).write_text(text + "\n" * (name == "bob"), encoding="ascii")
    return [tmp_path / name for name in SHARES]


@pytest.mark.parametrize("scheme", KEYS)
def test_the_published_keys(files, scheme):
    assert combine_files(scheme, files).reveal().hex() == KEYS[scheme]


@pytest.mark.parametrize("scheme", KEYS)
def test_the_order_of_the_arguments_matters(files, scheme):
    assert combine_files(scheme, files[::-1]).reveal().hex() != KEYS[scheme]


def test_a_scheme_that_needs_the_manifest_is_refused(files):
    with pytest.raises(ConfigurationError, match="depend on the manifest"):
        combine_files(Scheme.HKDF_SHA256, files)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ab",
        b"A" * 64,
        b"0" * 63 + b"g",
        b"ab" * 32 + b"\r\n",
        b"ab" * 32 + b"\n\n",
        b" " + b"ab" * 32,
        b"1" * 999,
    ],
)
def test_a_file_of_another_form_is_refused_unshown(files, content):
    files[1].write_bytes(content)
    with pytest.raises(ShareFileError, match="64 lower-case hex digits") as caught:
        combine_files(Scheme.SHA256_CONCAT, files)
    assert str(files[1]) in str(caught.value)
    assert "abab" not in str(caught.value)


def test_a_missing_file_is_named(files):
    files[0].unlink()
    with pytest.raises(ShareFileError, match="cannot read"):
        combine_files(Scheme.SHA256_CONCAT, files)


def test_equal_and_degenerate_shares_are_refused(files):
    with pytest.raises(ShareFileError, match="equal"):
        combine_files(Scheme.SHA256_CONCAT, [files[0], files[0]])
    files[0].write_text("0" * 64, encoding="ascii")
    with pytest.raises(ShareFileError, match="not drawn at random"):
        combine_files(Scheme.SHA256_CONCAT, files)


# Published: two participants, and the RSA key of the first Go program.
PAIR = (
    "b06394e28c33be5a8699759023972e9294d51b5007b3b0a51a41e9f58d406f8d",
    "2d362ce19a804d12b85644abf3a0e9bbfbb0e0ba3c5dd7cc4b8e335bc5154496",
)


@pytest.fixture
def pair(tmp_path):
    paths = [tmp_path / "alice.hex", tmp_path / "bob.hex"]
    for path, text in zip(paths, PAIR, strict=True):
        path.write_text(text, encoding="ascii")
    return [str(path) for path in paths]


def test_rsa_shows_the_public_half_only(pair, capsys):
    assert main(["derive", "--rsa", "go-sha512-reader", *pair]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert "y0iOkQX6p-Js8w3MYEL-oH_XHDiVOXPDVtjs-AQhiA4" in printed
    assert "8csxK9BpuvU24JNkWkET_HdvyNO60ak4ygldsH4Hzew" in printed
    assert "-----BEGIN RSA PUBLIC KEY-----\nMIIBCgKCAQEA14gGro/kwHL7tqLhRvUb" in printed
    assert "PRIVATE" not in printed


def test_the_private_key_goes_to_a_new_file_of_its_owner(pair, tmp_path, capsys):
    out = tmp_path / "key.pem"
    command = ["derive", "--rsa", "c2sp-det-keygen", "--bits", "2048", "--out", str(out), *pair]
    assert main(command) == ExitCode.OK
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    key = load_pem_private_key(out.read_bytes(), password=None)
    assert isinstance(key, RSAPrivateKey)
    shown = capsys.readouterr().out
    public = load_pem_public_key(shown[shown.index("-----BEGIN") :].encode())
    assert key.public_key() == public
    before = out.read_bytes()
    assert main(command) == ExitCode.CONFIGURATION
    assert out.read_bytes() == before, "a file that is there is never overwritten"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--scheme", "sha256-concat", "--bits", "2048"],
        ["--scheme", "sha256-concat", "--out", "/nonexistent/key.pem"],
        ["--rsa", "go-hash-drbg", "--bits", "4096"],
        ["--rsa", "go-sha512-reader", "--out", "/nonexistent/key.pem"],
        ["--rsa", "go-sha512-reader", "--scheme", "hkdf-sha256"],
    ],
)
def test_arguments_that_do_not_fit_are_refused(pair, arguments, capsys):
    assert main(["derive", *arguments, *pair]) == ExitCode.CONFIGURATION
    assert not capsys.readouterr().out
