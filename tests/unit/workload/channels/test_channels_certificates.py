"""Leaves for mutual TLS have the profile that other implementations ask for."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from mcbn_protocol.identifiers import Role
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.certificates import (
    Validity,
    authority_from_files,
    credentials,
    derived_authority,
    issue,
    signing_request,
)
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.rsa_keys import derive_rsa_key

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
VALIDITY = Validity(NOW, NOW + dt.timedelta(days=90))
USAGES = {Role.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Role.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.fixture(scope="module", params=["rsa", "ed25519"])
def keys(request):
    """The CA's and the leaf's."""
    if request.param == "ed25519":
        return [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(2)]
    seeds = [Secret(bytes([number]) * 32) for number in range(2)]
    return [derive_rsa_key(RsaScheme.C2SP_DET_KEYGEN, seed, 2048) for seed in seeds]


def extension(certificate, kind):
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


@pytest.mark.parametrize("role", Role)
def test_the_profile_of_a_leaf(keys, role):
    ca, leaf = keys
    shown = credentials(role, leaf, derived_authority(ca, VALIDITY), names=["far-end.example"], validity=VALIDITY)
    certificate = shown.leaf
    assert certificate.public_key() == leaf.public_key()
    assert extension(certificate, x509.BasicConstraints) == (x509.BasicConstraints(ca=False, path_length=None), True)
    usage, critical = extension(certificate, x509.KeyUsage)
    assert critical
    assert usage.digital_signature
    assert not any([usage.key_cert_sign, usage.key_encipherment, usage.key_agreement])
    assert list(extension(certificate, x509.ExtendedKeyUsage)[0]) == [USAGES[role]]
    names, _critical = extension(certificate, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["far-end.example"]
    assert extension(certificate, x509.SubjectKeyIdentifier)[0].digest
    authority = extension(certificate, x509.AuthorityKeyIdentifier)[0]
    assert authority.key_identifier == extension(shown.authority, x509.SubjectKeyIdentifier)[0].digest
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc == VALIDITY.until
    certificate.verify_directly_issued_by(shown.authority)


def test_rsa_signatures_are_pss_with_sha256_and_a_salt_of_32_bytes(keys):
    ca, leaf = keys
    if isinstance(ca, Ed25519PrivateKey):
        return
    shown = credentials(Role.SERVER, leaf, derived_authority(ca, VALIDITY), names=["a.example"], validity=VALIDITY)
    for certificate in (shown.leaf, shown.authority):
        assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
        parameters = certificate.signature_algorithm_parameters
        assert isinstance(parameters, padding.PSS)
        assert (parameters._salt_length, type(parameters._mgf._algorithm)) == (32, SHA256)
    request = signing_request(Role.SERVER, leaf, ["a.example"])
    assert request.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS


def test_each_run_has_a_serial_number_of_its_own(keys):
    ca, leaf = keys
    authority = derived_authority(ca, VALIDITY)
    two = [credentials(Role.CLIENT, leaf, authority, names=["a.example"], validity=VALIDITY) for _ in range(2)]
    assert len({one.leaf.serial_number for one in two}) == 2
    assert two[0].leaf.public_key() == two[1].leaf.public_key()


def test_a_request_signed_by_another_key_is_refused(keys):
    ca, leaf = keys
    request = signing_request(Role.CLIENT, leaf, ["a.example"])
    encoded = bytearray(request.public_bytes(Encoding.DER))
    encoded[-1] ^= 1
    with pytest.raises(ConfigurationError, match="does not verify"):
        issue(
            x509.load_der_x509_csr(bytes(encoded)),
            derived_authority(ca, VALIDITY),
            role=Role.CLIENT,
            validity=VALIDITY,
        )


def test_a_request_for_a_key_of_another_kind_is_refused(keys):
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    with pytest.raises(ConfigurationError, match="does not verify"):
        issue(request, derived_authority(keys[0], VALIDITY), role=Role.CLIENT, validity=VALIDITY)


@pytest.fixture
def files(keys, tmp_path):
    authority = derived_authority(keys[0], VALIDITY)
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    certificate.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(keys[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


def test_a_ca_may_come_from_files(keys, files):
    authority = authority_from_files(*files)
    shown = credentials(Role.SERVER, keys[1], authority, names=["a.example"], validity=VALIDITY)
    shown.leaf.verify_directly_issued_by(authority.certificate)
    assert "key=" not in repr(authority)
    assert "key=" not in repr(shown)


def test_a_ca_without_a_key_identifier_is_named_by_its_key(tmp_path):
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, VALIDITY.until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    authority = authority_from_files(tmp_path / "ca.pem", tmp_path / "ca.key")
    leaf = issue(signing_request(Role.CLIENT, key, ["a.example"]), authority, role=Role.CLIENT, validity=VALIDITY)
    expected = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    assert extension(leaf, x509.AuthorityKeyIdentifier)[0] == expected


def test_files_that_are_no_ca_are_refused(keys, files, tmp_path):
    certificate, key = files
    authority = derived_authority(keys[0], VALIDITY)
    leaf = credentials(Role.SERVER, keys[1], authority, names=["a.example"], validity=VALIDITY).leaf
    other, curve = tmp_path / "other", tmp_path / "curve"
    other.write_bytes(leaf.public_bytes(Encoding.PEM))
    pem = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    curve.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*pem))
    for pair in [(certificate, certificate), (key, key), (other, key), (certificate, curve), (tmp_path / "no", key)]:
        with pytest.raises(ConfigurationError):
            authority_from_files(*pair)
