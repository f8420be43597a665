"""Whatever is done to a token: no release unless it still is the service's word that the agreed workload runs."""

import re
from collections import Counter
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from hypothesis import given
from hypothesis import strategies as st

from mcbn_protocol.encoding import b64u_decode
from mcbn_protocol.errors import MalformedError
from tests.properties.answers import OpenBroker, open_broker
from tests.properties.budget import budget
from tests.properties.json_trees import same, strict
from tests.properties.property_lab import NOW, Asked, network
from tests.properties.strategies import Genuine, tokens

FIXED = (
    *("aud", "iss", "swname", "hwmodel", "dbgstat", "secboot", "oemid", "eat_profile", "attester_tcb"),
    *("submods.container.image_digest", "submods.container.args"),
    *("submods.container.restart_policy", "submods.confidential_space.monitoring_enabled.memory"),
    "submods.gce.project_number",
)
"""Claims that must be what they were, to the type. Every other claim has a rule of its own below, or is not judged."""

SETTABLE = re.compile(r"MCBN_(CONNECT|BROKER_(ALICE|BOB|CAROL))")
JUDGES_IN_HEADER = {"jku", "x5u", "jwk", "x5c", "crit", "b64"}


@pytest.fixture
def broker(logged):
    with open_broker(logged) as broker:
        yield broker


def at(claims: Any, path: str) -> Any:
    for name in path.split("."):
        claims = claims.get(name, ...) if isinstance(claims, dict) else ...
    return claims


def vouched(token: str) -> dict[str, Any] | None:
    """The claims that the attestation service signed with exactly this token, or None: RFC 7515, read strictly."""
    try:
        header, claims, signature = (b64u_decode(part) for part in token.split("."))
        network().signer.private_key.public_key().verify(
            signature, token.rpartition(".")[0].encode("ascii"), PKCS1v15(), hashes.SHA256()
        )
        said, claimed = strict(header), strict(claims)
    except (ValueError, RecursionError, MalformedError, InvalidSignature):
        return None
    if not isinstance(said, dict) or not isinstance(claimed, dict) or JUDGES_IN_HEADER & said.keys():
        return None
    right = (said.get("alg"), said.get("kid"), said.get("typ", "JWT")) == ("RS256", network().signer.kid, "JWT")
    return claimed if right else None


def in_time(claims: dict[str, Any]) -> bool:
    times: list[Any] = [claims.get(name) for name in ("iat", "nbf", "exp")]
    if any(type(one) is not int for one in times):
        return False
    issued, begins, ends = times
    return max(issued, begins) <= NOW + 60 and NOW - issued <= 300 and issued < ends and ends > NOW - 60


def environment(claims: dict[str, Any], genuine: dict[str, Any]) -> bool:
    """The image's own variables, HOSTNAME, and such as the manifest lets the operator set."""
    container = at(claims, "submods.container")
    overrides = container.get("env_override") or {}
    if not isinstance(overrides, dict) or not all(SETTABLE.fullmatch(name) for name in overrides):
        return False
    own = at(genuine, "submods.container.env") | {"HOSTNAME": at(claims, "submods.gce.instance_name")}
    return same(container.get("env"), own | overrides)


def tdx_is_up_to_date(claims: dict[str, Any]) -> bool:
    """Google documents a list of modules; real tokens have one object."""
    modules = claims.get("tdx")
    modules = modules if isinstance(modules, list) else [modules]
    return bool(modules) and all(at(one, "gcp_attester_tcb_status") == "UpToDate" for one in modules)


def agreed(claims: dict[str, Any], genuine: dict[str, Any]) -> bool:
    """Whether claims say, for this request and now, what the participants agreed on."""
    nonces, accounts = claims.get("eat_nonce"), claims.get("google_service_accounts")
    support = at(claims, "submods.confidential_space.support_attributes")
    instance = at(claims, "submods.gce.instance_id")
    return (
        all(same(at(claims, path), at(genuine, path)) for path in FIXED)
        and isinstance(nonces, list)
        and len(nonces) == 2
        and all(nonces.count(one) == 1 for one in genuine["eat_nonce"])
        and in_time(claims)
        and isinstance(support, list)
        and "STABLE" in support
        and isinstance(instance, str)
        and instance.isdigit()
        and isinstance(accounts, list)
        and not at(claims, "submods.container").get("cmd_override")
        and environment(claims, genuine)
        and tdx_is_up_to_date(claims)
    )


def parts(broker: OpenBroker, asked: Asked) -> Genuine:
    key = network().signer
    header = {"alg": "RS256", "kid": key.kid, "typ": "JWT"}
    return Genuine(header, asked.claims, asked.request.unverified_token, broker.prepare(2).request.unverified_token)


def test_no_release_for_a_token_that_does_not_say_what_was_agreed(broker, record_property):
    """Tokens changed in header, claims, signature or text; and each answer costs the genuine request what it must."""
    seen: Counter[int] = Counter()

    @budget(150)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        asked = broker.prepare()
        text = data.draw(tokens(parts(broker, asked), network().signer, network().stranger), label="token")
        before = broker.releases()
        answer = broker.post(asked.with_token(text))
        seen[answer.status] += 1
        claims = vouched(text)
        if answer.status == 200:
            assert claims is not None
            assert agreed(claims, asked.claims)
        else:
            assert claims is None or not same(claims, asked.claims), "written otherwise, but the same words"
            assert broker.releases() == before
        genuine = broker.post(asked.request).status
        spent = answer.status in {200, 403}
        assert genuine == (409 if spent else 200)

    run()
    record_property("figure", f"tokens: {dict(sorted(seen.items()))}")
    assert seen.keys() >= {200, 401, 403}
