"""A broker's audit as it lies in the file, verified by somebody who knows the document and not the broker's code."""

import hashlib
import json
from typing import Any

from tests.properties.property_lab import Alice


def lp(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


class Chain:
    """The audit as it lies in the file, verified record by record by somebody who only knows the document."""

    def __init__(self, alice: Alice) -> None:
        self._alice = alice
        self.reread()

    def reread(self) -> None:
        """Begin anew at the first record: the database was replaced."""
        self.records: dict[int, tuple[bytes, dict[str, Any]]] = {}
        self.catch_up()

    @property
    def end(self) -> int:
        return len(self.records)

    def catch_up(self) -> None:
        """Verify what was added."""
        for sequence, record, chain_hash in self._alice.rows(self.end):
            previous = self.records[self.end][0] if self.records else bytes(32)
            content = json.loads(record)
            assert (sequence, content["sequence"], content["previous"]) == (self.end + 1, sequence, previous.hex())
            assert hashlib.sha256(lp(b"mcbn/audit-record/v1") + lp(previous) + lp(record)).digest() == chain_hash
            self.records[sequence] = (chain_hash, content)

    def of_kind(self, kind: str) -> list[tuple[int, bytes, dict[str, Any]]]:
        return [(number, value, one) for number, (value, one) in self.records.items() if one["kind"] == kind]

    def check_consent(self) -> None:
        """Check that each release lies behind an allowance, with no pause and no new life in between."""
        allowed = False
        for _, content in self.records.values():
            if content["kind"] == "release":
                assert allowed, f"record {content['sequence']} is a release without consent"
            elif content["kind"] in {"consent_allowed", "consent_paused", "incarnation"}:
                allowed = content["kind"] == "consent_allowed"
