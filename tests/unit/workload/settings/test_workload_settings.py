"""The configuration file is strict, and the environment is a closed table."""

import ast
import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import mcbn_workload
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import ChannelKind
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.settings import (
    BROKER_PREFIX,
    VARIABLES,
    ApplicationSettings,
    CertificateSettings,
    Deadlines,
    Settings,
    parse_address,
    require,
)

GOOD = """
role = "server"
roster = "roster.json"
channel = "tls13-psk"
engine = "pyopenssl"
forward = "127.0.0.1:8080"
"""


@pytest.fixture
def load(network, tmp_path):
    def run(text=GOOD, environment=None):
        return Settings.load(network.write_configuration(tmp_path, text), environment or {})

    return run


def test_a_whole_file(network, load):
    settings = load(GOOD + 'launcher_socket = "/run/l.sock"\n[deadlines]\ngather_seconds = 5\n')
    assert settings.role is Role.SERVER
    assert settings.roster == network.roster
    assert settings.forward == "127.0.0.1:8080"
    assert settings.listen is None
    assert settings.launcher_socket == Path("/run/l.sock")
    assert settings.deadlines == Deadlines(gather_seconds=5, request_seconds=10, handshake_seconds=4)


APPLICATION = GOOD + '[application]\ncommand = ["/app/main", "--fast"]\n'


def test_an_application(load):
    assert load().application is None
    assert load(APPLICATION).application == ApplicationSettings(command=("/app/main", "--fast"), environment={})
    settings = load(APPLICATION + '[application.environment]\nTZ = "UTC"\n')
    assert settings.application is not None
    assert settings.application.environment == {"TZ": "UTC"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "[application]\n", "command: required"),
        (GOOD + '[application]\ncommand = "/app/main"\n', "command: an array"),
        (GOOD + "[application]\ncommand = []\n", "command: an array"),
        (GOOD + '[application]\ncommand = ["main"]\n', "absolute path"),
        (GOOD + '[application]\ncommand = ["/app/main", 1]\n', "command"),
        (GOOD + '[application]\ncommand = ["/app/\\u0000main"]\n', "command"),
        (APPLICATION + "restart = true\n", "unknown member 'restart'"),
        (APPLICATION + '[application.environment]\n"1=" = ""\n', "variable's name"),
        (APPLICATION + "[application.environment]\nTZ = 1\n", "environment.TZ"),
    ],
)
def test_an_application_of_another_form_is_refused(load, text, said):
    with pytest.raises(ConfigurationError, match=said):
        load(text)


MUTUAL = GOOD.replace("tls13-psk", "mtls13")


def test_a_certificate_is_made_of_what_the_file_says(load, tmp_path):
    assert load(MUTUAL).mutual_tls == CertificateSettings()
    settings = load(MUTUAL + '[mutual_tls]\nca_certificate = "ca.pem"\nca_key = "/k/ca.key"\nnames = ["a.example"]\n')
    assert settings.channel is ChannelKind.MTLS13
    assert settings.mutual_tls == CertificateSettings(
        ca_certificate=tmp_path / "ca.pem", ca_key=Path("/k/ca.key"), names=("a.example",)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + '[mutual_tls]\nnames = ["a.example"]\n', "unknown member 'mutual_tls'"),
        (MUTUAL + '[mutual_tls]\nca_key = "ca.key"\n', "needs both"),
        (MUTUAL + '[mutual_tls]\nca_certificate = "ca.pem"\n', "needs both"),
        (MUTUAL + "[mutual_tls]\nnames = []\n", "names"),
        (MUTUAL + '[mutual_tls]\nnames = ["A.example"]\n', "names"),
        (MUTUAL + '[mutual_tls]\nnames = ["a..example"]\n', "names"),
        (MUTUAL + '[mutual_tls]\nnames = ["-a.example"]\n', "names"),
        (MUTUAL + f'[mutual_tls]\nnames = ["{"a." * 127}a"]\n', "names"),
        (MUTUAL + "[mutual_tls]\nserial = 1\n", "unknown member 'serial'"),
    ],
)
def test_a_certificate_of_another_make_is_refused(load, text, said):
    with pytest.raises(ConfigurationError, match=said):
        load(text)


def test_a_client_listens(load):
    settings = load(GOOD.replace("server", "client").replace("forward", "listen"))
    assert (settings.role, settings.listen) == (Role.CLIENT, "127.0.0.1:8080")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + 'proxy = "x"\n', "unknown member 'proxy'"),
        (GOOD + 'listen = "127.0.0.1:1"\n', "unknown member 'listen'"),
        (GOOD.replace('role = "server"\n', ""), "role: required member is missing"),
        (GOOD.replace("tls13-psk", "plain"), "channel"),
        (GOOD.replace("pyopenssl", "other"), "engine"),
        (GOOD + "[deadlines]\ngather_seconds = 1.5\n", "gather_seconds"),
        (GOOD + "[deadlines]\ngather_seconds = 0\n", "gather_seconds"),
        (GOOD + "[deadlines]\npatience = 1\n", "unknown member 'patience'"),
        (GOOD.replace("roster.json", "none.json"), "cannot read"),
        (GOOD.replace("roster.json", "workload.toml"), "not JSON"),
        ("role =", "workload.toml"),
        ("#" * 70_000, "larger than"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(load, text, said):
    with pytest.raises(ConfigurationError, match=said):
        load(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        Settings.load(tmp_path / "none.toml", {})


def test_the_whole_environment(load):
    operator = load(
        environment={
            "MCBN_LISTEN": "0.0.0.0:8443",
            "MCBN_CONNECT": "[2001:db8::1]:443",
            "MCBN_MANIFEST": "/run/bundle.json",
            "MCBN_LOG_LEVEL": "DEBUG",
            "MCBN_BROKER_BOB": "https://bob.example:8443",
            "MCBN_BROKER_DAVE": "https://dave.example",
        }
    ).operator
    assert operator.listen == ("0.0.0.0", 8443)  # noqa: S104  # an example
    assert operator.connect == ("2001:db8::1", 443)
    assert operator.manifest == "/run/bundle.json"
    assert operator.log_level == "DEBUG"
    assert operator.brokers == {"bob": "https://bob.example:8443"}


def test_a_dash_in_a_name_is_an_underscore(make_network, tmp_path):
    path = make_network(("big-corp", "bob")).write_configuration(tmp_path, GOOD)
    settings = Settings.load(str(path), {"MCBN_BROKER_BIG_CORP": "https://b.example"})
    assert settings.operator.brokers == {"big-corp": "https://b.example"}


def test_an_empty_variable_counts_as_not_set(load):
    operator = load(environment=dict.fromkeys([*VARIABLES, "MCBN_BROKER_BOB"], "")).operator
    assert (operator.listen, operator.manifest, operator.log_level, operator.brokers) == (None, None, "INFO", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MCBN_LISTEN", "8443"),
        ("MCBN_LISTEN", "host:99999"),
        ("MCBN_CONNECT", "a b:1"),
        ("MCBN_LOG_LEVEL", "TRACE"),
        ("MCBN_BROKER_BOB", "ftp://bob.example"),
        ("MCBN_BROKER_BOB", "https://user:secret@bob.example"),
        ("MCBN_BROKER_BOB", "https://bob.example:99999"),
        ("MCBN_BROKER_BOB", "https://256.1.1.1"),
        ("MCBN_BROKER_BOB", "https://[:::]"),
        ("MCBN_MANIFEST", "bundle.json"),
        ("MCBN_MANIFEST", "ftp://bob.example"),
        ("MCBN_MANIFEST", "https://bob.example:99999/x"),
        ("MCBN_CONNECT", "a..b:1"),
        ("MCBN_LISTEN", "a" * 64 + ":1"),
        ("MCBN_LISTEN", "\udcff:1"),
    ],
)
def test_a_variable_of_the_wrong_form_is_named(load, name, value):
    with pytest.raises(ConfigurationError, match=name):
        load(environment={name: value})


LOOPBACK = [
    "http://127.0.0.1:8080/admin", "https://127.0.0.1:8443", "http://[::1]:8080", "https://localhost",
    "https://0.0.0.0:1", "https://[::ffff:7f00:1]", "http://broker.example",
]  # fmt: skip


@pytest.mark.parametrize("name", ["MCBN_MANIFEST", "MCBN_BROKER_BOB"])
@pytest.mark.parametrize("url", LOOPBACK)
def test_the_operator_cannot_send_requests_into_the_plaintext_end(load, name, url):
    with pytest.raises(ConfigurationError, match=rf"{name}: a loopback address.*insecure_loopback_brokers = true"):
        load(environment={name: url})


@pytest.mark.parametrize("url", LOOPBACK)
def test_an_image_for_one_machine_may_say_otherwise(load, url):
    text = GOOD + "insecure_loopback_brokers = true\n"
    settings = load(text, {"MCBN_MANIFEST": url, "MCBN_BROKER_BOB": url})
    assert (settings.operator.manifest, settings.operator.brokers) == (url, {"bob": url})
    assert settings.insecure_loopback_brokers


@pytest.mark.parametrize("text", ["::1:80", "[::1]", "host", ":80", "host:", "host:٣"])
def test_addresses_of_another_form(text):
    with pytest.raises(ConfigurationError):
        parse_address(text)


def test_a_setting_that_a_command_needs():
    assert require(("h", 1), "MCBN_LISTEN") == ("h", 1)
    with pytest.raises(ConfigurationError, match="MCBN_LISTEN is not set"):
        require(None, "MCBN_LISTEN")


def test_an_image_plays_one_role(load):
    with pytest.raises(ConfigurationError, match="role server"):
        load().require_role(Role.CLIENT)


class Recording(Mapping):
    def __init__(self):
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        raise KeyError(name)

    def __iter__(self):
        raise AssertionError("the environment is enumerated")

    def __len__(self):
        return 0


def test_no_other_variable_is_read(network, tmp_path):
    environment = Recording()
    Settings.load(network.write_configuration(tmp_path, GOOD), environment)
    assert environment.read == {*VARIABLES, *(BROKER_PREFIX + name.upper() for name in network.names)}


def test_only_the_settings_know_the_environment():
    """`os.environ` occurs once, and no variable is named outside of the table."""
    package = Path(mcbn_workload.__file__).parent
    uses, names = [], set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute | ast.Name | ast.alias):
                name = {ast.Attribute: "attr", ast.Name: "id", ast.alias: "name"}[type(node)]
                if re.fullmatch("environ|environb|getenv|getenvb|expandvars|expanduser", getattr(node, name)):
                    uses.append(path.relative_to(package).as_posix())
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(r"MCBN_[A-Z_]+", node.value))
    assert uses == ["settings.py"]
    assert names == {*VARIABLES, BROKER_PREFIX}
    assert inspect.signature(Settings.load).parameters["environment"].default is os.environ
