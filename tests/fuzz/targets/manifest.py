"""Manifest bundles, drafts and signature files, from any source: only every participant's signature makes one count."""

from contextlib import suppress

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.predecessor import Predecessor
from mcbn_broker.ceremony.signature_files import ManifestSignature
from mcbn_protocol import limits
from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import MalformedError, ManifestError, SignatureInvalidError
from mcbn_protocol.identifiers import ManifestHash
from mcbn_protocol.manifest import AgreedManifest, Manifest
from mcbn_protocol.signatures import Envelope
from tests.fuzz.documents import ROSTER, bundle
from tests.fuzz.material import json_object, texts

JSON = True
KINDS = (MalformedError, ManifestError, SignatureInvalidError)
GENUINE = {one for one in texts("manifest", "bundle") if one}
WORDS = tuple(
    b"mutual_tls leaf scheme bits rsa ed25519 c2sp-det-keygen insecure_http insecure_scheme insecure_debug tls_ca "
    b"image_signatures env_override value_rules root instance_ids tls13-psk mtls13 any none STABLE".split()
)


def seeds() -> list[bytes]:
    envelopes = [Envelope.parse(one, limit=limits.MANIFEST_BYTES) for one in GENUINE]
    signature = ManifestSignature("alice", ManifestHash(bytes(32)), bytes(64)).to_bytes()
    return [*GENUINE, *(one.payload_bytes for one in envelopes), signature]


def target(data: bytes) -> None:
    with suppress(*KINDS):
        AgreedManifest.parse(data, ROSTER)
        assert data in GENUINE, "nobody signed it"
    with suppress(*KINDS):
        Predecessor.parse(data, ROSTER)
    with suppress(MalformedError, ManifestError):
        assert canonical(Draft.parse(data).manifest.to_payload()) == data
    with suppress(MalformedError):
        assert ManifestSignature.parse(data).to_bytes() == data
    payload = json_object(data)
    if payload is not None:
        with suppress(MalformedError, ManifestError):
            assert Manifest.from_payload(payload).to_payload() == payload
            agreed = AgreedManifest.parse(bundle(payload), ROSTER)
            assert agreed.manifest.to_payload() == payload
