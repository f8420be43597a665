"""Makes the vector files, as a small second implementation: standard library and PyNaCl, nothing of mcbn_protocol.

`python tests/vectors/generate.py [FOLDER]` writes every file; without FOLDER into this one. The result is the same
bytes at each run. The hybrid's ciphertext cannot be made again (its encapsulation is random): the recorded one is kept,
after it was opened here with ML-KEM and X25519 taken apart.

All private keys and shares in the vectors are throwaway: SHA-256 of a text that says so.
"""

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.signing import SigningKey

HERE = Path(__file__).parent
MADE = "made by tests/vectors/generate.py (hashlib, hmac and PyNaCl; it imports nothing of mcbn_protocol)"
NETWORK = "net-1"
NAMES = ("alice", "bob", "carol")
NOW = 1_790_000_000


# Encodings
def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def lp(value: bytes | str) -> bytes:
    raw = value.encode("ascii") if isinstance(value, str) else value
    return u32(len(raw)) + raw


def b64u(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def canonical(value: object) -> bytes:
    """RFC 8785 for values whose member names are ASCII and whose numbers are integers: all of ours."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# Keys and signatures
def throwaway(text: str) -> bytes:
    return sha(f"throwaway {text}".encode())


def public_key(seed: bytes) -> bytes:
    return bytes(SigningKey(seed).verify_key)


def consent_seed(name: str) -> bytes:
    return throwaway(f"consent key of {name}")


def release_seed(name: str) -> bytes:
    return throwaway(f"release key of {name}")


def signing_input(label: str, roster_hash: bytes | None, payload: dict) -> bytes:
    return lp(label) + (b"" if roster_hash is None else lp(roster_hash)) + lp(canonical(payload))


def document(label: str, roster_hash: bytes | None, payload: dict, signers: list[tuple[str, bytes]]) -> dict:
    message = signing_input(label, roster_hash, payload)
    signatures = [{"participant": n, "signature": b64u(SigningKey(s).sign(message).signature)} for n, s in signers]
    return {"payload": payload, "signatures": signatures}


# The example network
CARDS = {
    name: {
        "format": "mcbn-participant-v1",
        "network": NETWORK,
        "name": name,
        "consent_key": b64u(public_key(consent_seed(name))),
        "release_key": b64u(public_key(release_seed(name))),
        "url": f"https://broker.{name}.example:8443",
    }
    for name in NAMES
}
ROSTER = {
    "format": "mcbn-roster-v1",
    "network": NETWORK,
    "participants": [
        {"name": n, "consent_key": CARDS[n]["consent_key"], "release_key": CARDS[n]["release_key"]} for n in NAMES
    ],
    "threshold": 3,
}
ROSTER_BYTES = canonical(ROSTER)
ROSTER_HASH = sha(ROSTER_BYTES)
# The published known answers use these shares.
SHARES = {name: sha(f"share {letter}".encode()) for name, letter in zip(NAMES, "abc", strict=True)}


def commitment(network: str, name: str, epoch: int, share: bytes) -> bytes:
    return sha(lp("mcbn/commit/v1") + lp(network) + lp(name) + u64(epoch) + lp(share))


def evidence(role: str) -> dict:
    return {
        "kind": "confidential-space",
        "issuer": "https://confidentialcomputing.googleapis.com",
        "image_digests": [f"sha256:{sha(f'{role} image'.encode()).hex()}"],
        "hwmodels": ["GCP_AMD_SEV", "GCP_INTEL_TDX"],
        "dbgstat": "disabled-since-boot",
        "swname": "CONFIDENTIAL_SPACE",
        "secboot": True,
        "support_attribute": "STABLE",
        "args": ["python", "-I", "-m", "mcbn_workload", role],
        "env": {"LANG": "C.UTF-8"},
        "env_override": {"MCBN_LISTEN": {"value": "0.0.0.0:8443"}, "MCBN_LOG_LEVEL": {"pattern": "*"}},
        "restart_policies": ["Never"],
        "monitoring_memory": False,
        "project_numbers": ["123456789012"],
    }


MANIFEST = {
    "format": "mcbn-manifest-v1",
    "roster_hash": ROSTER_HASH.hex(),
    "epoch": 1,
    "previous": None,
    "valid_from": NOW,
    "valid_until": NOW + 90 * 86400,
    "overlap_seconds": 3600,
    "scheme": "hkdf-sha256",
    "commitments": {name: commitment(NETWORK, name, 1, SHARES[name]).hex() for name in NAMES},
    "brokers": {name: {"url": CARDS[name]["url"]} for name in NAMES},
    "roles": {role: {"instances": 1, "evidence": [evidence(role)]} for role in ("client", "server")},
    "channels": ["tls13-psk"],
    "kems": ["mlkem768-x25519", "x25519"],
    "lease_seconds": 3600,
}
MANIFEST_HASH = sha(canonical(MANIFEST))
CHALLENGE_BYTES = b"\x01" + u64(NOW + 120) + sha(b"challenge")[:16] + sha(b"mac")[:16]
CHALLENGE = b64u(CHALLENGE_BYTES)
CORRELATION_ID = "6f1c5c3e-9f1b-4c86-9d2a-0f5be1f1d5a7"


# Sealing: HPKE (RFC 9180), base mode, HKDF-SHA256 and ChaCha20-Poly1305
def hmac256(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    block, out, counter = b"", b"", 1
    while len(out) < length:
        block = hmac256(prk, block + info + bytes([counter]))
        out, counter = out + block, counter + 1
    return out[:length]


def labeled_extract(suite: bytes, salt: bytes, label: str, material: bytes) -> bytes:
    return hmac256(salt or bytes(32), b"HPKE-v1" + suite + label.encode() + material)


def labeled_expand(suite: bytes, prk: bytes, label: str, info: bytes, length: int) -> bytes:
    return hkdf_expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label.encode() + info, length)


def hpke_key_and_nonce(kem_id: int, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    suite = b"HPKE" + kem_id.to_bytes(2, "big") + b"\x00\x01" + b"\x00\x03"
    context = b"\x00" + labeled_extract(suite, b"", "psk_id_hash", b"") + labeled_extract(suite, b"", "info_hash", info)
    secret = labeled_extract(suite, shared_secret, "secret", b"")
    return labeled_expand(suite, secret, "key", context, 32), labeled_expand(suite, secret, "base_nonce", context, 12)


def x25519_shared_secret(dh: bytes, enc: bytes, recipient: bytes) -> bytes:
    suite = b"KEM\x00\x20"
    return labeled_expand(suite, labeled_extract(suite, b"", "eae_prk", dh), "shared_secret", enc + recipient, 32)


def seal_x25519(ephemeral_seed: bytes, recipient: bytes, info: bytes, share: bytes) -> bytes:
    enc = crypto_scalarmult_base(ephemeral_seed)
    secret = x25519_shared_secret(crypto_scalarmult(ephemeral_seed, recipient), enc, recipient)
    key, nonce = hpke_key_and_nonce(0x0020, secret, info)
    return enc + crypto_aead_chacha20poly1305_ietf_encrypt(share, None, nonce, key)


def hybrid_keys(seed: bytes) -> tuple[MLKEM768PrivateKey, bytes, bytes]:
    """Return the ML-KEM key, the X25519 scalar and the public key of a seed."""
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem, scalar = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), expanded[64:]
    return mlkem, scalar, mlkem.public_key().public_bytes_raw() + crypto_scalarmult_base(scalar)


def open_hybrid(seed: bytes, info: bytes, sealed: bytes) -> bytes:
    """Open with the hybrid's parts: the shared secret is SHA3-256 over both secrets, X25519's two keys and a label."""
    mlkem, scalar, public = hybrid_keys(seed)
    ct_mlkem, ct_x25519, ciphertext = sealed[:1088], sealed[1088:1120], sealed[1120:]
    parts = mlkem.decapsulate(ct_mlkem) + crypto_scalarmult(scalar, ct_x25519) + ct_x25519 + public[-32:]
    key, nonce = hpke_key_and_nonce(0x647A, hashlib.sha3_256(parts + rb"\.//^" + b"\\").digest(), info)
    return crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, None, nonce, key)


def binding(name: str, role: str, kem: str, recipient: bytes) -> bytes:
    parts = ("mcbn/binding/v1", ROSTER_HASH, name, role, MANIFEST_HASH, CHALLENGE, kem, recipient)
    return sha(b"".join(lp(part) for part in parts))


def seal_info(binding_hash: bytes, epoch: int, share_index: int) -> bytes:
    return lp("mcbn/seal/v1") + lp(binding_hash) + u64(epoch) + u32(share_index)


X25519_SEED = throwaway("x25519 recipient key")
HYBRID_SEED = throwaway("mlkem768-x25519 recipient key")
RECIPIENTS = {"x25519": crypto_scalarmult_base(X25519_SEED), "mlkem768-x25519": hybrid_keys(HYBRID_SEED)[2]}
BINDINGS = {kem: binding("alice", "client", kem, recipient) for kem, recipient in RECIPIENTS.items()}
SEALED_X25519 = seal_x25519(
    throwaway("ephemeral key"), RECIPIENTS["x25519"], seal_info(BINDINGS["x25519"], 1, 1), SHARES["alice"]
)


# Key schedule
def prk_all_of_n(shares: dict[str, bytes]) -> bytes:
    material = u32(len(shares)) + b"".join(lp(name) + lp(shares[name]) for name in sorted(shares))
    return hmac256(b"mcbn/combine/all-of-n/v1", material)


def prk_legacy(scheme: str, combined: bytes) -> bytes:
    return hmac256(b"mcbn/combine/legacy/v1", lp(scheme) + lp(combined))


def expand(prk: bytes, label: str, manifest_hash: bytes, epoch: int) -> bytes:
    return hkdf_expand(prk, lp("mcbn/v1") + lp(label) + lp(manifest_hash) + u64(epoch), 32)


def sha256_concat(shares: list[bytes]) -> bytes:
    return sha("".join(share.hex() for share in shares).encode())


def hmac_sha256_chain(shares: list[bytes]) -> bytes:
    running = shares[0].hex()
    for share in shares[1:]:
        running = hmac256(share.hex().encode(), running.encode()).hex()
    return bytes.fromhex(running)


LEGACY = {"sha256-concat": sha256_concat, "hmac-sha256-chain": hmac_sha256_chain}
PURPOSES = (
    "client>server/tls13-psk",
    "client>server/tls12-psk",
    "client>server/dtls12-psk",
    "server/rsa-seed",
    "client/rsa-seed",
    "client+server/rsa-seed",
    "ca/rsa-seed",
    "server/ed25519-seed",
    "client/ed25519-seed",
    "ca/ed25519-seed",
)


# The files
def case(name: str, given: dict, output: dict) -> dict:
    return {"name": name, "input": given, "output": output}


def refused(name: str, given: dict, code: str = "malformed") -> dict:
    return {"name": f"refused: {name}", "input": given, "refused": code}


def encoding() -> tuple[str, list[dict]]:
    values = [{"b": 1, "a": [True, None, "é", "\u20ac\n"], "": {}}, [9007199254740991, -1, 0], '\x00\x1f"\\/\x7f']
    documents = {
        "duplicate member": b'{"a":1,"a":1}',
        "float": b"[1.0]",
        "exponent": b"[1e2]",
        "NaN": b"[NaN]",
        "minus zero": b"[-0]",
        "integer beyond 2^53 - 1": b"[9007199254740992]",
        "lone surrogate": b'["\\ud800"]',
        "not UTF-8": b'["\xff"]',
        "byte order mark": b"\xef\xbb\xbf[]",
        "white space": b"[ ]",
        "members out of order": b'{"b":1,"a":1}',
        "escape that is not needed": b'["\\u0041"]',
        "trailing text": b"[]x",
        "nothing": b"",
    }
    texts = {
        "padding": "AA==",
        "standard alphabet": "+/8",
        "trailing bits": "AB",
        "a line feed": "AA\n",
        "one character": "A",
    }
    raws = [bytes(range(250, 250 + length)) for length in range(6)]
    return f"{MADE}; refusals follow from RFC 8785, RFC 7493 and RFC 4648 section 5", [
        *(case(f"LP {text!r}", {"lp": text}, {"hex": lp(text).hex()}) for text in ("", "mcbn/v1", "a" * 300)),
        case("u32be", {"u32be": 1}, {"hex": "00000001"}),
        case("u64be", {"u64be": 2**40}, {"hex": "0000010000000000"}),
        *(case(f"base64url, {len(raw)} bytes", {"base64url": b64u(raw)}, {"hex": raw.hex()}) for raw in raws),
        *(refused(name, {"base64url": text}) for name, text in texts.items()),
        *(case(f"JSON {i}", {"json": canonical(value).hex()}, {"value": value}) for i, value in enumerate(values)),
        *(refused(name, {"json": data.hex()}) for name, data in documents.items()),
    ]


def roster() -> tuple[str, list[dict]]:
    people: list[dict] = ROSTER["participants"]  # type: ignore[assignment]  # a list, as written above
    small_order = b64u(bytes([1]) + bytes(31))
    spoilt = {
        "threshold below 2": ROSTER | {"threshold": 1},
        "threshold above n": ROSTER | {"threshold": 4},
        "not sorted": ROSTER | {"participants": people[::-1]},
        "same name": ROSTER | {"participants": [people[0], people[1] | {"name": "alice"}, people[2]]},
        "same key": ROSTER
        | {"participants": [people[0], people[1] | {"release_key": people[0]["consent_key"]}, people[2]]},
        "small-order key": ROSTER | {"participants": [people[0] | {"consent_key": small_order}, *people[1:]]},
        "unknown member": ROSTER | {"comment": ""},
    }
    malformed = {"threshold below 2", "small-order key", "unknown member"}
    numbers = {name: number for number, name in enumerate(NAMES, 1)}
    good = case(
        "three participants", {"roster": ROSTER_BYTES.decode()}, {"hash": ROSTER_HASH.hex(), "share_index": numbers}
    )
    return MADE, [
        good,
        *(
            refused(name, {"roster": canonical(value).decode()}, "malformed" if name in malformed else "roster_invalid")
            for name, value in spoilt.items()
        ),
    ]


def participant_card() -> tuple[str, list[dict]]:
    cases = []
    for name in NAMES:
        signers = [(name, consent_seed(name)), (name, release_seed(name))]
        digest = sha(canonical(CARDS[name])).hex()
        cases.append(
            {
                "name": name,
                "input": {
                    "throwaway_consent_seed": consent_seed(name).hex(),
                    "throwaway_release_seed": release_seed(name).hex(),
                    "payload": CARDS[name],
                },
                "output": {
                    "document": canonical(document("mcbn/participant/v1", None, CARDS[name], signers)).decode(),
                    "fingerprint": " ".join(digest[i : i + 4] for i in range(0, 64, 4)),
                },
            }
        )
    return MADE, cases


def commitments() -> tuple[str, list[dict]]:
    return f"{MADE}; alice's is a published known answer", [
        {
            "name": name,
            "input": {"network": NETWORK, "participant": name, "epoch": 1, "throwaway_share": SHARES[name].hex()},
            "output": {"commitment": commitment(NETWORK, name, 1, SHARES[name]).hex()},
        }
        for name in NAMES
    ]


def commitment_card() -> tuple[str, list[dict]]:
    payload = {
        "format": "mcbn-share-commitment-v1",
        "participant": "bob",
        "epoch": 1,
        "commitment": commitment(NETWORK, "bob", 1, SHARES["bob"]).hex(),
    }
    signed = document("mcbn/share-commitment/v1", ROSTER_HASH, payload, [("bob", release_seed("bob"))])
    return MADE, [signed_case("bob, epoch 1", "bob", payload, signed)]


def signed_case(name: str, participant: str, payload: dict, signed: dict) -> dict:
    return {
        "name": name,
        "input": {
            "roster": ROSTER_BYTES.decode(),
            "participant": participant,
            "throwaway_release_seed": release_seed(participant).hex(),
            "payload": payload,
        },
        "output": {"document": canonical(signed).decode()},
    }


def manifest() -> tuple[str, list[dict]]:
    def bundle(payload: dict, names: tuple[str, ...] = NAMES) -> str:
        signers = [(name, consent_seed(name)) for name in names]
        return canonical(document("mcbn/manifest/v1", ROSTER_HASH, payload, signers)).decode()

    later = MANIFEST | {"epoch": 2, "previous": MANIFEST_HASH.hex()}
    legacy = MANIFEST | {"scheme": "sha256-concat", "insecure_scheme": True}
    rsa = {"leaf": "rsa", "scheme": "c2sp-det-keygen", "bits": 3072}
    mutual = MANIFEST | {"channels": ["mtls13", "tls13-psk"], "mutual_tls": rsa}
    spoilt = {
        "mutual_tls without mtls13": mutual | {"channels": ["tls13-psk"]},
        "mutual_tls of two minds": mutual | {"mutual_tls": rsa | {"leaf": "ed25519"}},
        "epoch 1 with previous": MANIFEST | {"previous": MANIFEST_HASH.hex()},
        "legacy scheme without insecure_scheme": MANIFEST | {"scheme": "sha256-concat"},
        "plain HTTP": MANIFEST | {"brokers": {n: {"url": "http://broker.example"} for n in NAMES}},
        "another roster": MANIFEST | {"roster_hash": "00" * 32},
        "a commitment twice": MANIFEST | {"commitments": dict.fromkeys(NAMES, "11" * 32)},
    }
    good = {"epoch 1": MANIFEST, "epoch 2": later, "legacy scheme": legacy, "mutual TLS": mutual}
    cases: list[dict] = [
        {
            "name": name,
            "input": {"roster": ROSTER_BYTES.decode(), "bundle": bundle(payload)},
            "output": {"hash": sha(canonical(payload)).hex(), "epoch": payload["epoch"]},
        }
        for name, payload in good.items()
    ]
    bundles = {name: bundle(payload) for name, payload in spoilt.items()}
    bundles["without carol's signature"] = bundle(MANIFEST, NAMES[:2])
    bundles["signed in another order"] = bundle(MANIFEST, NAMES[::-1])
    for name, text in bundles.items():
        given = {"roster": ROSTER_BYTES.decode(), "bundle": text}
        cases.append({"name": f"refused: {name}", "input": given, "refused": "manifest_invalid"})
    return MADE, cases


def messages() -> tuple[str, list[dict]]:
    head = document("mcbn/audit-head/v1", ROSTER_HASH, AUDIT_HEAD, [("bob", release_seed("bob"))])
    request = {
        "challenge": CHALLENGE,
        "role": "client",
        "manifest_hash": MANIFEST_HASH.hex(),
        "evidence": {"kind": "confidential-space", "token": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"},
        "kem": "x25519",
        "recipient_key": b64u(RECIPIENTS["x25519"]),
        "audit_heads": [head],
    }
    problem = {
        "type": "urn:mcbn:refusal:consent_paused",
        "title": "The participant has paused its consent.",
        "status": 403,
        "code": "consent_paused",
        "check": None,
        "correlation_id": CORRELATION_ID,
        "refusal": document("mcbn/refusal/v1", ROSTER_HASH, REFUSAL, [("alice", release_seed("alice"))]),
    }
    bodies: dict[str, dict] = {
        "challenge-request": {"role": "client", "manifest_hash": MANIFEST_HASH.hex()},
        "challenge": {"challenge": CHALLENGE, "expires_at": NOW + 120},
        "release-request": request,
        "problem": problem,
    }
    second_spelling = CHALLENGE[:-1] + chr(ord(CHALLENGE[-1]) + 1)
    spoilt: dict[str, tuple[str, dict]] = {
        "challenge of 54 characters": ("challenge", {"challenge": CHALLENGE[:-1], "expires_at": 1}),
        "challenge in a second spelling": ("challenge", {"challenge": second_spelling, "expires_at": 1}),
        "time as a boolean": ("challenge", {"challenge": CHALLENGE, "expires_at": True}),
        "unknown role": ("challenge-request", {"role": "admin", "manifest_hash": MANIFEST_HASH.hex()}),
        "unknown member": ("challenge-request", bodies["challenge-request"] | {"debug": True}),
        "key of another KEM": ("release-request", request | {"kem": "mlkem768-x25519"}),
        "status that is not the code's": ("problem", problem | {"status": 401}),
        "unknown code": ("problem", problem | {"code": "go_away"}),
    }
    return MADE, [
        *(
            case(kind, {"kind": kind, "value": body}, {"body": canonical(body).decode()})
            for kind, body in bodies.items()
        ),
        *(refused(name, {"kind": kind, "value": body}) for name, (kind, body) in spoilt.items()),
    ]


def audience() -> tuple[str, list[dict]]:
    return MADE, [
        {
            "name": name,
            "input": {"roster_hash": ROSTER_HASH.hex(), "participant": name},
            "output": {"audience": f"mcbn:v1:{ROSTER_HASH.hex()}:{name}"},
        }
        for name in NAMES
    ]


def bindings() -> tuple[str, list[dict]]:
    return MADE, [
        {
            "name": kem,
            "input": {
                "roster_hash": ROSTER_HASH.hex(),
                "participant": "alice",
                "role": "client",
                "manifest_hash": MANIFEST_HASH.hex(),
                "challenge": CHALLENGE,
                "kem": kem,
                "recipient_key": b64u(recipient),
            },
            "output": {"binding": BINDINGS[kem].hex(), "nonces": [CHALLENGE, b64u(BINDINGS[kem])]},
        }
        for kem, recipient in RECIPIENTS.items()
    ]


def sealing_case(kem: str, seed: bytes, sealed: bytes) -> list[dict]:
    given = {
        "kem": kem,
        "throwaway_recipient_seed": seed.hex(),
        "recipient_key": b64u(RECIPIENTS[kem]),
        "binding": BINDINGS[kem].hex(),
        "epoch": 1,
        "share_index": 1,
        "sealed": b64u(sealed),
    }
    first, last = bytes([sealed[0] ^ 1]) + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1])
    opened = {"info": seal_info(BINDINGS[kem], 1, 1).hex(), "throwaway_share": SHARES["alice"].hex()}
    return [
        case("opens", given, opened),
        refused("another epoch", given | {"epoch": 2}, "seal_failed"),
        refused("another share index", given | {"share_index": 2}, "seal_failed"),
        refused("first byte flipped", given | {"sealed": b64u(first)}, "seal_failed"),
        refused("last byte flipped", given | {"sealed": b64u(last)}, "seal_failed"),
    ]


def sealing_x25519() -> tuple[str, list[dict]]:
    made = f"{MADE}, HPKE written out from RFC 9180; the ephemeral key is SHA-256 of 'throwaway ephemeral key'"
    return made, sealing_case("x25519", X25519_SEED, SEALED_X25519)


def sealing_hybrid() -> tuple[str, list[dict]]:
    recorded = json.loads((HERE / "sealing-mlkem768-x25519.json").read_text())["vectors"][0]["input"]["sealed"]
    sealed = base64.urlsafe_b64decode(recorded + "==")
    if open_hybrid(HYBRID_SEED, seal_info(BINDINGS["mlkem768-x25519"], 1, 1), sealed) != SHARES["alice"]:
        raise ValueError("the recorded ciphertext belongs to other inputs")
    made = (
        "recorded from mcbn_protocol.sealing.seal (cryptography 50, HPKE with KEM 0x647a); opened by "
        "tests/vectors/generate.py with ML-KEM-768, X25519, SHA3-256 and RFC 9180's key schedule taken apart"
    )
    return made, sealing_case("mlkem768-x25519", HYBRID_SEED, sealed)


RELEASE = {
    "roster_hash": ROSTER_HASH.hex(),
    "participant": "alice",
    "epoch": 1,
    "manifest_hash": MANIFEST_HASH.hex(),
    "role": "client",
    "share_index": 1,
    "kem": "x25519",
    "binding": b64u(BINDINGS["x25519"]),
    "issued_at": NOW + 10,
    "lease_seconds": 3600,
    "audit_sequence": 7,
    "audit_hash": sha(b"audit record 7").hex(),
    "sealed_share": b64u(SEALED_X25519),
}
REFUSAL = {
    "roster_hash": ROSTER_HASH.hex(),
    "participant": "alice",
    "manifest_hash": MANIFEST_HASH.hex(),
    "role": "client",
    "challenge": CHALLENGE,
    "binding": b64u(BINDINGS["x25519"]),
    "code": "consent_paused",
    "check": None,
    "issued_at": NOW + 10,
    "correlation_id": CORRELATION_ID,
}
AUDIT_HEAD = {
    "roster_hash": ROSTER_HASH.hex(),
    "participant": "bob",
    "incarnation": b64u(sha(b"incarnation")[:16]),
    "sequence": 41,
    "head": sha(b"audit record 41").hex(),
    "issued_at": NOW + 5,
}


def signed_by_broker(label: str, payload: dict, name: str) -> list[dict]:
    """Return a good document and the ways in which it is none: another label, key, signer, roster, or a flipped bit."""
    signer = payload["participant"]
    good = document(label, ROSTER_HASH, payload, [(signer, release_seed(signer))])
    raw = base64.urlsafe_b64decode(good["signatures"][0]["signature"] + "==")
    flipped = {"participant": signer, "signature": b64u(raw[:-1] + bytes([raw[-1] ^ 1]))}
    other = "carol" if signer != "carol" else "alice"
    impostor = payload | {"participant": other}
    elsewhere = payload | {"roster_hash": "00" * 32}
    own, consent = [(signer, release_seed(signer))], [(signer, consent_seed(signer))]
    forged = {
        "signed for another purpose": document("mcbn/manifest/v1", ROSTER_HASH, payload, own),
        "signed with the consent key": document(label, ROSTER_HASH, payload, consent),
        "signed for another roster": document(label, sha(b""), payload, own),
        "flipped bit": good | {"signatures": [flipped]},
    }
    malformed = {
        "signed twice": good | {"signatures": good["signatures"] * 2},
        "nobody signed": good | {"signatures": []},
        "speaks for another": document(label, ROSTER_HASH, impostor, own),
        "names another roster": document(label, ROSTER_HASH, elsewhere, own),
    }
    base = signed_case(name, signer, payload, good)
    shared = {key: base["input"][key] for key in ("roster", "participant")}

    def given(value: dict) -> dict:
        return shared | {"document": canonical(value).decode()}

    return [
        base,
        *(refused(why, given(value), "signature_invalid") for why, value in forged.items()),
        *(refused(why, given(value)) for why, value in malformed.items()),
    ]


def release() -> tuple[str, list[dict]]:
    return MADE, signed_by_broker("mcbn/release/v1", RELEASE, "alice to the client")


def refusal() -> tuple[str, list[dict]]:
    return MADE, signed_by_broker("mcbn/refusal/v1", REFUSAL, "alice has paused")


def audit_head() -> tuple[str, list[dict]]:
    return MADE, signed_by_broker("mcbn/audit-head/v1", AUDIT_HEAD, "bob's chain")


def key_schedule() -> tuple[str, list[dict]]:
    shares = {name: share.hex() for name, share in SHARES.items()}
    prk, manifest_hash = prk_all_of_n(SHARES), sha(b"manifest")
    given = {"throwaway_shares": shares, "manifest_hash": manifest_hash.hex(), "epoch": 1}
    labels = ("tls13-external-psk", *PURPOSES)
    return f"{MADE}; epoch secret and tls13-external-psk are published known answers", [
        {
            "name": "three shares",
            "input": given | {"labels": list(labels)},
            "output": {
                "throwaway_epoch_secret": prk.hex(),
                "throwaway_keys": {label: expand(prk, label, manifest_hash, 1).hex() for label in labels},
            },
        },
        {
            "name": "refused: equal shares",
            "input": given | {"throwaway_shares": shares | {"bob": shares["alice"]}, "labels": []},
            "refused": "key_schedule",
        },
    ]


def legacy_combinations() -> tuple[str, list[dict]]:
    three = (
        "2c6f63f8c0f53a565db041b91c0a95add8913fc102670589db3982228dbfed90",
        "b15244faf36e5e4b178d3891701d245f2e45e881d913b6c35c0ea0ac14224cc2",
        "3e2078d5cd04beabfa4a7a1486bc626d679184df2e0a2b9942d913d4b835516c",
    )
    two = (
        "b06394e28c33be5a8699759023972e9294d51b5007b3b0a51a41e9f58d406f8d",
        "2d362ce19a804d12b85644abf3a0e9bbfbb0e0ba3c5dd7cc4b8e335bc5154496",
    )
    cases = []
    for scheme, combine in LEGACY.items():
        for texts in (three, two):
            combined = combine([bytes.fromhex(text) for text in texts])
            cases.append(
                {
                    "name": f"{scheme} of {len(texts)}",
                    "input": {
                        "scheme": scheme,
                        "throwaway_shares": dict(zip(NAMES, texts, strict=False)),
                    },
                    "output": {
                        "throwaway_combined": combined.hex(),
                        "throwaway_epoch_secret": prk_legacy(scheme, combined).hex(),
                    },
                }
            )
    made = "combined keys of three, and sha256-concat of two, are published known answers; the rest is"
    return f"{made} {MADE}", cases


def psk_identity() -> tuple[str, list[dict]]:
    def identity(purpose: str) -> str:
        return "mcbn1." + b64u(sha(lp("mcbn/psk-identity/v1") + lp(MANIFEST_HASH) + u64(1) + lp(purpose))[:16])

    return MADE, [
        {
            "name": purpose,
            "input": {"manifest_hash": MANIFEST_HASH.hex(), "epoch": 1, "purpose": purpose},
            "output": {"identity": identity(purpose)},
        }
        for purpose in PURPOSES
    ]


def key_check() -> tuple[str, list[dict]]:
    prk = prk_all_of_n(SHARES)
    return MADE, [
        {
            "name": "three shares",
            "input": {"throwaway_epoch_secret": prk.hex(), "manifest_hash": MANIFEST_HASH.hex(), "epoch": 1},
            "output": {"key_check": expand(prk, "key-check", MANIFEST_HASH, 1).hex()},
        }
    ]


FILES = {
    "encoding": encoding,
    "roster": roster,
    "participant-card": participant_card,
    "commitment": commitments,
    "commitment-card": commitment_card,
    "manifest": manifest,
    "messages": messages,
    "audience": audience,
    "binding": bindings,
    "sealing-x25519": sealing_x25519,
    "sealing-mlkem768-x25519": sealing_hybrid,
    "release": release,
    "refusal": refusal,
    "audit-head": audit_head,
    "key-schedule": key_schedule,
    "legacy-combinations": legacy_combinations,
    "psk-identity": psk_identity,
    "key-check": key_check,
}


def main(folder: Path) -> None:
    for name, make in FILES.items():
        provenance, vectors = make()
        content = {"construction": name, "provenance": provenance, "vectors": vectors}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
