"""The command lines of the original sample, what each does when it meets our end, and the table of them for people."""

import subprocess
from typing import Final, NamedTuple

BEGIN: Final = "<!-- Made by `make interop` from its own run: do not edit up to the other mark. -->\n"
END: Final = "<!-- The end of what `make interop` makes. -->\n"


class Line(NamedTuple):
    """One line as the sample has it, and the one to write instead.

    Attributes:
        name: How tests call it.
        sample: The line. Tests run it, with another port.
        said: What the program prints when it meets our end; a regular expression.
        shown: The same in words.
        instead: The line that reaches our end; empty where the sample's own does.
        why: Why another one is needed.
    """

    name: str
    sample: str
    said: str
    shown: str
    instead: str = ""
    why: str = ""


_ASCII: Final = "`$PSK_HEX` is the 64 ASCII characters, as a key; ours is the 32 bytes, `$PSK`"
_IDENTITY: Final = "without `-psk_identity` it says `Client_identity`"

OUR_SERVER: Final = (
    Line(
        "s_client",
        "openssl s_client -psk $PSK -psk_identity Client1 -connect localhost:8081 -tls1_3",
        r"Reused, TLSv1\.3, Cipher is TLS_CHACHA20_POLY1305_SHA256",
        "is served: TLS 1.3, TLS_CHACHA20_POLY1305_SHA256",
    ),
    Line(
        "s_client-ascii",
        "openssl s_client -psk $PSK_HEX -tls1_3 -connect localhost:8081",
        "alert handshake failure",
        "refused",
        "openssl s_client -psk $PSK -psk_identity Client1 -tls1_3 -connect localhost:8081",
        f"{_ASCII}; {_IDENTITY}",
    ),
    Line(
        "s_client-trace",
        "openssl s_client -psk $PSK_HEX -connect localhost:8081 -tls1_3 -tlsextdebug -trace",
        "Level=fatal.*description=handshake failure",
        "refused",
        "openssl s_client -psk $PSK -psk_identity Client1 -connect localhost:8081 -tls1_3 -tlsextdebug -trace",
        "the same two",
    ),
    Line(
        "s_client-dtls",
        "openssl s_client -dtls1_2 -psk_identity Client1 -connect 127.0.0.1:8081 -psk $PSK -cipher PSK-AES128-CCM8"
        " -keylogfile=dtls_keylog.log",
        r"New, TLSv1\.2, Cipher is PSK-AES128-CCM8",
        "is served: DTLS 1.2, PSK-AES128-CCM8",
    ),
)

OUR_CLIENT: Final = (
    Line(
        "s_server",
        "openssl s_server -psk $PSK_HEX -nocert -accept 8081 -tls1_3 -www",
        "no suitable signature algorithm",
        "refused",
        "openssl s_server -psk $PSK -psk_identity Client1 -nocert -accept 8081 -tls1_3 -www",
        f"{_ASCII}; {_IDENTITY}, and warns of ours",
    ),
    Line(
        "s_server-trace",
        "openssl s_server -psk $PSK_HEX -nocert -accept 8081 -tls1_3 -tlsextdebug -trace -www",
        "no suitable signature algorithm",
        "refused",
        "openssl s_server -psk $PSK -psk_identity Client1 -nocert -accept 8081 -tls1_3 -tlsextdebug -trace -www",
        "the same two",
    ),
    Line(
        "s_server-dtls",
        "openssl s_server -dtls1_2 -psk_identity Client1 -psk $PSK_HEX -cipher PSK-AES128-CCM8 -nocert -accept 8081",
        "ACCEPT",
        "is silent: over datagrams a wrong key is dropped",
        "openssl s_server -dtls1_2 -psk_identity Client1 -psk $PSK -cipher PSK-AES128-CCM8 -nocert -accept 8081",
        _ASCII,
    ),
)

LINES: Final = (*OUR_SERVER, *OUR_CLIENT)

_HEAD: Final = """\
| the sample's line | what it does when it meets our end | write instead | because |
|---|---|---|---|
"""


def table(version: str) -> str:
    """Return the table, as a run with this OpenSSL made it."""
    rows = "".join(
        f"| `{line.sample}` | {line.shown} | {f'`{line.instead}`' if line.instead else 'nothing else'} | {line.why} |\n"
        for line in LINES
    )
    return f"By {version}:\n\n{_HEAD}{rows}"


def openssl_version() -> str:
    """Return the name and version of the openssl that runs the lines."""
    said = subprocess.run(["openssl", "version"], capture_output=True, check=True, text=True).stdout
    return said.partition(" (")[0].strip()


def insert(page: str, made: str) -> str:
    """Return a page with another table between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert (begin, end) == (BEGIN, END), "the page has lost its two marks: put them back, on lines of their own"
    return f"{before}{BEGIN}\n{made}\n{END}{after}"
