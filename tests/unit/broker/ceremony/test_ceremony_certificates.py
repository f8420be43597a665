"""Which files the terms may name, and that only certificates come out of them."""

import os
from pathlib import Path

import pytest

from mcbn_broker.ceremony.certificates import read_certificates
from mcbn_broker.ceremony.files import read_beside
from mcbn_broker.errors import CeremonyError, UsageError

CERTIFICATE = (Path(__file__).parents[3] / "authority.pem").read_text()
FINGERPRINT = "489163107042d8cd15d1f459fe4a438e6850f21e50ff2959ff27c920872316b2"  # by `openssl x509 -fingerprint`
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nY2FuYXJ5\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def inbox(tmp_path):
    """A folder with terms from somebody else, beside a folder with a private file."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "secret").write_text(PRIVATE_KEY)
    (tmp_path / "inbox" / "bob.pem").write_text(CERTIFICATE)
    (tmp_path / "inbox" / "link.pem").symlink_to(tmp_path / "secret")
    (tmp_path / "inbox" / "folder").mkdir()
    os.mkfifo(tmp_path / "inbox" / "pipe")
    return tmp_path / "inbox"


def test_a_file_beside_the_terms_is_read(inbox):
    assert read_beside(inbox / "terms.toml", "bob.pem", limit=10_000) == CERTIFICATE.encode()


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/hostname",
        "./bob.pem",
        "folder/../bob.pem",
        "link.pem",
        "folder",
        "pipe",
        "..",
        ".",
        "",
        "a\0b",
    ],
)
def test_terms_name_no_file_elsewhere_and_no_link(inbox, name):
    with pytest.raises(UsageError, match=r"plain name of a file"):
        read_beside(inbox / "terms.toml", name, limit=10_000)


def test_certificates_are_described_in_full():
    (one, two) = read_certificates(CERTIFICATE + CERTIFICATE)
    assert one == two
    assert (one.subject, one.sha256.hex()) == ("CN=bob's authority", FINGERPRINT)


@pytest.mark.parametrize(
    "text",
    [
        *("", PRIVATE_KEY, CERTIFICATE + PRIVATE_KEY, PRIVATE_KEY + CERTIFICATE, f"# {CERTIFICATE}"),
        CERTIFICATE.replace("MIHg", "AAAA"),
        CERTIFICATE.replace("CERTIFICATE", "PUBLIC KEY"),
    ],
)
def test_anything_but_certificates_is_refused(text):
    with pytest.raises(CeremonyError, match="PEM certificates and nothing else"):
        read_certificates(text)


def test_terms_with_a_private_key_as_authority_make_no_draft(ceremony, template_text):
    text = template_text() + '\n[brokers.bob]\ntls_ca_file = "bob.pem"\n'
    with pytest.raises(CeremonyError, match="PEM certificates and nothing else") as refused:
        ceremony.terms(text, files={"bob.pem": PRIVATE_KEY})
    assert "Y2FuYXJ5" not in str(refused.value)
