"""The reference values of a role: what a Confidential Space token must say, as all participants agreed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, JsonValue
from mcbn_protocol.errors import ManifestError
from mcbn_protocol.fields import Fields

PRODUCTION_ISSUER: Final = "https://confidentialcomputing.googleapis.com"
GOOGLE_ROOT: Final = bytes.fromhex("148b293821bb0c6a317f413c8ba475814091cb22d49b9e3c94198db8e8f86c39")
"""SHA-256 of the root certificate (DER) that Google announces at `<issuer>/.well-known/attestation-pki-root`."""

DBGSTAT_PRODUCTION: Final = "disabled-since-boot"
SWNAME: Final = "CONFIDENTIAL_SPACE"
ANY_PROJECT: Final = "any"
HOSTNAME: Final = "HOSTNAME"

_ISSUER: Final = re.compile(r"https?://[A-Za-z0-9._~:\[\]-]{1,253}(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HWMODEL: Final = re.compile(r"GCP_AMD_SEV|GCP_AMD_SEV_ES|GCP_INTEL_TDX")
_DBGSTAT: Final = re.compile(rf"{DBGSTAT_PRODUCTION}|enabled")
_NUMBER: Final = re.compile(r"[0-9]{1,32}")
_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,128}@[A-Za-z0-9.-]{1,128}")
_RESTART: Final = re.compile(r"Always|OnFailure|Never")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ENV_PATTERN: Final = re.compile(r"[A-Za-z0-9._:/,@%+\[\]*-]{1,256}")
_HARMLESS: Final = re.compile(r"[A-Za-z0-9._:/,@%+\[\]-]*")
_WILDCARDS_MAX: Final = 4

_NEVER_FROM_OPERATOR: Final = re.compile(
    r"PYTHON.*|PERL.*|RUBY.*|NODE_.*|DOTNET_.*|CORECLR_.*|COR_.*|COMPLUS_.*|LUA_.*|PHPRC|.*JAVA.*OPTIONS|CLASSPATH|"
    r"GODEBUG|BASH_.*|BASHOPTS|SHELLOPTS|ENV|IFS|PS4|PROMPT_COMMAND|"
    r"LD_.*|GLIBC_.*|MALLOC_.*|GCONV_PATH|LOCPATH|NLSPATH|TZ|TZDIR|PATH|HOME|TMPDIR|TMP|TEMP|XDG_.*|"
    r"SSL_.*|SSLKEYLOGFILE|OPENSSL_.*|OSSL_.*|CTLOG_FILE|QLOGDIR|GNUTLS_.*|P11_KIT.*|KRB5_.*|.*_CA_BUNDLE|.*_PROXY|"
    r"HOSTNAME|HOSTALIASES|RES_OPTIONS|RESOLV_.*|LOCALDOMAIN",
    re.IGNORECASE,
)
"""Interpreter, loader, resolver, TLS and proxy variables: whoever sets one can change what the digest promises."""


class EvidenceKind(StrEnum):
    """Kinds of evidence that a role may list."""

    CONFIDENTIAL_SPACE = "confidential-space"


class SignatureAlgorithm(StrEnum):
    """Algorithms of container image signatures, as the token names them."""

    ECDSA_P256_SHA256 = "ECDSA_P256_SHA256"
    RSASSA_PSS_SHA256 = "RSASSA_PSS_SHA256"
    RSASSA_PKCS1V15_SHA256 = "RSASSA_PKCS1V15_SHA256"


@dataclass(frozen=True, order=True)
class ImageSigner:
    """A key that signs images, together with the only algorithm that is meant.

    Attributes:
        key_id: SHA-256 of the public key, 64 lower-case hex digits, as the token has it.
        algorithm: Its algorithm.
    """

    key_id: str
    algorithm: SignatureAlgorithm

    def to_json(self) -> JsonObject:
        """Return the manifest's form."""
        return {"key_id": self.key_id, "signature_algorithm": self.algorithm.value}


class SupportAttribute(StrEnum):
    """The lowest support attribute that a token's Confidential Space image must have. `none` only with debug images."""

    STABLE = "STABLE"
    USABLE = "USABLE"
    EXPERIMENTAL = "EXPERIMENTAL"
    NONE = "none"


@dataclass(frozen=True)
class ValueRule:
    """What one environment override may be: an exact value, or a pattern in which `*` stands for harmless characters.

    `*` matches any run, also an empty one, of letters, digits and `._:/,@%+[]-`; at most four of them.
    """

    text: str
    is_pattern: bool

    def admits(self, value: str) -> bool:
        """Whether the operator may set this value (at most 2,048 characters)."""
        if not self.is_pattern:
            return value == self.text
        if len(value) > limits.TEXT_CHARS or not _HARMLESS.fullmatch(value):
            return False
        return _glob(self.text, value)

    def to_json(self) -> JsonObject:
        """Return `{"value": ...}` or `{"pattern": ...}`."""
        return {"pattern" if self.is_pattern else "value": self.text}


def _glob(pattern: str, value: str) -> bool:
    # Taking each part at its leftmost place is right and needs no backtracking, which a regular expression would do.
    first, *rest = pattern.split("*")
    if not rest:
        return value == first
    *middle, last = rest
    if not value.startswith(first):
        return False
    position = len(first)
    for part in middle:
        found = value.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(value) - position >= len(last) and value.endswith(last)


@dataclass(frozen=True)
class ConfidentialSpaceReference:
    """Reference values for Confidential Space tokens; every member is compared with a claim of the token.

    Attributes:
        issuer: Who signs the tokens. Any issuer but Google's is a simulation.
        root: SHA-256 of a root certificate's DER, 32 bytes: only PKI tokens whose chain ends at it are meant. None:
            only OIDC tokens, verified by the issuer's published key set. Any root but Google's is a simulation.
        image_digests: `sha256:...` of the workload image; empty only where `image_signatures` decides alone.
        image_signatures: Keys of which one must have signed the image, or None for no such demand.
        hwmodels: Hardware models; GCP_SHIELDED_VM (no memory encryption) can never be listed.
        dbgstat: `disabled-since-boot`, or `enabled` together with `insecure_debug`.
        support_attribute: The lowest support attribute admitted.
        args: The container's arguments, exactly.
        env: The image's own environment, name to exact value, without HOSTNAME.
        env_override: Which variables the operator may set, and to what.
        restart_policies: Restart policies admitted.
        monitoring_memory: Whether memory monitoring is on.
        project_numbers: The operators' projects; empty stands for the explicit word `any`.
        instance_ids: Which VMs, or None for any.
        service_accounts: The whole list of the VM's service accounts, or None for any.
        insecure_debug: Whether a debug image is admitted.
    """

    issuer: str
    root: bytes | None
    image_digests: tuple[str, ...]
    image_signatures: tuple[ImageSigner, ...] | None
    hwmodels: tuple[str, ...]
    dbgstat: str
    support_attribute: SupportAttribute
    args: tuple[str, ...]
    env: Mapping[str, str]
    env_override: Mapping[str, ValueRule]
    restart_policies: tuple[str, ...]
    monitoring_memory: bool
    project_numbers: tuple[str, ...]
    instance_ids: tuple[str, ...] | None
    service_accounts: tuple[str, ...] | None
    insecure_debug: bool

    kind = EvidenceKind.CONFIDENTIAL_SPACE
    swname = SWNAME
    secboot = True

    def __post_init__(self) -> None:
        if not self.image_digests and not self.image_signatures:
            raise ManifestError("a reference value needs image_digests, or image_signatures instead of them")
        debug = self.dbgstat != DBGSTAT_PRODUCTION or self.support_attribute is SupportAttribute.NONE
        if debug != self.insecure_debug:
            raise ManifestError(
                "a role that admits a debug image (dbgstat enabled, or support attribute none) needs "
                '"insecure_debug": true, and no other role may have it'
            )

    @property
    def simulated(self) -> bool:
        """Whether issuer or root is anything but those of Google's attestation service."""
        return self.issuer != PRODUCTION_ISSUER or self.root not in (None, GOOGLE_ROOT)

    def to_json(self) -> JsonObject:
        """Return the manifest's form."""
        value: JsonObject = {
            "kind": self.kind.value,
            "issuer": self.issuer,
            "hwmodels": list(self.hwmodels),
            "dbgstat": self.dbgstat,
            "swname": self.swname,
            "secboot": self.secboot,
            "support_attribute": self.support_attribute.value,
            "args": list(self.args),
            "env": dict(self.env),
            "env_override": {name: rule.to_json() for name, rule in self.env_override.items()},
            "restart_policies": list(self.restart_policies),
            "monitoring_memory": self.monitoring_memory,
            "project_numbers": list(self.project_numbers) or ANY_PROJECT,
        }
        if self.image_digests:
            value["image_digests"] = list(self.image_digests)
        if self.image_signatures is not None:
            value["image_signatures"] = [one.to_json() for one in self.image_signatures]
        if self.root is not None:
            value["root"] = self.root.hex()
        if self.instance_ids is not None:
            value["instance_ids"] = list(self.instance_ids)
        if self.service_accounts is not None:
            value["service_accounts"] = list(self.service_accounts)
        if self.insecure_debug:
            value["insecure_debug"] = True
        return value

    @classmethod
    def from_json(cls, value: JsonValue, where: str) -> Self:
        """Read the manifest's form.

        Raises:
            MalformedError: Another shape; a variable that no operator may set.
            ManifestError: A debug image without `insecure_debug`.
        """
        with Fields(value, where) as fields:
            fields.exactly("kind", EvidenceKind.CONFIDENTIAL_SPACE)
            fields.exactly("swname", SWNAME)
            if not fields.boolean("secboot"):
                raise fields.fail("secboot", "must be true")
            return cls(
                issuer=fields.text("issuer", pattern=_ISSUER),
                root=fields.optional("root", fields.hash),
                image_digests=fields.optional("image_digests", lambda name: _set(fields, name, _DIGEST)) or (),
                image_signatures=fields.optional("image_signatures", lambda name: _signers(fields, name)),
                hwmodels=fields.text_set("hwmodels", minimum=1, pattern=_HWMODEL),
                dbgstat=fields.text("dbgstat", pattern=_DBGSTAT),
                support_attribute=fields.choice("support_attribute", SupportAttribute),
                args=fields.texts("args", minimum=1),
                env=_environment(fields),
                env_override=_overrides(fields),
                restart_policies=fields.text_set("restart_policies", minimum=1, pattern=_RESTART),
                monitoring_memory=fields.boolean("monitoring_memory"),
                project_numbers=_projects(fields),
                instance_ids=fields.optional("instance_ids", lambda name: _set(fields, name, _NUMBER)),
                service_accounts=fields.optional("service_accounts", lambda name: _set(fields, name, _EMAIL)),
                insecure_debug=fields.flag("insecure_debug"),
            )


def _signers(fields: Fields, name: str) -> tuple[ImageSigner, ...]:
    signers = tuple(_signer(one, fields.path(name)) for one in fields.array(name, minimum=1, maximum=limits.LIST_ITEMS))
    if list(signers) != sorted(set(signers)):
        raise fields.fail(name, "must be sorted by key_id, without repeats")
    return signers


def _signer(value: JsonValue, where: str) -> ImageSigner:
    with Fields(value, where) as fields:
        return ImageSigner(
            key_id=fields.hash("key_id").hex(), algorithm=fields.choice("signature_algorithm", SignatureAlgorithm)
        )


def _set(fields: Fields, name: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    return fields.text_set(name, minimum=1, pattern=pattern)


def _projects(fields: Fields) -> tuple[str, ...]:
    if fields.take_if("project_numbers", ANY_PROJECT):
        return ()
    return _set(fields, "project_numbers", _NUMBER)


def _named(fields: Fields, member: str) -> JsonObject:
    members = fields.object(member)
    if len(members) > limits.LIST_ITEMS or not all(_ENV_NAME.fullmatch(name) for name in members):
        raise fields.fail(member, f"at most {limits.LIST_ITEMS} environment variable names are expected")
    return members


def _environment(fields: Fields) -> dict[str, str]:
    result: dict[str, str] = {}
    for name, value in _named(fields, "env").items():
        if not isinstance(value, str) or len(value) > limits.TEXT_CHARS or name == HOSTNAME:
            raise fields.fail("env", f"{name} must be a string (HOSTNAME is Confidential Space's own: leave it out)")
        result[name] = value
    return result


def _overrides(fields: Fields) -> dict[str, ValueRule]:
    result: dict[str, ValueRule] = {}
    for name, value in _named(fields, "env_override").items():
        if _NEVER_FROM_OPERATOR.fullmatch(name):
            raise fields.fail(
                "env_override", f"{name} steers interpreter, loader, TLS or proxy: it can never be allowed"
            )
        result[name] = _rule(value, fields.path(f"env_override.{name}"))
    return result


def _rule(value: JsonValue, where: str) -> ValueRule:
    with Fields(value, where) as fields:
        if fields.has("value"):
            return ValueRule(fields.text("value"), is_pattern=False)
        text = fields.text("pattern", pattern=_ENV_PATTERN)
        if text.count("*") > _WILDCARDS_MAX:
            raise fields.fail("pattern", f"at most {_WILDCARDS_MAX} wildcards")
        return ValueRule(text, is_pattern=True)
