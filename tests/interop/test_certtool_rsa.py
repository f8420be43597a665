"""Real `certtool` derives the RSA keys that we derive."""

import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.secret import Secret
from mcbn_workload.rsa_keys import derive_rsa_key

SEED = bytes.fromhex("cb488e9105faa7e26cf30dcc6042fea07fd71c38953973c356d8ecf80421880e")


@pytest.mark.parametrize("options", [["--provable"], []], ids=["provable", "plain"])
def test_certtool_makes_the_same_key_of_the_same_seed(require_tool, options):
    certtool = require_tool("certtool")
    command = [certtool, "--generate-privkey", "--key-type=rsa", "--sec-param=high", f"--seed={SEED.hex()}", *options]
    made = subprocess.run(command, capture_output=True, check=True, timeout=60)
    pem = made.stdout[made.stdout.index(b"-----BEGIN") :]
    theirs = load_pem_private_key(pem, password=None)
    assert isinstance(theirs, RSAPrivateKey)
    ours = derive_rsa_key(RsaScheme.GNUTLS_PROVABLE, Secret(SEED), 3072)
    assert ours.private_numbers() == theirs.private_numbers()
