"""`policy explain`: every check of a token in words, judged by the broker's own code."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mcbn_broker.appraisal.checks import CHECKS, TRUST_ANCHOR_NAME
from mcbn_broker.errors import EXIT_CODES
from mcbn_protocol.encoding import canonical
from mcbn_protocol.reference_values import GOOGLE_ROOT, PRODUCTION_ISSUER
from mcbn_simulator.claims import claims_for
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.token_options import TokenOptions

NOW = 1_800_000_000
REFUSED = EXIT_CODES["refused"].number
NONCES = ("c" * 55, "b" * 43)
MACHINE = SimulatedMachine(image_digest="sha256:" + "ab" * 32)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer(PRODUCTION_ISSUER, clock=lambda: NOW)


@pytest.fixture
def place(tmp_path: Path, issuer: Issuer) -> Path:
    """Tokens of both types, the key set and the root certificate."""
    for kind in ("OIDC", "PKI"):
        options = TokenOptions(audience="mcbn:v1:x:alice", nonces=NONCES, token_type=kind)
        (tmp_path / f"{kind}.jwt").write_text(issuer.issue(MACHINE, options) + "\n")
    (tmp_path / "keys.json").write_text(json.dumps(issuer.jwks()))
    (tmp_path / "root.pem").write_bytes(issuer.certificates.root.certificate.public_bytes(Encoding.PEM))
    return tmp_path


def explained(command: Any, *words: Any) -> tuple[int, dict[str, Any], dict[str, dict[str, str]]]:
    result = command("policy", "explain", *words, "--output", "json")
    value = json.loads(result.out)
    return result.status, value, {one["check"]: one for one in value["checks"]}


def test_without_anything_agreed_it_judges_what_everybody_should_ask_for(command: Any, place: Path) -> None:
    status, value, checks = explained(command, place / "OIDC.jwt", "--at", NOW, "--jwks", place / "keys.json")
    assert (status, value["passed"], value["authentic"], value["reference"]) == (0, True, True, None)
    assert checks["dbgstat"]["verdict"] == "passed"
    assert checks["image_digest"]["verdict"] == "not compared"
    assert "--manifest" in checks["image_digest"]["expected"]
    assert checks["token.audience"]["verdict"] == "not compared"
    assert {check.name for check in CHECKS} | {TRUST_ANCHOR_NAME} <= set(checks)


def test_a_pki_token_is_verified_to_the_root_that_is_given(command: Any, place: Path) -> None:
    status, value, checks = explained(command, place / "PKI.jwt", "--at", NOW, "--root", place / "root.pem")
    assert (status, value["authentic"], checks["token.chain"]["verdict"]) == (0, True, "passed")


def test_without_a_key_it_says_that_nothing_is_verified(command: Any, place: Path) -> None:
    for kind, option in (("OIDC", "--jwks"), ("PKI", "--root")):
        status, value, checks = explained(command, place / f"{kind}.jwt", "--at", NOW)
        assert (status, value["authentic"]) == (0, False)
        assert checks["token.signature"]["verdict"] == "not compared"
        assert option in checks["token.signature"]["expected"]
    talk = command("policy", "explain", place / "PKI.jwt", "--at", NOW, "--claims")
    assert "anybody may have written these claims" in talk.err
    assert "deliberately unchecked" in talk.out


@pytest.mark.parametrize(
    ("changes", "red"),
    [
        (["--audience", "mcbn:v1:x:bob"], "token.audience"),
        (["--nonce", NONCES[0]], "token.nonces"),
        (["--at", str(NOW + 400)], "token.age"),
        (["--at", "2020-01-01T00:00:00Z"], "token.not_yet_valid"),
    ],
)
def test_what_does_not_fit_is_red(command: Any, place: Path, changes: list[str], red: str) -> None:
    words = [place / "OIDC.jwt", *(["--at", str(NOW)] if "--at" not in changes else []), "--jwks", place / "keys.json"]
    status, value, checks = explained(command, *words, *changes)
    assert status == REFUSED
    assert [name for name, one in checks.items() if one["verdict"] == "failed"] == [red]
    assert not value["passed"]


def test_what_fits_is_green(command: Any, place: Path) -> None:
    words = ["--audience", "mcbn:v1:x:alice", "--nonce", NONCES[1], "--nonce", NONCES[0]]
    status, _, checks = explained(command, place / "OIDC.jwt", "--at", NOW, "--jwks", place / "keys.json", *words)
    assert (status, checks["token.nonces"]["verdict"], checks["token.audience"]["verdict"]) == (0, "passed", "passed")


@pytest.mark.parametrize("kind", ["OIDC", "PKI"])
def test_a_token_of_another_issuers_key_is_not_authentic(command: Any, place: Path, kind: str) -> None:
    other = Issuer(PRODUCTION_ISSUER, clock=lambda: NOW)
    (place / "forged.jwt").write_text(other.issue(MACHINE, TokenOptions(token_type=kind)))
    keys = ["--jwks", place / "keys.json"] if kind == "OIDC" else ["--root", place / "root.pem"]
    status, value, checks = explained(command, place / "forged.jwt", "--at", NOW, *keys)
    assert (status, value["authentic"]) == (REFUSED, False)
    assert checks["token.key" if kind == "OIDC" else "token.chain"]["verdict"] == "failed"
    assert "token.signature" not in checks


def test_a_token_whose_signature_is_another_is_red(command: Any, place: Path) -> None:
    token = (place / "OIDC.jwt").read_text().strip()
    signed, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[0] ^= 1
    (place / "changed.jwt").write_text(f"{signed}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}")
    status, _, checks = explained(command, place / "changed.jwt", "--at", NOW, "--jwks", place / "keys.json")
    assert (status, checks["token.signature"]["verdict"]) == (REFUSED, "failed")


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "e30.e30.e30", "\ud800"])
def test_what_is_no_token_is_explained_as_such(command: Any, place: Path, text: str) -> None:
    (place / "junk").write_bytes(text.encode("utf-8", "surrogatepass"))
    status, value, checks = explained(command, place / "junk", "--at", NOW)
    assert (status, len(checks), value["authentic"]) == (REFUSED, 1, False)


@pytest.mark.parametrize("x5c", [["AAAA"] * 3, "x", None])
def test_a_pki_token_whose_chain_is_junk_is_explained(command: Any, place: Path, issuer: Issuer, x5c: Any) -> None:
    claims = claims_for(MACHINE, issuer=PRODUCTION_ISSUER, audience="x", nonces=(), now=NOW)
    (place / "junk.jwt").write_text(issuer.sign(claims, headers={"x5c": x5c}))
    for root in ([], ["--root", place / "root.pem"]):
        status, value, _ = explained(command, place / "junk.jwt", "--at", NOW, *root)
        assert status == (REFUSED if root else 0)
        assert not value["authentic"]


@pytest.fixture
def accepted(agreed: Any) -> Any:
    """A manifest whose reference values name the issuer's published key set."""
    return agreed.manifest


def manifest_file(manifest: Any, folder: Path, *, bundle: bool) -> Path:
    path = folder / "manifest.json"
    payload = manifest.to_payload()
    path.write_bytes(canonical({"payload": payload, "signatures": []} if bundle else payload))
    return path


@pytest.mark.parametrize("bundle", [True, False])
def test_with_a_manifest_every_check_is_compared(command: Any, place: Path, accepted: Any, bundle: bool) -> None:
    path = manifest_file(accepted, place, bundle=bundle)
    policy = place / "policy.toml"
    policy.write_text("conditions = [\"assertion.swname == 'GCE'\"]\n")
    words = ["--at", NOW, "--jwks", place / "keys.json", "--manifest", path, "--policy", policy, "--role", "server"]
    status, value, checks = explained(command, place / "OIDC.jwt", *words)
    assert (status, value["reference"]) == (REFUSED, 0)
    red = {name for name, one in checks.items() if one["verdict"] == "failed"}
    assert {"image_digest", "policy.condition.1"} <= red
    assert "trust_anchor" not in red
    assert all(one["verdict"] != "not compared" for name, one in checks.items() if not name.startswith("token."))
    table = command("policy", "explain", place / "OIDC.jwt", *words)
    assert "REFUSED by hwmodel, image_digest, args, policy.condition.1." in table.err
    assert "policy.condition.1" in table.out


@pytest.mark.parametrize(
    "words",
    [
        ["--at", "yesterday"], ["--at", "1", "--root", "no.pem"], ["--at", "1", "--root", "junk"],
        ["--at", "1", "--jwks", "junk"], ["--at", "1", "--manifest", "junk"], ["--at", "1", "--policy", "junk"],
    ],
)  # fmt: skip
def test_what_is_given_wrongly_is_an_error_that_names_it(command: Any, place: Path, words: list[str]) -> None:
    (place / "junk").write_text("junk")
    named = [str(place / word) if word in {"junk", "no.pem"} else word for word in words]
    result = command("policy", "explain", place / "OIDC.jwt", *named)
    assert result.status in {EXIT_CODES["usage"].number, REFUSED}
    assert not result.out
    assert result.err


def test_the_real_tokens_are_explained(command: Any, evidence: Path) -> None:
    root = evidence / "google_confidential_space_root.pem"
    production = evidence / "gcs_pki_intel_tdx_prod_250800_oak.jwt"
    status, value, checks = explained(command, production, "--at", 1757060260, "--root", root)
    assert (status, value["authentic"]) == (0, True)
    assert GOOGLE_ROOT.hex() in checks["token.chain"]["expected"]
    debug = evidence / "gcs_oidc_amd_sev_debug_251001_synddb_nonce.jwt"
    keys = evidence / "google_cs_jwks_20251202.json"
    status, value, checks = explained(command, debug, "--at", 1764708640, "--jwks", keys)
    assert (status, value["authentic"]) == (REFUSED, True)
    red = {name for name, one in checks.items() if one["verdict"] == "failed"}
    assert {"dbgstat", "support_attributes"} <= red <= {"dbgstat", "support_attributes", "env_override"}
