"""The example network of the vectors, for every test of the protocol."""

import importlib.util
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol.manifest import Manifest
from mcbn_protocol.roster import Roster

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture(scope="session")
def example():
    """The generator of the vectors: an example network, and a small second implementation of every construction."""
    spec = importlib.util.spec_from_file_location("generate_vectors", VECTORS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def roster(example):
    return Roster.parse(example.ROSTER_BYTES)


@pytest.fixture
def manifest_payload(example):
    """A manifest payload of its own for each test, which may spoil it."""
    return json.loads(json.dumps(example.MANIFEST))


@pytest.fixture
def manifest(manifest_payload):
    return Manifest.from_payload(manifest_payload)


@pytest.fixture
def release_key(example):
    return lambda name: Ed25519PrivateKey.from_private_bytes(example.release_seed(name))


@pytest.fixture
def consent_key(example):
    return lambda name: Ed25519PrivateKey.from_private_bytes(example.consent_seed(name))
