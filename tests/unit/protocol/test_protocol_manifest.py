"""The manifest and the reference values of its roles: each term, each rule, each signature."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_protocol import limits
from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import MalformedError, ManifestError, RosterError, SignatureInvalidError, TooLargeError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest, Manifest, manifest_hash, verify_manifest_signature
from mcbn_protocol.reference_values import GOOGLE_ROOT, ConfidentialSpaceReference, ValueRule
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope, Label, join, sign

SIMULATED = "http://127.0.0.1:9000"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\nAA==\n-----END CERTIFICATE-----\n"


def merged(value, change):
    """Return a copy of a JSON object with some members changed, or left out where the change is `...`."""
    result = json.loads(json.dumps(value)) | {name: new for name, new in change.items() if new is not ...}
    return {name: item for name, item in result.items() if change.get(name) is not ...}


@pytest.fixture
def evidence(example):
    return example.evidence("client")


@pytest.fixture
def signed(roster, consent_key):
    def sign_all(payload, names=("alice", "bob", "carol")):
        return [sign(consent_key(name), name, Label.MANIFEST, roster.hash, payload) for name in names]

    return sign_all


def test_a_manifest_reads_back(manifest, manifest_payload):
    assert manifest.to_payload() == manifest_payload
    assert manifest.insecure_terms == ()
    assert not manifest.simulated


def test_every_optional_term_reads_back(manifest_payload):
    changed = merged(manifest_payload, {
        "scheme": "hmac-sha256-chain", "insecure_scheme": True, "insecure_http": True,
        "brokers": {name: {"url": "http://b.example", "tls_ca": PEM} for name in ("alice", "bob", "carol")},
    })  # fmt: skip
    for terms in changed["roles"].values():
        terms["evidence"][0] |= {
            "instance_ids": ["1", "2"], "service_accounts": ["a@b.example"], "issuer": SIMULATED,
            "dbgstat": "enabled", "support_attribute": "none", "insecure_debug": True, "project_numbers": "any",
        }  # fmt: skip
    manifest = Manifest.from_payload(changed)
    assert manifest.to_payload() == changed
    assert manifest.insecure_terms == ("insecure_debug", "insecure_http", "insecure_scheme")
    assert manifest.simulated
    assert manifest.roles[Role.CLIENT].evidence[0].project_numbers == ()


@pytest.mark.parametrize(
    "text",
    [
        "PEM", PEM + "# Soci\u00e9t\u00e9\n", "# comment\n" + PEM, PEM.replace("MIIB", "MI B"),
        PEM.replace("MIIB\nAA==\n", ""), PEM.replace("CERTIFICATE", "PRIVATE KEY"), PEM.replace("MIIB", "A" * 77),
        PEM * 1100,
    ],
)  # fmt: skip
def test_a_tls_ca_that_a_workload_could_not_load_is_refused(manifest_payload, text):
    changed = merged(
        manifest_payload, {"brokers": manifest_payload["brokers"] | {"bob": {"url": "https://b", "tls_ca": text}}}
    )
    with pytest.raises(MalformedError, match="tls_ca"):
        Manifest.from_payload(changed)


@pytest.mark.parametrize("text", [PEM, PEM * 2, PEM.replace("\n", "\r\n"), PEM.rstrip(), PEM + "\n" + PEM])
def test_pem_certificates_are_a_tls_ca(manifest_payload, text):
    changed = merged(
        manifest_payload, {"brokers": manifest_payload["brokers"] | {"bob": {"url": "https://b", "tls_ca": text}}}
    )
    assert Manifest.from_payload(changed).brokers["bob"].tls_ca == text


@pytest.mark.parametrize(
    "change",
    [
        {"format": "mcbn-manifest-v2"}, {"roster_hash": "AA" * 32}, {"epoch": 0}, {"epoch": True}, {"epoch": 2**53},
        {"previous": ...}, {"previous": "00"}, {"previous": 0}, {"valid_from": -1}, {"valid_until": 253_402_300_800},
        {"overlap_seconds": -1}, {"scheme": "xor"}, {"scheme": ["hkdf-sha256"]}, {"commitments": []},
        {"commitments": {"Alice": "00" * 32}}, {"commitments": {"alice": "00"}},
        {"commitments": {f"p{n}": "00" * 32 for n in range(101)}}, {"brokers": {"alice": "https://a"}},
        {"brokers": {"alice": {"url": "https://a", "port": 1}}}, {"brokers": {"alice": {"url": "ftp://a"}}},
        {"brokers": {"alice": {"url": "https://a", "tls_ca": ""}}}, {"roles": {}}, {"roles": {"client": {}}},
        {"channels": []}, {"channels": ["tls12"]}, {"channels": ["tls13-psk", "tls13-psk"]}, {"kems": ["rsa"]},
        {"kems": "x25519"}, {"lease_seconds": 4}, {"lease_seconds": 604_801}, {"insecure_http": False},
        {"insecure_scheme": 1}, {"insecure_debug": True}, {"comment": "x"}, {"threshold": 3},
    ],
)  # fmt: skip
def test_a_manifest_of_another_shape_is_refused(manifest_payload, change):
    with pytest.raises(MalformedError):
        Manifest.from_payload(merged(manifest_payload, change))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"previous": "00" * 32}, "epoch 1 has no previous"),
        ({"epoch": 2}, "epoch 1 has no previous"),
        ({"valid_until": 1_790_000_000}, "valid_until"),
        ({"valid_until": 1_790_000_000 + 63_244_801}, "valid_until"),
        ({"overlap_seconds": 90 * 86400 + 1}, "overlap_seconds"),
        ({"scheme": "sha256-concat"}, "insecure_scheme"),
        ({"insecure_scheme": True}, "insecure_scheme"),
        ({"commitments": {"alice": "00" * 32, "bob": "00" * 32}}, "same commitment"),
        ({"brokers": {"alice": {"url": "http://localhost"}}}, "insecure_http"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(manifest_payload, change, rule):
    with pytest.raises(ManifestError, match=rule):
        Manifest.from_payload(merged(manifest_payload, change))


MUTUAL = {"channels": ["mtls13", "tls13-psk"], "mutual_tls": {"leaf": "rsa", "scheme": "c2sp-det-keygen", "bits": 3072}}


def test_the_terms_of_mutual_tls_read_back(manifest_payload):
    changed = merged(manifest_payload, MUTUAL)
    assert Manifest.from_payload(changed).to_payload() == changed
    changed["mutual_tls"] |= {"insecure_shared_key": True}
    manifest = Manifest.from_payload(changed)
    assert manifest.to_payload() == changed
    assert manifest.insecure_terms == ("insecure_shared_key",)


@pytest.mark.parametrize("left_out", MUTUAL)
def test_mutual_tls_and_its_channel_go_together(manifest_payload, left_out):
    change = {name: value for name, value in MUTUAL.items() if name != left_out}
    with pytest.raises(ManifestError, match="mtls13"):
        Manifest.from_payload(merged(manifest_payload, change))


def test_plain_http_on_loopback_needs_no_insecure_term(manifest_payload):
    brokers = {"alice": {"url": "http://127.0.0.1:8443"}, "bob": {"url": "http://[::1]:8443"}}
    assert Manifest.from_payload(merged(manifest_payload, {"brokers": brokers})).insecure_terms == ()


def test_simulated_and_production_issuers_are_not_mixed(manifest_payload):
    manifest_payload["roles"]["client"]["evidence"][0]["issuer"] = SIMULATED
    with pytest.raises(ManifestError, match="simulated and production"):
        Manifest.from_payload(manifest_payload)


def test_issuers_are_not_mixed_within_one_role(manifest_payload):
    evidence = manifest_payload["roles"]["client"]["evidence"]
    evidence.append(merged(evidence[0], {"issuer": SIMULATED}))
    with pytest.raises(ManifestError, match="simulated and production"):
        Manifest.from_payload(manifest_payload)


def test_one_digest_belongs_to_one_role(manifest_payload):
    roles = manifest_payload["roles"]
    roles["client"]["evidence"][0]["image_digests"] = roles["server"]["evidence"][0]["image_digests"]
    (digest,) = roles["client"]["evidence"][0]["image_digests"]
    with pytest.raises(ManifestError, match=f"one role only, not to client and server: {digest}$"):
        Manifest.from_payload(manifest_payload)


@pytest.mark.parametrize(
    "terms",
    [{"instances": 0}, {"instances": 10_001}, {"instances": True}, {"evidence": []}, {"evidence": {}}, {"x": 1}],
)
def test_a_role_of_another_shape_is_refused(manifest_payload, terms):
    manifest_payload["roles"]["client"] |= terms
    with pytest.raises(MalformedError, match=r"manifest\.roles\.client"):
        Manifest.from_payload(manifest_payload)


def test_a_role_lists_at_most_8_kinds_of_evidence(manifest_payload, evidence):
    manifest_payload["roles"]["client"]["evidence"] = [evidence] * 9
    with pytest.raises(MalformedError, match="1 to 8 items"):
        Manifest.from_payload(manifest_payload)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "nitro"}, {"swname": "GCE"}, {"secboot": False}, {"secboot": "true"}, {"secboot": 1}, {"secboot": ...},
        {"issuer": "https://confidentialcomputing.googleapis.com/"}, {"issuer": "javascript:x"}, {"issuer": ""},
        {"image_digests": []}, {"image_digests": ["sha256:" + "A" * 64]}, {"image_digests": ["latest"]},
        {"image_digests": ["sha256:" + "b" * 64, "sha256:" + "a" * 64]}, {"image_digests": "sha256:" + "b" * 64},
        {"hwmodels": []}, {"hwmodels": ["GCP_SHIELDED_VM"]}, {"hwmodels": ["GCP_AMD_SEV", "GCP_AMD_SEV"]},
        {"dbgstat": "disabled"}, {"dbgstat": "disabled-since-boot\n"}, {"support_attribute": "LATEST"},
        {"support_attribute": []}, {"args": []}, {"args": [""]}, {"args": [1]}, {"args": ["a" * 2049]},
        {"args": ["a"] * 257}, {"args": ...}, {"env": []}, {"env": {"A": 1}}, {"env": {"A": "a" * 2049}},
        {"env": {"HOSTNAME": "x"}}, {"env": {"A-B": "x"}}, {"env": {"": "x"}},
        {"env": {f"A{n}": "" for n in range(257)}},
        {"env": ...}, {"env_override": ...}, {"env_override": {"1A": {"value": "x"}}}, {"env_override": {"A": "x"}},
        {"env_override": {"A": {}}}, {"env_override": {"A": {"value": ""}}}, {"env_override": {"A": {"value": 1}}},
        {"env_override": {"A": {"value": "x", "pattern": "x"}}}, {"env_override": {"A": {"pattern": "*****"}}},
        {"env_override": {"A": {"pattern": ".*$(x)"}}}, {"env_override": {"A": {"pattern": "a" * 257}}},
        {"restart_policies": []}, {"restart_policies": ["always"]}, {"monitoring_memory": "false"},
        {"monitoring_memory": None}, {"project_numbers": []}, {"project_numbers": "all"}, {"project_numbers": ["any"]},
        {"project_numbers": ["\u0661"]}, {"project_numbers": ...}, {"instance_ids": []}, {"instance_ids": None},
        {"service_accounts": ["a"]}, {"service_accounts": []}, {"insecure_debug": False}, {"cmd_override": ["x"]},
    ],
)  # fmt: skip
def test_reference_values_of_another_shape_are_refused(evidence, change):
    with pytest.raises(MalformedError, match=r"^ref"):
        ConfidentialSpaceReference.from_json(merged(evidence, change), "ref")


@pytest.mark.parametrize(
    "change",
    [
        {"dbgstat": "enabled"}, {"support_attribute": "none"}, {"insecure_debug": True},
        {"dbgstat": "enabled", "support_attribute": "none"},
    ],
)  # fmt: skip
def test_a_debug_image_needs_insecure_debug_and_nothing_else_may_have_it(evidence, change):
    with pytest.raises(ManifestError, match="insecure_debug"):
        ConfidentialSpaceReference.from_json(merged(evidence, change), "ref")


@pytest.mark.parametrize(
    "name",
    [
        "PYTHONPATH", "PYTHONSTARTUP", "pythonpath", "LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "MALLOC_CHECK_",
        "GCONV_PATH", "PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSLKEYLOGFILE", "OPENSSL_CONF", "REQUESTS_CA_BUNDLE",
        "AWS_CA_BUNDLE", "http_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "HOSTNAME", "HOSTALIASES", "RES_OPTIONS",
        "LOCALDOMAIN", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH",
        "PERL5LIB",
        "RUBYOPT", "DOTNET_STARTUP_HOOKS", "GODEBUG", "BASH_ENV", "BASH_FUNC_x", "ENV", "IFS", "SHELLOPTS", "NLSPATH",
        "TZDIR", "GNUTLS_SYSTEM_PRIORITY_FILE", "CORECLR_PROFILER_PATH", "COR_PROFILER", "COMPlus_x", "LUA_INIT",
        "PHPRC", "CTLOG_FILE", "QLOGDIR", "OSSL_QFILTER", "KRB5_CONFIG", "TZ", "XDG_CONFIG_HOME", "P11_KIT_x",
        "PROMPT_COMMAND",
    ],
)  # fmt: skip
def test_the_operator_never_sets_what_steers_interpreter_loader_resolver_or_tls(evidence, name):
    with pytest.raises(MalformedError, match="can never be allowed"):
        ConfidentialSpaceReference.from_json(merged(evidence, {"env_override": {name: {"value": "x"}}}), "ref")


@pytest.mark.parametrize(
    ("pattern", "value", "admitted"),
    [
        ("*", "", True), ("*", "a.b:1/c", True), ("*", "a b", False), ("*", "a\n", False), ("*", "a;b", False),
        ("*", "$(x)", False), ("*", "\u00e9", False), ("*", "a" * 2048, True), ("*", "a" * 2049, False),
        ("abc", "abc", True), ("abc", "abcd", False), ("a*", "a", True), ("a*", "b", False), ("*a", "ba", True),
        ("*a", "ab", False), ("a*a", "a", False), ("a*a", "aa", True), ("a*b*c", "abbcc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False), ("**", "x", True), ("*ab*ab*", "abxab", True), ("*ab*ab*", "abab", True),
        ("*ab*ab*", "aab", False), ("a.c", "abc", False), ("[*]:1", "[::1]:1", True),
        ("https://*.example/*", "https://a.example/", True),
    ],
)  # fmt: skip
def test_patterns(pattern, value, admitted):
    assert ValueRule(pattern, is_pattern=True).admits(value) is admitted


ALPHABET = "ab."


@given(st.text(ALPHABET + "*", min_size=1, max_size=8), st.text(ALPHABET, max_size=10))
def test_patterns_mean_what_a_regular_expression_would(pattern, value):
    expected = re.fullmatch("[ab.]*".join(re.escape(part) for part in pattern.split("*")), value) is not None
    assert ValueRule(pattern, is_pattern=True).admits(value) is expected


def test_a_hostile_value_costs_no_more_than_its_length():
    """Backtracking over four wildcards would take 2048^4 steps, which is years: this test returns or hangs."""
    assert not ValueRule("*a*a*a*ab", is_pattern=True).admits("a" * 2048)


def test_an_exact_value_is_exact():
    rule = ValueRule("a*", is_pattern=False)
    assert rule.admits("a*")
    assert not rule.admits("ab")
    assert not rule.admits("a*\n")


def test_a_bundle_with_every_signature_is_agreed(signed, manifest_payload, roster):
    bundle = join(signed(manifest_payload)).to_bytes()
    agreed = AgreedManifest.parse(bundle, roster)
    assert agreed.bundle == bundle
    assert agreed.hash == manifest_hash(canonical(manifest_payload))


@pytest.mark.parametrize("names", [("alice",), ("alice", "bob"), ("alice", "carol")])
def test_a_missing_signature_is_named(signed, manifest_payload, roster, names):
    bundle = join(signed(manifest_payload, names)).to_bytes()
    (missing, *_) = {"alice", "bob", "carol"} - set(names)
    with pytest.raises(ManifestError, match=missing):
        AgreedManifest.parse(bundle, roster)


def test_a_signature_of_a_stranger_is_refused(signed, manifest_payload, roster, consent_key):
    stranger = sign(consent_key("dave"), "dave", Label.MANIFEST, roster.hash, manifest_payload)
    with pytest.raises(ManifestError, match="nobody, but the list is not the roster's"):
        AgreedManifest.parse(join([*signed(manifest_payload), stranger]).to_bytes(), roster)


def test_a_signature_with_the_release_key_is_no_consent(signed, manifest_payload, roster, release_key):
    forged = sign(release_key("bob"), "bob", Label.MANIFEST, roster.hash, manifest_payload)
    with pytest.raises(SignatureInvalidError, match="bob"):
        AgreedManifest.parse(join([*signed(manifest_payload, ("alice", "carol")), forged]).to_bytes(), roster)


def test_a_term_changed_after_signing_is_refused(signed, manifest_payload, roster):
    good = join(signed(manifest_payload))
    changed = Envelope(manifest_payload | {"lease_seconds": 7200}, good.signatures)
    with pytest.raises(SignatureInvalidError, match="alice"):
        AgreedManifest.parse(changed.to_bytes(), roster)


def test_a_bundle_that_is_not_canonical_is_refused(signed, manifest_payload, roster):
    bundle = json.dumps(join(signed(manifest_payload)).to_json()).encode()
    with pytest.raises(MalformedError, match="not canonical"):
        AgreedManifest.parse(bundle, roster)


def test_a_bundle_beyond_its_limit_is_refused(roster):
    with pytest.raises(TooLargeError):
        AgreedManifest.parse(b"x" * (limits.MANIFEST_BYTES + 1), roster)


@pytest.mark.parametrize("member", ["commitments", "brokers"])
@pytest.mark.parametrize("extra", [True, False])
def test_a_manifest_speaks_of_every_participant_and_nobody_else(manifest_payload, roster, member, extra):
    value = manifest_payload[member].pop("carol")
    if extra:
        manifest_payload[member] |= {"carol": value, "dave": "77" * 32 if member == "commitments" else value}
    with pytest.raises(ManifestError, match=f"{member} must name every participant"):
        Manifest.from_payload(manifest_payload).check_roster(roster)


def test_a_manifest_of_another_roster_is_refused(manifest_payload, roster):
    manifest_payload["roster_hash"] = "11" * 32
    with pytest.raises(ManifestError, match="another roster"):
        Manifest.from_payload(manifest_payload).check_roster(roster)


def test_a_scheme_that_combines_all_needs_a_threshold_of_all(manifest_payload, roster):
    two_of_three = Roster(roster.network, roster.participants, 2)
    manifest_payload["roster_hash"] = two_of_three.hash.hex()
    with pytest.raises(ManifestError, match="2 of 3"):
        Manifest.from_payload(manifest_payload).check_roster(two_of_three)


def test_only_participants_sign(signed, manifest_payload, roster):
    (envelope,) = signed(manifest_payload, ("alice",))
    verify_manifest_signature(envelope, "alice", envelope.signatures[0].signature, roster)
    with pytest.raises(RosterError, match="dave"):
        verify_manifest_signature(envelope, "dave", envelope.signatures[0].signature, roster)


SIGNERS = [
    {"key_id": "ab" * 32, "signature_algorithm": "ECDSA_P256_SHA256"},
    {"key_id": "cd" * 32, "signature_algorithm": "RSASSA_PSS_SHA256"},
]


@pytest.mark.parametrize("digests", [True, False])
def test_signers_may_stand_beside_or_instead_of_digests(evidence, digests):
    value = merged(evidence, {"image_signatures": SIGNERS} | ({} if digests else {"image_digests": ...}))
    reference = ConfidentialSpaceReference.from_json(value, "evidence")
    assert reference.to_json() == value
    assert bool(reference.image_digests) is digests


@pytest.mark.parametrize(
    "change",
    [
        {"image_digests": ...}, {"image_digests": []}, {"image_signatures": []}, {"image_signatures": SIGNERS[::-1]},
        {"image_signatures": [SIGNERS[0], SIGNERS[0]]}, {"image_signatures": [SIGNERS[0] | {"more": 1}]},
        {"image_signatures": [{"key_id": "AB" * 32, "signature_algorithm": "ECDSA_P256_SHA256"}]},
        {"image_signatures": [{"key_id": "ab" * 32, "signature_algorithm": "ED25519"}]},
        {"image_signatures": [{"key_id": "ab" * 32}]}, {"image_signatures": None},
        {"root": "ab"}, {"root": None}, {"root": "AB" * 32},
    ],
)  # fmt: skip
def test_wrong_signers_and_roots_are_refused(evidence, change):
    with pytest.raises((MalformedError, ManifestError)):
        ConfidentialSpaceReference.from_json(merged(evidence, change), "evidence")


def test_a_key_that_signs_images_belongs_to_one_role(manifest_payload):
    for terms in manifest_payload["roles"].values():
        terms["evidence"][0]["image_signatures"] = SIGNERS[:1]
    key_id = SIGNERS[0]["key_id"]
    expected = f"a key that signs images belongs to one role only, not to client and server: {key_id}$"
    with pytest.raises(ManifestError, match=expected):
        Manifest.from_payload(manifest_payload)


@pytest.mark.parametrize(("root", "simulated"), [(GOOGLE_ROOT.hex(), False), ("ab" * 32, True)])
def test_any_root_but_googles_is_a_simulation(evidence, root, simulated):
    reference = ConfidentialSpaceReference.from_json(merged(evidence, {"root": root}), "evidence")
    assert reference.to_json()["root"] == root
    assert reference.simulated is simulated
