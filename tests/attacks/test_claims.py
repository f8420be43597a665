"""A token that the attestation service really signed opens nothing unless all of it is what was agreed."""

import dataclasses
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

import pytest

from mcbn_broker.appraisal.accounting import ACCOUNTS, Treatment
from mcbn_broker.appraisal.checks import CHECKS
from mcbn_broker.audit.chain import AuditKind
from mcbn_protocol.binding import audience
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import RoleTerms
from mcbn_protocol.messages import ReleaseRequest
from mcbn_protocol.reference_values import ImageSigner, SignatureAlgorithm
from tests.attacks.lab_brokers import Lab, LabWorkload, new_lab, reference
from tests.attacks.lab_tokens import changed, forged, is_not_agreed, is_not_authentic, roles

FAMILY: Final = "Claims"
STS: Final = "https://sts.googleapis.com"
CONTAINER: Final = "submods.container"
SPACE: Final = "submods.confidential_space"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        yield lab


async def asked(lab: Lab, **changes: Any) -> tuple[LabWorkload, ReleaseRequest]:
    """A workload on a machine that the operator started with these changes, and its request with a genuine token."""
    workload = lab.workload(**changes)
    return workload, workload.request(await workload.challenge())


async def says(lab: Lab, red: set[str], claims: Mapping[str, Any]) -> None:
    """Check that a genuine token with these claims is refused by exactly these checks, and a right one still served.

    Args:
        lab: Around Alice's broker.
        red: The names of the checks.
        claims: By dotted path; `...` takes a claim away.
    """
    overrides = {path: value for path, value in claims.items() if value is not ...}
    removed = tuple(path for path, value in claims.items() if value is ...)
    workload, request = await asked(lab, overrides=overrides, removed=removed)
    await is_not_agreed(lab, red, request, workload)
    await lab.workload().is_served()


# -- for whom, and for which request


AUDIENCES: Final[dict[str, Any]] = {
    "another broker's": lambda lab: audience(lab.roster.hash, "bob"),
    "the token service's": lambda _lab: STS,
    "a list with extras": lambda lab: [audience(lab.roster.hash, "alice"), STS],
    "a list of one": lambda lab: [audience(lab.roster.hash, "alice")],
    "a list of all brokers": lambda lab: [audience(lab.roster.hash, name) for name in ("alice", "bob", "carol")],
    "only its beginning": lambda lab: audience(lab.roster.hash, "alice")[:-1],
    "more than it": lambda lab: audience(lab.roster.hash, "alice") + "-2",
    "empty": lambda _lab: "", "an empty list": lambda _lab: [], "null": lambda _lab: None,
    "an object": lambda lab: {audience(lab.roster.hash, "alice"): True}, "missing": lambda _lab: ...,
}  # fmt: skip


@pytest.mark.parametrize("value", AUDIENCES.values(), ids=AUDIENCES)
async def test_token_for_another_audience(lab, value):
    """Frank takes a genuine token that was made for somebody else, or for Alice among others, to Alice's broker.

    Known as: audience unchecked, or one of a list taken for all (RFC 8725 section 3.9; CVE-2020-26160 in jwt-go).
    """
    workload, request = await asked(lab)
    await is_not_authentic(lab, workload, forged(request, claims={"aud": value(lab)}), "token.audience")


NONCES: Final[dict[str, Any]] = {
    "challenge only, as a string": lambda challenge, _binding: challenge,
    "binding only, as a string": lambda _challenge, binding: binding,
    "both in one string": lambda challenge, binding: f"{challenge} {binding}",
    "a list of one": lambda challenge, _binding: [challenge],
    "one extra": lambda challenge, binding: [challenge, binding, "C" * 43],
    "one twice": lambda challenge, binding: [challenge, binding, binding],
    "challenge for binding": lambda challenge, _binding: [challenge, challenge],
    "another binding": lambda challenge, _binding: [challenge, "B" * 43],
    "a list in a list": lambda challenge, binding: [[challenge, binding]],
    "an object": lambda challenge, binding: {challenge: binding},
    "a number among them": lambda challenge, binding: [challenge, binding, 1],
    "padded": lambda challenge, binding: [challenge, f"{binding}="],
    "empty list": lambda _challenge, _binding: [], "empty string": lambda _challenge, _binding: "",
    "null": lambda _challenge, _binding: None, "missing": lambda _challenge, _binding: ...,
}  # fmt: skip


@pytest.mark.parametrize("value", NONCES.values(), ids=NONCES)
async def test_nonces_that_are_not_exactly_the_two(lab, value):
    """Frank has a token made with other nonces than this request's challenge and binding, or with more of them.

    Known as: evidence that is not fresh or not bound to its user (RFC 9334 section 10.2).
    """
    workload, request = await asked(lab)
    binding = b64u_encode(request.binding(lab.roster.hash, "alice"))
    hostile = forged(request, claims={"eat_nonce": value(request.challenge, binding)})
    await is_not_authentic(lab, workload, hostile, "token.nonces")


# -- what runs, and on what


async def test_debug_image(lab):
    """Frank boots the debug variant of the Confidential Space image, in which he can log in, with the agreed workload.

    Known as: debug images accepted (Confidential Space documentation, "Confidential Space images": the operator has
    root access to the VM of a debug image).
    """
    workload, request = await asked(lab, debug=True)
    await is_not_agreed(lab, {"dbgstat", "support_attributes"}, request, workload)
    await lab.workload().is_served()


ATTRIBUTES: Final = f"{SPACE}.support_attributes"
PLATFORMS: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "dbgstat enabled": ({"dbgstat": "enabled"}, {"dbgstat"}),
    "dbgstat of another kind": ({"dbgstat": "disabled"}, {"dbgstat"}),
    "dbgstat in other letters": ({"dbgstat": "Disabled-Since-Boot"}, {"dbgstat"}),
    "dbgstat as a list": ({"dbgstat": ["disabled-since-boot"]}, {"dbgstat"}),
    "STABLE missing": ({ATTRIBUTES: ["LATEST", "USABLE"]}, {"support_attributes"}),
    "EXPERIMENTAL": ({ATTRIBUTES: ["EXPERIMENTAL"]}, {"support_attributes"}),
    "no attribute": ({ATTRIBUTES: []}, {"support_attributes"}),
    "STABLE as text": ({ATTRIBUTES: "STABLE"}, {"support_attributes"}),
    "STABLE inside another word": ({ATTRIBUTES: ["UNSTABLE"]}, {"support_attributes"}),
    "a plain Confidential VM": ({"swname": "GCE"}, {"swname"}),
    "no memory encryption": (
        {"hwmodel": "GCP_SHIELDED_VM", "tdx": ..., "attester_tcb": ...},
        {"hwmodel"},
    ),
    "no memory encryption, with claims of TDX": ({"hwmodel": "GCP_SHIELDED_VM"}, {"hwmodel", "tdx", "attester_tcb"}),
    "hardware that nobody agreed on": ({"hwmodel": "GCP_AMD_SEV", "tdx": ..., "attester_tcb": ...}, {"hwmodel"}),
    "secure boot as text": ({"secboot": "true"}, {"secboot"}),
    "secure boot as a number": ({"secboot": 1}, {"secboot"}),
    "no secure boot": ({"secboot": False}, {"secboot"}),
    "another platform": ({"oemid": 11128}, {"oemid"}),
    "another profile": ({"eat_profile": "https://frank.example/profile"}, {"eat_profile"}),
    "TDX out of date": ({"tdx": {"gcp_attester_tcb_status": "OutOfDate"}}, {"tdx"}),
    "TDX of which one part is out of date": (
        {"tdx": [{"gcp_attester_tcb_status": "UpToDate"}, {"gcp_attester_tcb_status": "OutOfDate"}]},
        {"tdx"},
    ),
    "TDX evidence of another maker": ({"attester_tcb": ["AMD"]}, {"attester_tcb"}),
    "a GPU in the clear": ({"submods.nvidia_gpu": {"cc_mode": "DEVTOOLS"}}, {"nvidia_gpu"}),
    "memory monitoring": ({f"{SPACE}.monitoring_enabled": {"memory": True}}, {"monitoring_memory"}),
    "another project": ({"submods.gce.project_number": "100000000002"}, {"project_number"}),
    "versions": ({"swversion": ["260300", "1"]}, {"swversion"}),
}


@pytest.mark.parametrize(("claims", "red"), PLATFORMS.values(), ids=PLATFORMS)
async def test_platform_that_was_not_agreed(lab, claims, red):
    """Frank runs the agreed image on another platform than the agreed one, or in another state of it.

    Known as: debug status and hardware left unchecked (RFC 9711 section 4.2.9).
    """
    await says(lab, red, claims)


DIGEST: Final = reference(Role.CLIENT).image_digests[0]
OTHER_SERVER: Final = reference(Role.SERVER).image_digests[0]
IMAGES: Final[dict[str, Any]] = {
    "another image": "sha256:" + "f0" * 32, "the other role's image": OTHER_SERVER,
    "in capital letters": DIGEST.upper(),
    "without its name": DIGEST.removeprefix("sha256:"), "cut": DIGEST[:-1], "longer": f"{DIGEST}0",
    "spaced": f" {DIGEST}", "a list": [DIGEST], "empty": "", "null": None,
}  # fmt: skip


@pytest.mark.parametrize("digest", IMAGES.values(), ids=IMAGES)
async def test_another_image(lab, digest):
    """Frank runs an image of his own under the agreed image's name, as tags can be moved."""
    await says(lab, {"image_digest"}, {f"{CONTAINER}.image_digest": digest})


PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARGS: Final = f"{CONTAINER}.args"
OVERRIDE: Final = f"{CONTAINER}.env_override"
STARTS: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "another command": ({"cmd_override": ("sh", "-c", "id")}, {"args", "cmd_override"}),
    "the same command again": ({"cmd_override": ("client", "--config", "workload.toml")}, {"cmd_override"}),
    "other arguments": ({"cmd": ("client", "--config", "/tmp/frank.toml")}, {"args"}),
    "an argument more": ({"cmd": ("client", "--config", "workload.toml", "-v")}, {"args"}),
    "another entry point": ({"entrypoint": ("/bin/sh",)}, {"args"}),
    "arguments in one": ({"overrides": {ARGS: [" ".join(reference(Role.CLIENT).args)]}}, {"args"}),
    "a variable": ({"env_override": {"LD_PRELOAD": "/tmp/frank.so"}}, {"env_override"}),
    "a variable that the claim hides": ({"env": {"LD_PRELOAD": "/tmp/frank.so"}}, {"env"}),
    "another value of an own variable": ({"env": {"PATH": "/tmp/frank"}}, {"env"}),
    "an admitted variable, another value": ({"env_override": {"MCBN_CONNECT": "203.0.113.9:443"}}, {"env_override"}),
    "overrides of another type": ({"overrides": {OVERRIDE: ["LD_PRELOAD"]}}, {"env_override"}),
    "overrides that env does not have": ({"overrides": {OVERRIDE: {"MCBN_CONNECT": "127.0.0.1:1"}}}, {"env"}),
    "env without HOSTNAME": ({"overrides": {f"{CONTAINER}.env": {"PATH": PATH}}}, {"env"}),
    "another HOSTNAME": ({"overrides": {f"{CONTAINER}.env": {"PATH": PATH, "HOSTNAME": "frank"}}}, {"env"}),
    "restarts at will": ({"restart_policy": "Always"}, {"restart_policy"}),
    "a new way to start": ({"overrides": {f"{CONTAINER}.volumes": ["/"]}}, {"container_claims"}),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "red"), STARTS.values(), ids=STARTS)
async def test_agreed_image_started_in_another_way(lab, changes, red):
    """Frank starts the image with the agreed digest, and changes its behaviour by command, arguments or environment."""
    workload, request = await asked(lab, **changes)
    await is_not_agreed(lab, red, request, workload)
    await lab.workload(env_override={"MCBN_CONNECT": "127.0.0.1:4433"}).is_served()


async def test_letters_of_an_agreed_value_in_another_form(tmp_path):
    """Frank sets a value that looks as the agreed one does and has other code points, as file systems fold them."""
    agreed = unicodedata.normalize("NFC", "Zu\u0308rich")
    env = dict(reference(Role.CLIENT).env) | {"CITY": agreed}
    async with new_lab(tmp_path, "alice", roles=roles(env=env)) as lab:
        for other in (unicodedata.normalize("NFD", agreed), agreed.upper(), agreed.replace("i", "\u0456")):
            workload, request = await asked(lab, env={"CITY": other})
            lab.refused(await workload.send(request), "appraisal_failed", check="env", signed_over=request)
        assert not lab.alice.records(AuditKind.RELEASE)
        await lab.workload(env={"CITY": agreed}).is_served()


# -- who made the image

KEY: Final = "ab" * 32
SIGNED: Final = {"key_id": KEY, "signature": "MEUC", "signature_algorithm": "ECDSA_P256_SHA256"}
UNKNOWN: Final = SIGNED | {"key_id": "cd" * 32}
OTHER_ALGORITHM: Final = SIGNED | {"signature_algorithm": "RSASSA_PSS_SHA256"}
SIGNATURES: Final[dict[str, Any]] = {
    "missing": ..., "null": None, "none": [], "not signatures": [KEY], "an object": SIGNED,
    "an unknown key": [UNKNOWN], "another algorithm": [OTHER_ALGORITHM],
    "no algorithm": [changed(SIGNED, {"signature_algorithm": ...})], "no key": [changed(SIGNED, {"key_id": ...})],
    "key and algorithm of two signatures": [UNKNOWN, OTHER_ALGORITHM],
    "key in capital letters": [SIGNED | {"key_id": KEY.upper()}],
}  # fmt: skip


@pytest.mark.parametrize("beside", [True, False], ids=["beside the digest", "instead of the digest"])
@pytest.mark.parametrize("signatures", SIGNATURES.values(), ids=SIGNATURES)
async def test_image_without_an_agreed_signature(tmp_path, signatures, beside):
    """Frank runs an image that nobody signed, or that another key or algorithm did, where a signature was agreed on."""
    claim = f"{CONTAINER}.image_signatures"
    async with new_lab(tmp_path, "alice", roles=_signed_roles(beside=beside)) as lab:
        told: dict[str, Any] = {"removed": (claim,)} if signatures is ... else {"overrides": {claim: signatures}}
        workload, request = await asked(lab, **told)
        await is_not_agreed(lab, {"image_signatures"}, request, workload)
        agreed: dict[str, Any] = {"overrides": {claim: [UNKNOWN, SIGNED]}}
        if not beside:
            agreed["image_digest"] = "sha256:" + "0a" * 32
        await lab.workload(**agreed).is_served()


def _signed_roles(*, beside: bool) -> dict[Role, RoleTerms]:
    """A key of its own must have signed each role's image, beside its digest or instead of it."""
    terms = {}
    for role, key_id in ((Role.CLIENT, KEY), (Role.SERVER, "5e" * 32)):
        agreed = reference(role)
        signers = (ImageSigner(key_id, SignatureAlgorithm.ECDSA_P256_SHA256),)
        digests = agreed.image_digests if beside else ()
        terms[role] = RoleTerms(2, (dataclasses.replace(agreed, image_signatures=signers, image_digests=digests),))
    return terms


# -- what is not said

REQUIRED: Final = [path for path, account in ACCOUNTS.items() if account.treatment is Treatment.REQUIRED]
EARLIER: Final = [path for path, account in ACCOUNTS.items() if account.treatment is Treatment.CHECKED_EARLIER]
BEFORE_APPRAISAL: Final = {
    "aud": "token.audience", "iss": "token.issuer", "eat_nonce": "token.nonces",
    "exp": "token.times", "iat": "token.times", "nbf": "token.times",
}  # fmt: skip
ON_THIS_HARDWARE: Final = ["tdx", "attester_tcb"]


@pytest.mark.parametrize("path", [*REQUIRED, *EARLIER, *ON_THIS_HARDWARE])
async def test_required_claim_missing(lab, path):
    """Frank finds a way to have one required claim left out of an otherwise right token: silence admits nothing."""
    if path in BEFORE_APPRAISAL:
        workload, request = await asked(lab)
        await is_not_authentic(lab, workload, forged(request, claims={path: ...}), BEFORE_APPRAISAL[path])
    else:
        readers = {check.name for check in CHECKS if path in check.claims}
        assert readers
        await says(lab, readers, {path: ...})


@pytest.mark.parametrize("path", ["submods", CONTAINER, SPACE, "submods.gce"])
@pytest.mark.parametrize("value", [..., None, [], "none", {}], ids=["missing", "null", "list", "text", "empty"])
async def test_whole_part_of_a_token_missing(lab, path, value):
    """Frank finds a way to have a whole part of the token left out, or replaced by something of another type."""
    told = {"removed": (path,)} if value is ... else {"overrides": {path: value}}
    workload, request = await asked(lab, **told)
    answer = await workload.send(request)
    (record,) = lab.alice.records(AuditKind.REFUSAL)
    lab.refused(answer, "appraisal_failed", check=record["check"], signed_over=request)
    assert not lab.alice.records(AuditKind.RELEASE)
    await lab.workload().is_served()
