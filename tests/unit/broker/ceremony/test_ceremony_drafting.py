"""From the terms file to the draft: what the template gives, and what a draft must not be made of."""

import dataclasses
from pathlib import Path

import pytest

from mcbn_broker.ceremony.predecessor import Predecessor
from mcbn_broker.ceremony.template import PLACEHOLDER, terms_template
from mcbn_broker.ceremony.terms import Terms
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.errors import MalformedError, ManifestError
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_protocol.reference_values import PRODUCTION_ISSUER
from mcbn_protocol.rsa_schemes import RsaScheme

NOW = 1_900_000_000
DAY = 24 * 3600
CERTIFICATE = (Path(__file__).parents[3] / "authority.pem").read_text()


def test_template_is_valid_once_it_is_filled_in(ceremony):
    manifest = ceremony.draft().manifest
    assert not manifest.simulated
    assert manifest.insecure_terms == ()
    assert (manifest.epoch, manifest.previous) == (1, None)
    assert (manifest.valid_from, manifest.valid_until) == (NOW, NOW + 30 * DAY)
    assert {one.issuer for role in Role for one in manifest.roles[role].evidence} == {PRODUCTION_ISSUER}
    assert set(manifest.roles[Role.CLIENT].evidence[0].env_override) == {
        "MCBN_CONNECT",
        "MCBN_LOG_LEVEL",
        "MCBN_MANIFEST",
    }


def test_template_as_it_comes_is_refused(ceremony):
    with pytest.raises(
        CeremonyError, match="fill in FILL_IN_CLIENT_ENTRYPOINT, FILL_IN_CLIENT_IMAGE_DIGEST, FILL_IN_P"
    ):
        ceremony.terms(terms_template(None))


def test_every_placeholder_can_be_found(template_text):
    assert PLACEHOLDER.search(terms_template(None))
    assert not PLACEHOLDER.search(template_text())


def test_simulated_template_names_its_issuer(ceremony, template_text):
    manifest = ceremony.draft(terms=ceremony.terms(template_text("http://127.0.0.1:8080"))).manifest
    assert manifest.simulated
    assert manifest.roles[Role.SERVER].evidence[0].issuer == "http://127.0.0.1:8080"


@pytest.mark.parametrize(("issuer", "urls"), [(None, "https://*"), ("http://127.0.0.1:8080", "http://127.0.0.1:*")])
def test_the_operator_may_name_manifest_sources_by_https_only(ceremony, template_text, issuer, urls):
    text = template_text(issuer).replace("# MCBN_BROKER_ALICE", "MCBN_BROKER_ALICE")
    rules = ceremony.draft(terms=ceremony.terms(text)).manifest.roles[Role.CLIENT].evidence[0].env_override
    assert {rules[name].text for name in ("MCBN_MANIFEST", "MCBN_BROKER_ALICE")} == {urls}


@pytest.mark.parametrize("url", ["https://a:99999", "https://256.1.1.1", "https://a..b"])
def test_terms_with_an_address_that_can_be_none_are_refused(ceremony, template_text, url):
    with pytest.raises(MalformedError, match=r"terms\.brokers\.bob\.url"):
        ceremony.terms(template_text() + f'\n[brokers.bob]\nurl = "{url}"\n')


def test_issuer_cannot_write_terms_of_its_own(ceremony, template_text):
    with pytest.raises(MalformedError, match="issuer"):
        ceremony.draft(terms=ceremony.terms(template_text('https://x"\ninstances = 9\ny = "')))


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("valid_days = 30", "valid_days = 30\nunknown = 1", "unknown member"),
        ("lease_seconds = 3600", "lease_second = 3600", "unknown member 'lease_second': did you mean lease_seconds"),
        (
            "valid_days = 30",
            "valid_days = 30\ninsecure_debug = true",
            r"terms: unknown member 'insecure_debug': it belongs in \[\[roles.ROLE.evidence\]\]",
        ),
        (
            "[roles.client]\n",
            "[roles.client]\nlease_seconds = 3600\n",
            "terms.roles.client: unknown member 'lease_seconds': it belongs above the first table",
        ),
        ("[roles.client]\ninstances", "[roles.client]\ninstance", "terms.roles.client: unknown member 'instance'"),
        ("valid_days = 30", "valid_days = 0", "valid_days"),
        ("valid_days = 30", "valid_days = 30.5", "valid_days"),
        ("valid_days = 30", "valid_until = 1900000001", "date with time and zone"),
        ("valid_days = 30", "valid_until = 2030-01-31T12:00:00", "date with time and zone"),
        ("valid_days = 30", "valid_until = 2030-01-31", "date with time and zone"),
        ("scheme = ", "# scheme = ", "scheme: required member is missing"),
        ("[roles.server]", "[roles.sever]", "terms.roles: unknown member 'sever': did you mean server"),
        ("lease_seconds = 3600", "lease_seconds = true", "lease_seconds"),
        ("lease_seconds = 3600", "lease_seconds = 1e3", "lease_seconds"),
        ('["GCP_AMD_SEV", "GCP_INTEL_TDX"]', '["GCP_SHIELDED_VM"]', "hwmodels"),
        ('["GCP_AMD_SEV", "GCP_INTEL_TDX"]', "2030-01-31", "hwmodels"),
        ("# insecure_http = true ", "insecure_http = false ", "must be true, or be left out"),
        ("MCBN_CONNECT = ", "LD_PRELOAD = ", "can never be allowed"),
    ],
)
def test_bad_terms_are_named(ceremony, template_text, old, new, problem):
    with pytest.raises(MalformedError, match=problem):
        ceremony.draft(terms=ceremony.terms(changed(template_text(), old, new)))


def with_mutual_tls(text):
    text = changed(text, 'channels = ["tls13-psk"]', 'channels = ["mtls13", "tls13-psk"]')
    for line in ("[mutual_tls]", 'leaf = "rsa"', 'scheme = "c2sp-det-keygen"', "bits = 3072"):
        text = changed(text, f"# {line}", line)
    return text


def test_the_template_has_the_terms_of_mutual_tls(ceremony, template_text):
    manifest = ceremony.draft(terms=ceremony.terms(with_mutual_tls(template_text()))).manifest
    assert manifest.mutual_tls == MutualTlsTerms(LeafKind.RSA, RsaScheme.C2SP_DET_KEYGEN, 3072)


def test_a_misspelt_term_of_mutual_tls_is_named(ceremony, template_text):
    text = changed(with_mutual_tls(template_text()), "bits = 3072", "bit = 3072")
    with pytest.raises(MalformedError, match=r"terms\.mutual_tls: unknown member 'bit': did you mean bits"):
        ceremony.terms(text)


@pytest.mark.parametrize("new", ["valid_days = 1\nvalid_until = 2030-01-31T12:00:00Z", "# neither"])
def test_terms_need_exactly_one_end(ceremony, template_text, new):
    with pytest.raises(CeremonyError, match="either valid_days or valid_until"):
        ceremony.terms(changed(template_text(), "valid_days = 30", new))


@pytest.mark.parametrize("data", [b"\xff", b"a = ", b"a = 1\na = 2"])
def test_terms_that_are_not_toml_are_refused(data):
    with pytest.raises(CeremonyError, match="not TOML"):
        Terms.parse(data, read_text=str)


def test_dates_are_read_as_unix_seconds(ceremony, template_text):
    text = changed(template_text(), "valid_days = 30", "valid_until = 2030-06-01T02:00:00+02:00")
    text = changed(text, "# valid_from = 2030-01-01T12:00:00Z", "valid_from = 2030-01-01T12:00:00Z")
    manifest = ceremony.draft(terms=ceremony.terms(text)).manifest
    assert (manifest.valid_from, manifest.valid_until) == (1_893_499_200, 1_906_502_400)


def test_validity_that_ends_before_it_begins_is_refused(ceremony, template_text):
    text = changed(template_text(), "valid_days = 30", "valid_until = 2020-01-31T12:00:00Z")
    with pytest.raises(
        CeremonyError,
        match="valid_until, 2020-01-31 12:00:00 UTC, is not after valid_from, 2030-03-17 17:46:40 UTC: set a later",
    ):
        ceremony.draft(terms=ceremony.terms(text))


@pytest.mark.parametrize("end", ["valid_days = 30", "valid_until = 2025-06-01T00:00:00Z"])
def test_validity_that_lies_in_the_past_is_refused_with_its_end(ceremony, template_text, end):
    text = changed(template_text(), "# valid_from = 2030-01-01T12:00:00Z", "valid_from = 2025-05-02T00:00:00Z")
    with pytest.raises(CeremonyError, match="end in the past, at 2025-06-01 00:00:00 UTC: set a later valid_until"):
        ceremony.draft(terms=ceremony.terms(changed(text, "valid_days = 30", end)))


def test_overlap_longer_than_the_validity_is_refused_with_both_lengths(ceremony, template_text):
    text = changed(template_text(), "overlap_seconds = 86400", "overlap_seconds = 2592001")
    with pytest.raises(
        CeremonyError, match=r"overlap_seconds, 2592001 \(30 d 1 s\), .* validity, 2592000 \(30 d\): set a shorter"
    ):
        ceremony.draft(terms=ceremony.terms(text))


def test_misspelt_name_in_the_evidence_is_named_before_the_missing_one(ceremony, template_text):
    text = template_text().replace("hwmodels = ", "hwmodel = ")
    with pytest.raises(
        MalformedError, match=r"terms\.roles\.client\.evidence: unknown member 'hwmodel': did you mean hw"
    ):
        ceremony.terms(text)


@pytest.mark.parametrize("name", ["project_numbers", "instance_ids"])
def test_numbers_without_quotes_are_asked_for_with_quotes(ceremony, template_text, name):
    text = template_text().replace('project_numbers = ["100000000001"]', f"{name} = [123]")
    with pytest.raises(MalformedError, match=rf"client\.evidence\.{name}: .*\(in quotes\)"):
        ceremony.terms(text)


def test_broker_addresses_come_from_cards_unless_the_terms_say_otherwise(ceremony, template_text):
    text = template_text() + '\n[brokers.bob]\nurl = "https://new.example"\ntls_ca_file = "bob.pem"\n'
    brokers = ceremony.draft(terms=ceremony.terms(text)).manifest.brokers
    assert (brokers["alice"].url, brokers["alice"].tls_ca) == ("https://broker.alice.example", None)
    assert (brokers["bob"].url, brokers["bob"].tls_ca) == ("https://new.example", CERTIFICATE)


def test_address_of_a_stranger_is_refused(ceremony, template_text):
    text = template_text() + '\n[brokers.mallory]\nurl = "https://new.example"\n'
    with pytest.raises(CeremonyError, match="mallory"):
        ceremony.draft(terms=ceremony.terms(text))


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://127.0.0.1:8443", True),
        ("http://[::1]:8443", True),
        ("http://localhost:8443", False),
        ("http://10.0.0.1", False),
        ("http://broker.bob.example", False),
    ],
)
def test_plain_http_is_for_loopback_literals(ceremony, template_text, url, good):
    text = template_text() + f'\n[brokers.bob]\nurl = "{url}"\n'
    if good:
        assert ceremony.draft(terms=ceremony.terms(text)).manifest.brokers["bob"].url == url
        return
    with pytest.raises(ManifestError, match="insecure_http"):
        ceremony.draft(terms=ceremony.terms(text))
    insecure = changed(text, "# insecure_http = true ", "insecure_http = true ")
    assert ceremony.draft(terms=ceremony.terms(insecure)).manifest.insecure_terms == ("insecure_http",)


def test_missing_participants_are_named(ceremony):
    with pytest.raises(CeremonyError, match="participant card is missing: carol"):
        ceremony.draft(cards=ceremony.cards[:2])
    with pytest.raises(CeremonyError, match="commitment card is missing: alice, bob"):
        ceremony.draft(commitments=ceremony.commitments()[2:])


def test_card_given_twice_is_refused(ceremony):
    with pytest.raises(CeremonyError, match="given twice: alice"):
        ceremony.draft(cards=[*ceremony.cards, ceremony.cards[0]])
    with pytest.raises(CeremonyError, match="given twice: bob"):
        ceremony.draft(commitments=[*ceremony.commitments(), ceremony.commitments()[1]])


def test_card_with_other_keys_than_the_rosters_is_refused(ceremony):
    alice, bob, carol = ceremony.cards
    with pytest.raises(CeremonyError, match="card of alice has other keys"):
        ceremony.draft(cards=[dataclasses.replace(alice, consent_key=bob.consent_key), bob, carol])


def test_card_of_another_network_is_refused(ceremony):
    alice, bob, carol = ceremony.cards
    with pytest.raises(CeremonyError, match="for the network other"):
        ceremony.draft(cards=[dataclasses.replace(alice, network="other"), bob, carol])


def test_commitment_of_another_epoch_is_refused(ceremony):
    late = dataclasses.replace(ceremony.commitments()[1], epoch=2)
    first, _, third = ceremony.commitments()
    with pytest.raises(CeremonyError, match="card of bob is for epoch 2, but this draft opens epoch 1"):
        ceremony.draft(commitments=[first, late, third])


def test_next_epoch_names_the_one_before(ceremony):
    previous = Predecessor(7, ManifestHash(b"\x09" * 32), agreed=True)
    manifest = ceremony.draft(previous).manifest
    assert (manifest.epoch, manifest.previous) == (8, b"\x09" * 32)
