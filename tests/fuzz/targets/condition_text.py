"""A condition in CEL, of any text: it compiles or is refused, and then it is total."""

from contextlib import suppress

from mcbn_broker.appraisal.conditions import ConditionError, compile_condition
from mcbn_broker.appraisal.findings import Finding
from tests.fuzz.tokens import CLAIM_WORDS, claims

MAX_BYTES = 2100
CLAIMS = claims()
CONDITIONS = (
    "assertion.swname == 'CONFIDENTIAL_SPACE' && 'STABLE' in assertion.submods.confidential_space.support_attributes",
    "assertion.google_service_accounts.all(a, a.endsWith('@operator.iam.gserviceaccount.com'))",
    "has(assertion.submods.gce) && assertion.submods.gce.zone.startsWith('europe-')",
    "assertion.submods.container.env.exists(k, k.matches('^MCBN_.*')) ? true : size(assertion.aud) > 3",
    "timestamp(assertion.iat) < timestamp('2030-01-01T00:00:00Z') || duration('1h') > duration('1s')",
    "type(assertion.oemid) == int && assertion.oemid * 2 - 1 % 7 > 0x10u && !(1.5e3 < 2.0)",
    "assertion['iss'].split('/')[2].lowerAscii().trim() == r'issuer' || b'x' == bytes('x')",
    "{'a': [1, 2u, null]}['a'].map(x, dyn(x)).size() == 3",
)
WORDS = (
    *(word.encode() for text in CONDITIONS for word in text.replace("(", " ( ").replace(".", " . ").split()),
    *(b"assertion", b".filter(", b".exists_one(", b"'''", b"//", b"\\u{110000}", b"\\777", b"9223372036854775808"),
    *CLAIM_WORDS,
)


def seeds() -> list[bytes]:
    return [text.encode() for text in CONDITIONS]


def target(data: bytes) -> None:
    with suppress(ConditionError):
        condition = compile_condition(data.decode("utf-8", "replace"))
        for claimed in (CLAIMS, {}):
            finding = condition.judge(claimed)
            assert isinstance(finding, Finding)
            assert type(finding.passed) is bool
            assert isinstance(finding.found, str) or isinstance(finding.found(), str)
