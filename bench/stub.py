"""Stub brokers: one process with a listener for each, whose answers are genuine and wait for 50 ms."""

import asyncio
import json
import os
import socket
import sys
from typing import Final

from bench.agreement import Party, agree, now, roster_of
from bench.load import content_length

from mcbn_protocol.binding import binding_hash
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.limits import CHALLENGE_BYTES
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import Challenge, Release, ReleaseRequest
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import Kem, seal, seal_info

WAIT_SECONDS: Final = 0.05
_ISSUER: Final = "http://127.0.0.1:9"


class Stub:
    """One participant's broker. It believes everything."""

    def __init__(self, party: Party, agreed: AgreedManifest, roster: Roster) -> None:
        self._party = party
        self._agreed = agreed
        self._roster = roster
        self._answers = {
            b"/v1/challenges": self._challenge,
            b"/v1/releases": self._release,
            b"/v1/manifest": self._manifest,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it is closed."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _method, path, _version = head.split(b"\r\n", 1)[0].split(b" ")
                body = self._answers[path](await reader.readexactly(content_length(head)))
                await asyncio.sleep(WAIT_SECONDS)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                    + body
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _challenge(self, _body: bytes) -> bytes:
        return Challenge(b64u_encode(os.urandom(CHALLENGE_BYTES)), now() + 120).to_bytes()

    def _manifest(self, _body: bytes) -> bytes:
        return self._agreed.bundle

    def _release(self, body: bytes) -> bytes:
        asked = ReleaseRequest.parse(body)
        manifest, name = self._agreed.manifest, self._party.name
        binding = binding_hash(
            roster_hash=self._roster.hash,
            participant=name,
            role=asked.role,
            manifest_hash=asked.manifest_hash,
            challenge=asked.challenge,
            kem=asked.kem,
            recipient_key=asked.recipient_key,
        )
        index = self._roster.share_index(name)
        info = seal_info(binding, manifest.epoch, index)
        release = Release(
            roster_hash=self._roster.hash,
            participant=name,
            epoch=manifest.epoch,
            manifest_hash=asked.manifest_hash,
            role=asked.role,
            share_index=index,
            kem=asked.kem,
            binding=binding,
            issued_at=now(),
            lease_seconds=manifest.lease_seconds,
            audit_sequence=1,
            audit_hash=bytes(32),
            sealed_share=seal(asked.kem, asked.recipient_key, info=info, share=self._party.share),
        )
        return release.sign(self._party.release_key).to_bytes()


async def _serve_all(count: int) -> None:
    parties = [Party.fresh(f"p{number}") for number in range(count)]
    listeners = {one.name: socket.create_server(("127.0.0.1", 0)) for one in parties}
    urls = {name: f"http://127.0.0.1:{listener.getsockname()[1]}" for name, listener in listeners.items()}
    roster = roster_of(parties)
    agreed = agree(parties, roster, issuer=_ISSUER, urls=urls, kems=(Kem.MLKEM768_X25519,))
    servers = [await asyncio.start_server(Stub(one, agreed, roster).serve, sock=listeners[one.name]) for one in parties]
    said = {"event": "listening", "roster": roster.canonical_bytes.decode(), "bundle": agreed.bundle.decode()}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve_all(int(sys.argv[1])))
