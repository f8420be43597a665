"""How three participants come to an agreement, with the commands that participants use; files travel through `post`."""

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.images import image_digest, machine_for, reference_for
from mcbn_simulator.demo.participants import Participant
from mcbn_simulator.demo.processes import DemoError
from mcbn_simulator.demo.terms import LEASE_SECONDS, terms_text
from mcbn_simulator.demo.together import together
from mcbn_simulator.machine import SimulatedMachine

NETWORK = "demo"
_PASSPHRASE = ("--passphrase-file", "passphrase")


class Ceremony:
    """The steps, in their order. The first participant's commands are shown; the others type the same.

    Args:
        participants: In any order.
        post: Where what they send to each other lies.
    """

    def __init__(self, participants: Sequence[Participant], post: Path) -> None:
        self._all = participants
        self._first = participants[0]
        self._post = post

    async def introduce(self) -> bytes:
        """Keys, cards and the roster; returns the roster's bytes, which everybody has built alike.

        Raises:
            DemoError: A command fails, or two rosters differ.
        """
        await self._each(self._make_card)
        await self._each(self._build_roster)
        rosters = {(one.desk / "roster.json").read_bytes() for one in self._all}
        if len(rosters) != 1:
            raise DemoError("The participants built different rosters from the same cards.")
        return rosters.pop()

    async def agree(self, terms: str) -> None:
        """Shares, the manifest, everybody's signature, and consent.

        Args:
            terms: What `terms.toml` says.

        Raises:
            DemoError: A command fails.
        """
        await self._each(self._make_share)
        (self._post / "terms.toml").write_text(terms, encoding="utf-8")
        await self._first.types(
            *("manifest", "draft", "--roster", "roster.json", "--terms", "../post/terms.toml"),
            *("--cards", *self._sent("participant"), "--commitments", *self._sent("commitment")),
            *("--out", "../post/manifest.json"),
        )
        await self._each(self._sign)
        await self._first.types(
            *("manifest", "bundle", "../post/manifest.json", *self._sent("signature")),
            *("--roster", "roster.json", "--out", "../post/bundle.json"),
        )
        await self._each(self._accept)

    async def agree_on_two_images(
        self, issuer: str, *, lease_seconds: int = LEASE_SECONDS
    ) -> tuple[bytes, dict[Role, SimulatedMachine]]:
        """All of it, for one server and one client.

        Args:
            issuer: The simulated attestation service.
            lease_seconds: How long a lease lasts.

        Returns:
            The roster's bytes, and the VM of each role.
        """
        roster = await self.introduce()
        machines = {
            role: machine_for(role, role.value, number, image_digest(role, roster))
            for number, role in enumerate(Role, start=1)
        }
        names = [one.name for one in self._all]
        references = {
            role: reference_for(role, machine, issuer=issuer, participants=names) for role, machine in machines.items()
        }
        await self.agree(terms_text(references, lease_seconds=lease_seconds))
        return roster, machines

    async def _make_card(self, one: Participant, *, shown: bool) -> None:
        init = ("init", "--network", NETWORK, "--name", one.name, "--url", one.url, "--create-kek")
        await one.types(*init, shown=shown)
        await one.types("consent-key", "new", "--out", _key(one), *_PASSPHRASE, shown=shown)
        card = ("card", "--consent-key", _key(one), *_PASSPHRASE, "--out", _sent(one, "participant"))
        await one.types(*card, shown=shown)

    async def _build_roster(self, one: Participant, *, shown: bool) -> None:
        await one.types("roster", "build", *self._sent("participant"), "--out", "roster.json", shown=shown)

    async def _make_share(self, one: Participant, *, shown: bool) -> None:
        words = ("share", "new", "--roster", "roster.json", "--yes")
        await one.types(*words, "--out", _sent(one, "commitment"), shown=shown)

    async def _sign(self, one: Participant, *, shown: bool) -> None:
        await one.types(
            *("manifest", "sign", "../post/manifest.json", "--roster", "roster.json"),
            *("--consent-key", _key(one), *_PASSPHRASE, "--commitment", _sent(one, "commitment")),
            *("--yes", "--out", _sent(one, "signature")),
            shown=shown,
        )

    async def _accept(self, one: Participant, *, shown: bool) -> None:
        await one.types("manifest", "accept", "../post/bundle.json", shown=shown)
        await one.types("consent", "allow", shown=shown)

    async def _each(self, step: Callable[..., Coroutine[Any, Any, None]]) -> None:
        await together(*(step(one, shown=one is self._first) for one in self._all))

    def _sent(self, kind: str) -> list[str]:
        return [_sent(one, kind) for one in self._all]


def _sent(one: Participant, kind: str) -> str:
    """Where a participant puts a file for the others, as seen from anybody's folder."""
    return f"../post/{one.name}.{kind}.json"


def _key(one: Participant) -> str:
    return f"{one.name}.consent-key.json"
