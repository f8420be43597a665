"""The two programs of docs/how-to/http-over-a-channel.md, as they stand there, over a real channel."""

import asyncio

from mcbn_workload.settings import Settings

PAGE = "docs/how-to/http-over-a-channel.md"


async def application(scope, receive, send):
    """Answer with the path, and that a key was proved."""
    await receive()
    text = f"{scope['path']} to {scope['extensions']['mcbn']['identity'].partition('.')[0]}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def test_they_talk(machine, page_program, listening_port, capsys):
    def settings(role, **variables):
        return Settings.load(machine.configuration(role), machine.environment(**variables))

    server = asyncio.create_task(
        page_program(PAGE, "listen(")(application, settings("server", MCBN_LISTEN="127.0.0.1:0"))
    )
    await asyncio.wait([listening_port, server], return_when=asyncio.FIRST_COMPLETED)
    client = settings("client", MCBN_CONNECT=f"127.0.0.1:{listening_port.result()}")
    await page_program(PAGE, "connect(")(client)
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    assert capsys.readouterr().out == "/ to mcbn1\n"
