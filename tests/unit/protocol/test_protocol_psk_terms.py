"""The manifest's terms for old peers and for debugging: each form, each rule, and that a signer is shown them."""

import pytest

from mcbn_protocol.errors import MalformedError, ManifestError
from mcbn_protocol.manifest import Manifest
from mcbn_protocol.psk_terms import PROFILE_IDENTITY, PskProfile, PskSuite

SUITES = ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256"]
MUTUAL = {"mutual_tls": {"leaf": "ed25519"}}
PROFILE = {
    "insecure_psk_profile": "mcbn-2023",
    "scheme": "sha256-concat",
    "insecure_scheme": True,
    "overlap_seconds": 0,
}


def test_a_manifest_has_none_of_them_unless_it_says_so(manifest, manifest_payload):
    assert (manifest.insecure_psk_suites, manifest.insecure_psk_profile, manifest.key_log) == ((), None, False)
    assert manifest.insecure_terms == ()
    assert not {"insecure_psk_suites", "insecure_psk_profile", "key_log"} & set(manifest.to_payload())


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"insecure_psk_suites": SUITES, "channels": ["dtls12-psk"]}, ("insecure_psk_suites",)),
        ({"insecure_psk_suites": SUITES[:1], "channels": ["tls12-psk"]}, ("insecure_psk_suites",)),
        ({"insecure_psk_suites": SUITES[1:], "channels": ["dtls12-psk", "tls13-psk"]}, ("insecure_psk_suites",)),
        (PROFILE, ("insecure_scheme", "insecure_psk_profile")),
        (PROFILE | {"scheme": "hmac-sha256-chain"}, ("insecure_scheme", "insecure_psk_profile")),
        (PROFILE | {"channels": ["tls12-psk"]}, ("insecure_scheme", "insecure_psk_profile")),
        (PROFILE | {"channels": ["dtls12-psk"]}, ("insecure_scheme", "insecure_psk_profile")),
        (PROFILE | MUTUAL | {"channels": ["mtls13", "tls13-psk"]}, ("insecure_scheme", "insecure_psk_profile")),
        ({"key_log": True}, ("key_log",)),
        (MUTUAL | {"channels": ["mtls13"], "key_log": True}, ("key_log",)),
    ],
)
def test_each_of_them_reads_back_and_is_shown_to_whoever_signs(manifest_payload, change, shown):
    payload = manifest_payload | change
    manifest = Manifest.from_payload(payload)
    assert manifest.to_payload() == payload
    assert manifest.insecure_terms == shown


def test_they_are_read_as_what_they_mean(manifest_payload):
    channels = {"channels": ["dtls12-psk", "tls12-psk"], "insecure_psk_suites": SUITES}
    manifest = Manifest.from_payload(manifest_payload | PROFILE | channels | {"key_log": True})
    assert manifest.insecure_psk_suites == (PskSuite.AES128_CCM8, PskSuite.AES128_GCM)
    assert manifest.insecure_psk_profile is PskProfile.MCBN_2023
    assert manifest.key_log
    assert PROFILE_IDENTITY[manifest.insecure_psk_profile] == "Client1"
    assert set(PROFILE_IDENTITY) == set(PskProfile)


@pytest.mark.parametrize(
    "change",
    [
        {"insecure_psk_suites": []}, {"insecure_psk_suites": None}, {"insecure_psk_suites": "PSK-AES128-CCM8"},
        {"insecure_psk_suites": SUITES[::-1] + SUITES[:1]}, {"insecure_psk_suites": ["PSK-AES256-CBC-SHA"]},
        {"insecure_psk_suites": ["psk-aes128-ccm8"]}, {"insecure_psk_suites": [SUITES[0], SUITES[0]]},
        {"insecure_psk_profile": None}, {"insecure_psk_profile": "mcbn-2024"}, {"insecure_psk_profile": ""},
        {"insecure_psk_profile": ["mcbn-2023"]}, {"key_log": False}, {"key_log": 1}, {"key_log": "/tmp/keys"},
    ],
)  # fmt: skip
def test_another_form_is_refused(manifest_payload, change):
    with pytest.raises(MalformedError, match=next(iter(change))):
        Manifest.from_payload(manifest_payload | {"channels": ["dtls12-psk"]} | change)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"insecure_psk_suites": SUITES}, "insecure_psk_suites needs tls12-psk or dtls12-psk"),
        (MUTUAL | {"insecure_psk_suites": SUITES, "channels": ["mtls13"]}, "insecure_psk_suites needs"),
        (PROFILE | MUTUAL | {"channels": ["mtls13"]}, "insecure_psk_profile needs a channel under a PSK"),
        (PROFILE | {"overlap_seconds": 1}, "insecure_psk_profile needs .* overlap_seconds = 0"),
        ({"insecure_psk_profile": "mcbn-2023", "overlap_seconds": 0}, "insecure_psk_profile needs .* a legacy scheme"),
    ],
)
def test_a_term_without_what_it_needs_is_refused(manifest_payload, change, rule):
    with pytest.raises(ManifestError, match=rule):
        Manifest.from_payload(manifest_payload | change)
