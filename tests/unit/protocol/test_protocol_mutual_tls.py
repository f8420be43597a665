"""The manifest's terms for mutual TLS."""

import pytest

from mcbn_protocol.errors import MalformedError, ManifestError
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_protocol.rsa_schemes import RsaScheme

RSA = {"leaf": "rsa", "scheme": "c2sp-det-keygen", "bits": 3072}


@pytest.mark.parametrize(
    "value",
    [
        RSA,
        {"leaf": "ed25519"},
        RSA | {"bits": 4096},
        RSA | {"scheme": "gnutls-provable", "insecure_shared_key": True},
        {"leaf": "rsa", "scheme": "go-hash-drbg", "bits": 2048, "insecure_rsa_scheme": True},
    ],
)
def test_terms_read_and_written(value):
    terms = MutualTlsTerms.from_json(value, "mutual_tls")
    assert terms.to_json() == value
    assert set(terms.insecure_terms) == {name for name in value if name.startswith("insecure_")}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"leaf": "rsa"}, "needs scheme and bits"),
        ({"leaf": "rsa", "bits": 3072}, "needs scheme and bits"),
        ({"leaf": "rsa", "scheme": "c2sp-det-keygen"}, "needs scheme and bits"),
        ({"leaf": "ed25519", "bits": 3072}, "has neither"),
        (RSA | {"leaf": "ed25519"}, "has neither"),
        (RSA | {"bits": 1024}, "no keys of this size"),
        ({"leaf": "rsa", "scheme": "go-sha512-reader", "bits": 3072, "insecure_rsa_scheme": True}, "of this size"),
        ({"leaf": "rsa", "scheme": "go-sha512-reader", "bits": 2048}, "needs insecure_rsa_scheme"),
        (RSA | {"insecure_rsa_scheme": True}, "no other may have it"),
        ({"leaf": "ed25519", "insecure_shared_key": True}, "for rsa only"),
    ],
)
def test_terms_that_do_not_go_together_are_refused(value, why):
    with pytest.raises(ManifestError, match=why):
        MutualTlsTerms.from_json(value, "mutual_tls")


@pytest.mark.parametrize("value", [None, [], {}, RSA | {"more": 1}, RSA | {"scheme": "own"}, {"leaf": "dsa"}])
def test_another_shape_is_refused(value):
    with pytest.raises(MalformedError):
        MutualTlsTerms.from_json(value, "mutual_tls")


def test_the_default_scheme_is_not_a_legacy_one():
    assert [scheme for scheme in RsaScheme if scheme.legacy] == [RsaScheme.GO_SHA512_READER, RsaScheme.GO_HASH_DRBG]
    assert RsaScheme.C2SP_DET_KEYGEN.sizes[0] == 3072
    assert MutualTlsTerms(LeafKind.ED25519, None, None).insecure_terms == ()
