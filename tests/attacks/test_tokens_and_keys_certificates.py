"""Where a manifest pins a root, only its chain counts; where it trusts a key set, no certificate does."""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import RoleTerms
from mcbn_protocol.messages import ReleaseRequest
from mcbn_protocol.reference_values import ConfidentialSpaceReference
from mcbn_simulator.certificates import Authority, x5c
from tests.attacks.lab_brokers import ISSUER, NOW, Handler, Lab, LabWorkload, issuer, new_lab, reference
from tests.attacks.lab_tokens import (
    certificates,
    changes_nothing,
    forged,
    franks_key,
    genuine_signer,
    is_not_agreed,
    outbound,
    roles,
    root_hash,
    rs256,
)

FAMILY: Final = "Tokens and keys"
OTHER_DIGESTS: Final = {Role.CLIENT: "sha256:" + "0c" * 32, Role.SERVER: "sha256:" + "05" * 32}
YEAR: Final = 366 * 24 * 3600


def nobody_fetches(lab: Lab) -> None:
    """Whoever is asked for anything by the broker ends the test."""
    for host in ("issuer.example", "frank.example"):
        lab.road.hosts[host] = Handler(lambda request: pytest.fail(f"the broker asked for {request.url}"))


@pytest.fixture
async def lab(tmp_path):
    """A network whose manifest pins the service's root."""
    async with new_lab(tmp_path, "alice", roles=roles(root=root_hash("service"))) as lab:
        nobody_fetches(lab)
        yield lab


def service_key() -> RSAPrivateKey:
    return issuer(ISSUER).signing_key.private_key


def certified(request: ReleaseRequest, chain: Any = None, key: RSAPrivateKey | None = None) -> ReleaseRequest:
    """The same request with a PKI token; without more words a genuine one."""
    chain = certificates("service").chain(service_key()) if chain is None else chain
    return forged(request, header={"x5c": chain}, sign=rs256(key or service_key()))


async def asked(lab: Lab) -> tuple[LabWorkload, ReleaseRequest]:
    workload = lab.workload()
    return workload, workload.request(await workload.challenge())


async def is_refused(lab: Lab, workload: LabWorkload, hostile: ReleaseRequest, check: str) -> None:
    """Check the refusal, that nobody was asked for anything, and that the challenge still serves the genuine token."""
    lab.refused(await workload.send(hostile), "token_not_authentic", check=check, signed_over=hostile)
    await changes_nothing(lab, f"token_not_authentic/{check}")
    lab.released(await workload.send(certified(workload.request(hostile.challenge))), workload)
    assert outbound(lab) == []


def _service() -> tuple[Authority, Authority]:
    return certificates("service").root, certificates("service").intermediate


def _under(issuing: Authority, key: RSAPrivateKey, *above: Authority) -> list[str]:
    return x5c([issuing.leaf(key, NOW), *(one.certificate for one in (issuing, *above))])


def _franks_own() -> list[str]:
    return certificates("frank").chain(franks_key().private_key)


def _genuine_root_at_the_end() -> list[str]:
    return [*_franks_own()[:2], *x5c([_service()[0].certificate])]


def _genuine_certificates_above_his_leaf() -> list[str]:
    leaf = certificates("frank").intermediate.leaf(franks_key().private_key, NOW)
    return x5c([leaf, *(one.certificate for one in reversed(_service()))])


def _leaf_as_an_authority() -> list[str]:
    """The holder of a signing key issues a certificate for Frank's."""
    root, intermediate = _service()
    genuine = Authority(intermediate.leaf(service_key(), NOW), service_key())
    return _under(genuine, franks_key().private_key, root)


def _four() -> list[str]:
    root, intermediate = _service()
    genuine = Authority(intermediate.leaf(service_key(), NOW), service_key())
    return _under(genuine, franks_key().private_key, intermediate, root)


ELSEWHERE: Final[dict[str, Callable[[], Any]]] = {
    "Frank's own root": _franks_own,
    "Frank's chain before the genuine root": _genuine_root_at_the_end,
    "Frank's leaf before the genuine chain": _genuine_certificates_above_his_leaf,
    "a genuine leaf as an authority": _leaf_as_an_authority,
    "four certificates": _four,
    "no root": lambda: _franks_own()[:2],
    "none": list,
    "one three times": lambda: _franks_own()[:1] * 3,
    "text": lambda: _franks_own()[0],
    "null": lambda: None,
}


@pytest.mark.parametrize("chain", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_chain_that_does_not_lead_to_the_pinned_root(lab, chain):
    """Frank signs a token with his own key and shows certificates for it that end elsewhere or only seem right."""
    workload, request = await asked(lab)
    hostile = forged(request, header={"x5c": chain()}, sign=rs256(franks_key().private_key))
    await is_refused(lab, workload, hostile, "token.chain")


async def test_genuine_chain_in_another_order(lab):
    """Frank shuffles a genuine chain, which a verifier that sorts certificates itself would take."""
    workload, request = await asked(lab)
    leaf, intermediate, root = certificates("service").chain(service_key())
    orders = [[root, intermediate, leaf], [intermediate, leaf, root]]
    for order in orders:
        hostile = certified(request, order)
        lab.refused(await workload.send(hostile), "token_not_authentic", check="token.chain", signed_over=hostile)
    await is_refused(lab, workload, certified(request, orders[0]), "token.chain")


async def test_intermediate_used_as_a_leaf(lab):
    """Somebody who holds an authority's key under the pinned root signs a token with it, as if it were a signer's."""
    root, intermediate = _service()
    authority = intermediate.intermediate(NOW)
    workload, request = await asked(lab)
    chain = x5c([authority.certificate, intermediate.certificate, root.certificate])
    await is_refused(lab, workload, certified(request, chain, authority.key), "token.chain")


async def test_genuine_chain_before_franks_signature(lab):
    """Frank copies the chain of a genuine token, which is public, and signs with a key of his own."""
    workload, request = await asked(lab)
    await is_refused(lab, workload, certified(request, key=franks_key().private_key), "token.signature")


@pytest.mark.parametrize("made_at", [NOW - 2 * YEAR, NOW + 2 * YEAR], ids=["expired", "not yet valid"])
async def test_leaf_of_another_time(lab, made_at):
    """Somebody signs a token with the key of a signer whose certificate has expired, or is yet to begin."""
    pinned = certificates("service")
    leaf = pinned.intermediate.leaf(franks_key().private_key, made_at)
    chain = x5c([leaf, pinned.intermediate.certificate, pinned.root.certificate])
    workload, request = await asked(lab)
    await is_refused(lab, workload, certified(request, chain, franks_key().private_key), "token.chain")


# -- one kind of token in the place of the other


async def test_oidc_token_where_a_root_is_pinned(lab):
    """Somebody who can publish keys in the service's name signs an OIDC token, though the manifest pins a root."""
    workload, request = await asked(lab)
    await is_refused(lab, workload, request, "token.header")


async def test_pki_token_where_the_key_set_is_trusted(tmp_path):
    """Frank shows a genuine chain of the service's to participants who have agreed on its published keys only."""
    async with new_lab(tmp_path, "alice") as lab:
        workload, request = await asked(lab)
        hostile = certified(request)
        lab.refused(await workload.send(hostile), "token_not_authentic", check="token.header", signed_over=hostile)
        assert outbound(lab) == []
        await changes_nothing(lab, "token_not_authentic/token.header")
        lab.released(await workload.send(request), workload)


def _anchored(role: Role, root: bytes | None, digest: str | None = None) -> ConfidentialSpaceReference:
    agreed = reference(role)
    return dataclasses.replace(agreed, root=root, image_digests=(digest,) if digest else agreed.image_digests)


@pytest.mark.parametrize("chained", [True, False], ids=["PKI for the OIDC image", "OIDC for the PKI image"])
async def test_each_kind_of_token_for_the_image_of_the_other(tmp_path, chained):
    """Frank, where a manifest trusts the root for one image and the key set for another, swaps the two kinds.

    Known as: key-set confusion (RFC 8725 section 3.12, mutually exclusive rules for different kinds of tokens).
    """
    mine, other = (None, root_hash("service")) if chained else (root_hash("service"), None)
    either = {role: RoleTerms(2, (_anchored(role, mine), _anchored(role, other, OTHER_DIGESTS[role]))) for role in Role}
    async with new_lab(tmp_path, "alice", roles=either) as lab:
        workload, request = await asked(lab)
        await is_not_agreed(lab, {"trust_anchor"}, certified(request) if chained else request, workload)
        fresh = workload.request(await workload.challenge())
        lab.released(await workload.send(fresh if chained else certified(fresh)), workload)


async def test_key_of_another_issuer_under_a_chain(lab):
    """Frank names another service than the pinned root's as issuer of a token with a genuine chain."""
    workload, request = await asked(lab)
    hostile = forged(
        request,
        header={"x5c": certificates("service").chain(service_key())},
        claims={"iss": "https://frank.example"},
        sign=genuine_signer(),
    )
    await is_refused(lab, workload, hostile, "token.issuer")
