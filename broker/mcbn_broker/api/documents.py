"""The messages of the release API as pydantic models, for the OpenAPI document; `mcbn_protocol` reads the real ones."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from mcbn_protocol import limits
from mcbn_protocol.binding import CHALLENGE
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.refusals import REFUSAL_CODES
from mcbn_protocol.sealing import Kem

REFERENCES: Final = "#/components/schemas/{model}"

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="32 bytes, lower-case hex")]
Base64url = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", description="base64url without padding")]
Seconds = Annotated[int, Field(ge=0, le=limits.TIME_MAX, description="Unix seconds")]
ChallengeText = Annotated[str, Field(pattern=f"^{CHALLENGE.pattern}$")]


class Document(BaseModel):
    """A message without unknown members."""

    model_config = ConfigDict(extra="forbid")


class Signature(Document):
    """One participant's Ed25519 signature."""

    participant: str
    signature: Base64url


class SignedDocument(Document):
    """A payload and its signatures; `docs/protocol.md` says what each payload holds and how it is signed."""

    payload: dict[str, Any]
    signatures: list[Signature]


class ChallengeRequest(Document):
    """Asks for a challenge: which role, under which manifest."""

    role: Role
    manifest_hash: Hash


class Challenge(Document):
    """A challenge, and when it expires."""

    challenge: ChallengeText
    expires_at: Seconds


class Evidence(Document):
    """What attests the workload: a compact JWS whose nonces are the challenge and the binding."""

    kind: EvidenceKind
    token: Annotated[str, Field(max_length=limits.TOKEN_CHARS)]


class ReleaseRequest(Document):
    """Answers a challenge with evidence, and names the key to which the share shall be sealed."""

    challenge: ChallengeText
    role: Role
    manifest_hash: Hash
    evidence: Evidence
    kem: Kem
    recipient_key: Base64url
    audit_heads: Annotated[list[SignedDocument], Field(max_length=limits.PARTICIPANTS)]


class Problem(Document):
    """A refusal (RFC 9457); `refusal` is the signed part, which is there once the challenge was found to be ours."""

    type: str
    title: str
    status: int
    code: Annotated[str, Field(json_schema_extra={"enum": sorted(REFUSAL_CODES)})]
    check: str | None
    correlation_id: str
    refusal: SignedDocument | None = None


DOCUMENTS: Final[Sequence[type[Document]]] = (ChallengeRequest, Challenge, ReleaseRequest, SignedDocument, Problem)


def schemas() -> Mapping[str, Any]:
    """Return the JSON schema of each model, and of those within them, by name."""
    _by_model, collected = models_json_schema([(one, "validation") for one in DOCUMENTS], ref_template=REFERENCES)
    return dict(collected["$defs"])


def operation(*, answer: type[Document], asks: type[Document] | None = None) -> dict[str, Any]:
    """Return what OpenAPI says of one operation's bodies.

    Args:
        answer: What a good request gets.
        asks: What a request holds, if it has a body.
    """
    said: dict[str, Any] = {
        "responses": {
            "200": {"description": "Done", "content": _content("application/json", answer)},
            "default": {"description": "Refused", "content": _content("application/problem+json", Problem)},
        }
    }
    if asks is not None:
        said["requestBody"] = {"required": True, "content": _content("application/json", asks)}
    return said


def _content(media_type: str, document: type[Document]) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": REFERENCES.format(model=document.__name__)}}}
