"""A second implementation of the release, written from docs/protocol.md alone; it shares no code with the first.

usage: client.py [--role ROLE] [--kem KEM] [--launcher SOCKET] roster.json alice=http://127.0.0.1:8701 bob=...

The manifest comes from the first broker. Left to others: reference values, small-order keys, TLS. 0: all shares given.
"""

import argparse
import base64
import hmac
import json
import re
import time
from hashlib import sha256
from pathlib import Path

import httpx
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEMS = {"x25519": (hpke.KEM.X25519, 80), "mlkem768-x25519": (hpke.KEM.MLKEM768_X25519, 1168)}
INVALID = (ValueError, KeyError, TypeError, RecursionError, InvalidSignature, InvalidTag, httpx.HTTPError)
HASH, NAME, CHECK = re.compile("[0-9a-f]{64}"), re.compile("[a-z][a-z0-9-]{0,31}"), re.compile("[a-z][a-z0-9_.]{0,63}")
OPTIONAL = {"insecure_http", "mutual_tls", "key_log", "insecure_psk_suites"}
TIME, POSITIVE, LEASE = range(253402300800), range(1, 2**53), range(5, 604801)


def require(holds, complaint):
    if not holds:
        raise ValueError(complaint)


def fits(value, wanted):
    """Tell whether a value is of a type, in a range, matches an expression, has these members, or is this value."""
    if isinstance(wanted, dict):
        return members(value, wanted) is value
    if isinstance(wanted, re.Pattern):
        return type(value) is str and wanted.fullmatch(value) is not None
    if isinstance(wanted, range):
        return type(value) is int and value in wanted
    return type(value) is wanted if isinstance(wanted, type) else type(value) is type(wanted) and value == wanted


def members(value, wanted):  # section 1
    require(fits(value, dict) and value.keys() == wanted.keys(), f"not an object with exactly {', '.join(wanted)}")
    for name in wanted:
        require(fits(value[name], wanted[name]), f"{name} is not what it has to be")
    return value


def lp(*values):
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text, size):
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    require(len(data) == size and b64(data) == text, "base64url of another length or spelling")
    return data


def canonical(value):  # RFC 8785, where numbers are integers and members are named in ASCII
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def parse(raw):
    value = json.loads(raw)
    require(canonical(value) == raw, "not canonical JSON")
    return value


def signed_payload(document, label, roster_hash, keys):  # section 2
    members(document, {"payload": dict, "signatures": list})
    message = lp(label, bytes.fromhex(roster_hash), canonical(document["payload"]))
    for entry, (name, key) in zip(document["signatures"], keys.items(), strict=True):
        members(entry, {"participant": name, "signature": str})
        Ed25519PublicKey.from_public_bytes(unb64(key, 32)).verify(unb64(entry["signature"], 64), message)
    return document["payload"]


def read_roster(raw):  # section 3
    people = (roster := parse(raw))["participants"]
    members(roster, {"format": "mcbn-roster-v1", "network": NAME, "participants": list, "threshold": len(people)})
    names = [members(person, {"name": NAME, "consent_key": str, "release_key": str})["name"] for person in people]
    keys = {unb64(person[use], 32) for person in people for use in ("consent_key", "release_key")}
    require(sorted(set(names)) == names and len(keys) == 2 * len(people) >= 4, "not in order, or a key twice")
    return roster | {"hash": sha256(raw).hexdigest(), "names": names}


def read_manifest(raw, roster):  # section 3
    keys = {person["name"]: person["consent_key"] for person in roster["participants"]}
    manifest = signed_payload(parse(raw), b"mcbn/manifest/v1", roster["hash"], keys)
    since, until = manifest["valid_from"], manifest["valid_until"]
    wanted = {"format": "mcbn-manifest-v1", "roster_hash": roster["hash"], "epoch": POSITIVE, "lease_seconds": LEASE}
    wanted |= {"previous": None if manifest["epoch"] == 1 else HASH, "scheme": "hkdf-sha256", "channels": list}
    wanted |= {"valid_from": TIME, "valid_until": range(since + 1, since + 63244801), "kems": list}
    wanted |= {"overlap_seconds": range(until - since + 1), "roles": {"client": dict, "server": dict}}
    wanted |= {"commitments": dict.fromkeys(keys, HASH), "brokers": dict.fromkeys(keys, dict)}
    members(manifest, wanted | {name: type(manifest[name]) for name in OPTIONAL & manifest.keys()})
    require(len(set(manifest["commitments"].values())) == len(keys) and "tls13-psk" in manifest["channels"], "terms")
    return manifest | {"hash": sha256(canonical(manifest)).hexdigest()}


def ask(http, method, url, body=None, limit=65536):
    with http.stream(method, url, json=body) as response:
        answer = b""
        for chunk in response.iter_raw():
            answer += chunk
            require(len(answer) <= limit, "the answer is too large")
    return response.status_code, answer


def release(options, http, roster, manifest, name):  # sections 4 to 6
    """Return this broker's share, and what to tell of it; or no share, and the refusal that it signed."""
    index = roster["names"].index(name) + 1
    url, kem, signer = options.urls[name], options.kem, {name: roster["participants"][index - 1]["release_key"]}
    asked: dict = {"role": options.role, "manifest_hash": manifest["hash"]}
    status, answer = ask(http, "POST", f"{url}/v1/challenges", asked)
    require(status == 200, f"no challenge: status {status}")
    challenge = members(json.loads(answer), {"challenge": str, "expires_at": TIME})["challenge"]
    unb64(challenge, 41)
    x25519, mlkem = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
    public, first = x25519.public_key().public_bytes_raw(), mlkem.public_key().public_bytes_raw()
    pairs: dict = {"x25519": (x25519, public)}
    pairs["mlkem768-x25519"] = (hpke.MLKEM768X25519PrivateKey(mlkem, x25519), first + public)
    private, public = pairs[kem]
    roster_hash, manifest_hash = bytes.fromhex(roster["hash"]), bytes.fromhex(manifest["hash"])
    request = (name.encode(), options.role.encode(), manifest_hash, challenge.encode(), kem.encode(), public)
    binding = sha256(lp(b"mcbn/binding/v1", roster_hash, *request)).digest()
    please = {"audience": f"mcbn:v1:{roster['hash']}:{name}", "token_type": "OIDC", "nonces": [challenge, b64(binding)]}
    with httpx.Client(transport=httpx.HTTPTransport(uds=options.launcher), timeout=30) as launcher:
        jwt = launcher.post("http://localhost/v1/token", json=please).raise_for_status().text
    body = asked | {"challenge": challenge, "evidence": {"kind": "confidential-space", "token": jwt}}
    body |= {"kem": kem, "recipient_key": b64(public), "audit_heads": []}
    status, answer = ask(http, "POST", f"{url}/v1/releases", body)
    wanted = asked | {"roster_hash": roster["hash"], "participant": name, "binding": b64(binding), "issued_at": TIME}
    if status != 200:
        refusal = signed_payload(json.loads(answer)["refusal"], b"mcbn/refusal/v1", roster["hash"], signer)
        check = None if refusal["check"] is None else CHECK
        members(refusal, wanted | {"challenge": challenge, "code": str, "check": check, "correlation_id": str})
        return None, {"refused": refusal["code"], "check": refusal["check"]}
    wanted |= {"epoch": manifest["epoch"], "share_index": index, "kem": kem, "sealed_share": str}
    wanted |= {"audit_sequence": POSITIVE, "audit_hash": HASH, "lease_seconds": range(1, manifest["lease_seconds"] + 1)}
    given = members(signed_payload(parse(answer), b"mcbn/release/v1", roster["hash"], signer), wanted)
    require(-300 <= time.time() - given["issued_at"] < given["lease_seconds"], "its lease is not of the present")
    epoch, (kem_id, size) = given["epoch"].to_bytes(8, "big"), KEMS[kem]
    info = lp(b"mcbn/seal/v1", binding) + epoch + index.to_bytes(4, "big")
    suite = hpke.Suite(kem_id, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    share = suite.decrypt(unb64(given["sealed_share"], size), private, info)
    committed = lp(b"mcbn/commit/v1", roster["network"].encode(), name.encode()) + epoch + lp(share)
    require(sha256(committed).hexdigest() == manifest["commitments"][name], "not the share committed to")
    told = {"epoch": given["epoch"], "lease": given["lease_seconds"], "share_sha256": sha256(share).hexdigest()}
    return share, told


def keys(manifest, shares):  # section 8
    sequence = (part for name, share in sorted(shares.items()) for part in (name.encode(), share))
    secret = hmac.digest(b"mcbn/combine/all-of-n/v1", len(shares).to_bytes(4, "big") + lp(*sequence), "sha256")
    context, epoch = bytes.fromhex(manifest["hash"]), manifest["epoch"].to_bytes(8, "big")
    key_check = hmac.digest(secret, lp(b"mcbn/v1", b"key-check", context) + epoch + b"\x01", "sha256")
    identity = sha256(lp(b"mcbn/psk-identity/v1", context) + epoch + lp(b"client>server/tls13-psk")).digest()
    return {"key_check": key_check.hex(), "identity": f"mcbn1.{b64(identity[:16])}"}


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--role", default="client")
    parser.add_argument("--kem", choices=KEMS, default="x25519")
    parser.add_argument("--launcher", default="/run/container_launcher/teeserver.sock")
    parser.add_argument("roster", type=Path)
    parser.add_argument("urls", nargs="+", metavar="NAME=URL")
    options = parser.parse_args()
    options.urls = dict(url.split("=", 1) for url in options.urls)
    results: dict = {}
    with httpx.Client(timeout=30, trust_env=False, headers={"Accept-Encoding": "identity"}) as http:
        roster = read_roster(options.roster.read_bytes())
        _, answer = ask(http, "GET", f"{next(iter(options.urls.values()))}/v1/manifest", limit=524288)
        manifest = read_manifest(answer, roster)
        for name in options.urls:
            try:
                results[name] = release(options, http, roster, manifest, name)
            except INVALID as error:
                results[name] = (None, {"no_valid_answer": f"{type(error).__name__}: {error}"})
    shares = {name: share for name, (share, _) in results.items() if share}
    derived = keys(manifest, shares) if len(shares) == len(roster["participants"]) else {}
    print(json.dumps({"participants": {name: told for name, (_, told) in results.items()}} | derived))  # noqa: T201  output
    raise SystemExit(len(shares) != len(results))


if __name__ == "__main__":
    try:
        main()
    except INVALID as error:
        raise SystemExit(f"refused: {type(error).__name__}: {error}") from None
