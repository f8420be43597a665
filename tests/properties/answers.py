"""What every answer of a broker must be, whatever was asked."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import Problem
from tests.properties.asgi import Answer
from tests.properties.property_lab import (
    JSON,
    Alice,
    Asked,
    Logged,
    Time,
    machine,
    network,
    prepare,
    scratch_folder,
)
from tests.properties.watched_audit import Chain

PROBLEM = "application/problem+json"


class OpenBroker:
    """Alice's broker with consent, and all that must hold of what it says."""

    def __init__(self, alice: Alice, runner: asyncio.Runner, logged: Logged) -> None:
        self.alice = alice
        self.chain = Chain(alice)
        self._runner = runner
        self._logged = logged
        self._secrets = {name: _forms(value) for name, value in alice.secrets().items()}

    def run(self, awaitable: Any) -> Any:
        return self._runner.run(awaitable)

    def prepare(self, number: int = 1) -> Asked:
        """A right request for a fresh challenge."""
        manifest_hash = network().first.hash
        challenge = self.run(self.alice.challenge(Role.CLIENT, manifest_hash))
        vm = machine(Role.CLIENT, number)
        return prepare(challenge, Role.CLIENT, manifest_hash, vm=vm, now=self.alice.time.now)

    def post(self, asked: Any) -> Answer:
        """Send a release request and check its answer."""
        answer: Answer = self.run(self.alice.post("/v1/releases", asked.to_bytes()))
        self.check(answer)
        return answer

    def check(self, answer: Answer) -> Problem | None:
        """Check an answer and what was logged and recorded meanwhile; return the problem, if it is one."""
        self._check_secrets(answer)
        self.chain.catch_up()
        if answer.status == 200:
            assert answer.headers["content-type"] == JSON
            return None
        assert answer.headers["content-type"] == PROBLEM, answer
        problem = Problem.parse(answer.body)
        assert answer.status == problem.reason.status < 500
        assert answer.headers["x-correlation-id"] == problem.correlation_id
        return problem

    def _check_secrets(self, answer: Answer) -> None:
        said = answer.body + repr(answer.headers).encode() + self._logged.text().encode("utf-8", "replace")
        for name, forms in self._secrets.items():
            assert not any(form in said for form in forms), f"the {name} was said"

    def releases(self) -> int:
        return len(self.chain.of_kind("release"))


def _forms(value: bytes) -> tuple[bytes, ...]:
    return (value, value.hex().encode(), b64u_encode(value).encode(), repr(value)[2:-1].encode())


@contextmanager
def open_broker(logged: Logged) -> Iterator[OpenBroker]:
    """A broker of its own for one test; its whole audit is verified at the end."""
    with asyncio.Runner() as runner:
        alice = Alice(scratch_folder(), Time())
        alice.start()
        alice.store.allow()
        yield OpenBroker(alice, runner, logged)
        alice.store.verify_audit()
        runner.run(alice.stop())
        alice.release_file()
        alice.discard()
