"""A manifest as a person reads it before signing: every term, and loud warnings."""

import json

from mcbn_broker.ceremony.certificates import read_certificates
from mcbn_broker.cli.text import show_facts, show_rows, warn
from mcbn_broker.moments import duration, moment, now
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.manifest import BrokerAddress, Manifest
from mcbn_protocol.mutual_tls import MutualTlsTerms
from mcbn_protocol.reference_values import ANY_PROJECT, ConfidentialSpaceReference, SupportAttribute


def terms_warnings(manifest: Manifest) -> list[str]:
    """Return what a signer must not overlook, most dangerous first."""
    warnings = []
    evidence = [(role, one) for role, terms in manifest.roles.items() for one in terms.evidence]
    if manifest.simulated:
        issuers = ", ".join(sorted({_simulation(one) for _role, one in evidence if one.simulated}))
        warnings.append(f"SIMULATED ISSUER {issuers}: no hardware protects anything. Only for tests and laptops.")
    if "insecure_debug" in manifest.insecure_terms:
        warnings.append("insecure_debug: debug images are admitted, in which the operator can read all memory.")
    if manifest.insecure_http:
        warnings.append("insecure_http: brokers may be reached over plain HTTP; whoever is on the way sees who asks.")
    if manifest.insecure_scheme:
        warnings.append(f"insecure_scheme: {manifest.scheme.value} is kept for compatibility only.")
    warnings += _psk_warnings(manifest)
    warnings += _mutual_tls_warnings(manifest.mutual_tls)
    warnings += [text for role, one in evidence for text in _lax(role, one)]
    return list(dict.fromkeys(warnings))


def _simulation(one: ConfidentialSpaceReference) -> str:
    return one.issuer if one.root is None else f"{one.issuer} with root certificate {one.root.hex()}"


def _psk_warnings(manifest: Manifest) -> list[str]:
    warnings = []
    if manifest.key_log:
        warnings.append("key_log: an image that can writes its channels' secrets to a file: whoever has it reads all.")
    if manifest.insecure_psk_suites:
        suites = ", ".join(manifest.insecure_psk_suites)
        warnings.append(f"insecure_psk_suites: {suites}: what is recorded now opens once the shares are known.")
    if manifest.insecure_psk_profile is not None:
        profile = manifest.insecure_psk_profile
        warnings.append(
            f"insecure_psk_profile: {profile}: one key for every channel, bound to no epoch, role or transport."
        )
    return warnings


def _mutual_tls_warnings(terms: MutualTlsTerms | None) -> list[str]:
    warnings = []
    if terms is not None and terms.insecure_shared_key:
        warnings.append("insecure_shared_key: both roles have one key in their certificates: a client can play server.")
    if terms is not None and terms.insecure_rsa_scheme:
        warnings.append(f"insecure_rsa_scheme: {terms.scheme} is kept for compatibility only.")
    return warnings


def _lax(role: Role, one: ConfidentialSpaceReference) -> list[str]:
    texts = []
    if not one.project_numbers:
        texts.append(f"{role.value}: project {ANY_PROJECT}: every customer of the cloud may run this role.")
    if not one.image_digests:
        texts.append(
            f"{role.value}: no image digest: whoever holds a listed signing key can make images that are admitted, "
            "also ones with another roster."
        )
    if one.support_attribute is not SupportAttribute.STABLE:
        texts.append(f"{role.value}: support attribute {one.support_attribute.value}: more than stable images.")
    return texts


def show_terms(manifest: Manifest, manifest_hash: ManifestHash, *, talk: bool) -> None:
    """Show all terms of a manifest as tables: on standard error if `talk`, else on standard output.

    Raises:
        CeremonyError: A broker's TLS authority is no certificate.
    """
    show_facts(f"Manifest of epoch {manifest.epoch}", _general(manifest, manifest_hash), talk=talk)
    rows = [
        (name, manifest.brokers[name].url, _tls(manifest.brokers[name]), manifest.commitments[name].hex())
        for name in sorted(manifest.brokers)
    ]
    show_rows("Participants", ("name", "broker", "TLS roots", "commitment"), rows, talk=talk)
    _show_authorities(manifest, talk=talk)
    for role in Role:
        terms = manifest.roles[role]
        for number, one in enumerate(terms.evidence, start=1):
            title = f"Role {role.value}: evidence {number} of {len(terms.evidence)}"
            show_facts(title, [("instances", str(terms.instances)), *_reference(one)], talk=talk)
    for text in terms_warnings(manifest):
        warn(text)


def _general(manifest: Manifest, manifest_hash: ManifestHash) -> list[tuple[str, str]]:
    return [
        ("manifest hash", manifest_hash.hex()),
        ("roster hash", manifest.roster_hash.hex()),
        ("epoch", str(manifest.epoch)),
        ("previous", "none: the first epoch" if manifest.previous is None else manifest.previous.hex()),
        ("valid from", moment(manifest.valid_from)),
        ("valid until", f"{moment(manifest.valid_until)} ({duration(manifest.valid_until - manifest.valid_from)})"),
        ("overlap", duration(manifest.overlap_seconds)),
        ("lease", duration(manifest.lease_seconds)),
        ("scheme", manifest.scheme.value),
        ("channels", ", ".join(manifest.channels)),
        *_psk(manifest),
        *_mutual_tls(manifest.mutual_tls),
        ("KEMs", ", ".join(manifest.kems)),
        ("insecure terms", ", ".join(manifest.insecure_terms) or "none"),
    ]


def _psk(manifest: Manifest) -> list[tuple[str, str]]:
    rows = [
        ("PSK suites without forward secrecy", ", ".join(manifest.insecure_psk_suites)),
        ("PSK profile", manifest.insecure_psk_profile or ""),
        ("key log", "allowed" if manifest.key_log else ""),
    ]
    return [row for row in rows if row[1]]


def _mutual_tls(terms: MutualTlsTerms | None) -> list[tuple[str, str]]:
    if terms is None:
        return []
    rsa = "" if terms.scheme is None else f" of {terms.bits} bits by {terms.scheme.value}"
    keys = "one for both roles" if terms.insecure_shared_key else "one for each role"
    return [("mutual TLS", f"{terms.leaf.value} keys{rsa}, {keys}")]


def _tls(broker: BrokerAddress) -> str:
    return "system" if broker.tls_ca is None else "its own, see below"


def _show_authorities(manifest: Manifest, *, talk: bool) -> None:
    rows = [
        (name, one.subject, one.sha256.hex())
        for name, broker in sorted(manifest.brokers.items())
        if broker.tls_ca is not None
        for one in read_certificates(broker.tls_ca)
    ]
    if rows:
        show_rows("TLS roots of their own", ("name", "subject", "SHA-256 of the certificate"), rows, talk=talk)


def _reference(one: ConfidentialSpaceReference) -> list[tuple[str, str]]:
    overrides = [
        f"{name} {'matches' if rule.is_pattern else '='} {json.dumps(rule.text)}"
        for name, rule in sorted(one.env_override.items())
    ]
    return [
        ("kind", one.kind.value),
        ("issuer", f"{one.issuer}{' (SIMULATED)' if one.simulated else ''}"),
        ("recognised by", "its published key set" if one.root is None else f"root certificate {one.root.hex()}"),
        *(("image digest", digest) for digest in one.image_digests or ("any that is signed",)),
        *(("image signer", f"{signer.key_id} ({signer.algorithm})") for signer in one.image_signatures or ()),
        ("hardware", ", ".join(one.hwmodels)),
        ("dbgstat", one.dbgstat),
        ("swname", one.swname),
        ("secure boot", "required" if one.secboot else "not required"),
        ("support attribute", one.support_attribute.value),
        ("args", json.dumps(one.args)),
        *(("env", f"{name} = {json.dumps(value)}") for name, value in sorted(one.env.items())),
        *(("operator may set", text) for text in overrides or ["nothing"]),
        ("restart policies", ", ".join(one.restart_policies)),
        ("memory monitoring", "on" if one.monitoring_memory else "off"),
        ("projects", ", ".join(one.project_numbers) or ANY_PROJECT),
        ("VMs", ", ".join(one.instance_ids or ()) or "any"),
        ("service accounts", ", ".join(one.service_accounts or ()) or "any"),
    ]


def warn_of_expiry(manifest: Manifest, consequence: str) -> None:
    """Say so if the manifest is over, and what follows from that."""
    if now() >= manifest.valid_until:
        warn(f"this manifest expired at {moment(manifest.valid_until)}: {consequence}.")
