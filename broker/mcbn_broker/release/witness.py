"""Other participants' signed audit heads, which a workload brings along: our audit keeps them as a witness."""

from mcbn_broker.errors import Refused
from mcbn_protocol.encoding import JsonObject, JsonValue
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.messages import AuditHead
from mcbn_protocol.refusals import REFUSAL_CODES
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope


def witness(unverified_heads: tuple[Envelope, ...], *, participant: str, roster: Roster) -> JsonObject:
    """Verify audit heads, and return what a record keeps: the signed heads, at most one of each other participant.

    Raises:
        Refused: `malformed`: a head that does not verify, our own, or two of one participant.
    """
    try:
        heads = [AuditHead.from_envelope(one, roster=roster) for one in unverified_heads]
    except ProtocolError as error:
        raise _malformed(str(error)) from error
    names = [head.participant for head in heads]
    if len(set(names)) != len(names) or participant in names:
        raise _malformed("one head of each other participant is expected at most")
    kept: list[JsonValue] = [one.to_json() for one in unverified_heads]
    return {"witnessed_heads": kept}


def _malformed(detail: str) -> Refused:
    return Refused(REFUSAL_CODES["malformed"], detail=f"audit_heads: {detail}")
