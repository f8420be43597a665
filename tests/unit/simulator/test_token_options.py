import pytest

from mcbn_simulator.errors import TokenOptionsError
from mcbn_simulator.token_options import TokenOptions

PARSE = "failed to parse POST body as TokenOptions: "
FIELD = PARSE + "json: cannot unmarshal {} into Go struct field TokenOptions.{} of type {}"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", PARSE + "EOF"),
        (" \n", PARSE + "EOF"),
        ("{", PARSE + "unexpected EOF"),
        ('{"audience": "a', PARSE + "unexpected EOF"),
        ("token", PARSE + "invalid character 't' looking for beginning of value"),
        ("{audience}", PARSE + "invalid character 'a' looking for beginning of object key string"),
        ('{"audience" "a"}', PARSE + "invalid character '\"' after object key"),
        ('{"audience": "a" "b"}', PARSE + "invalid character '\"' after object key:value pair"),
        ('{"audience": NaN}', PARSE + "invalid character 'N' looking for beginning of value"),
        ("[" * 100_000, PARSE + "exceeded max depth"),
        ("[]", PARSE + "json: cannot unmarshal array into Go value of type models.TokenOptions"),
        ('{"nonce": []}', PARSE + 'json: unknown field "nonce"'),
        ('{"audience": 5}', FIELD.format("number", "audience", "string")),
        ('{"audience": true}', FIELD.format("bool", "audience", "string")),
        ('{"nonces": "one"}', FIELD.format("string", "nonces", "[]string")),
        ('{"nonces": [{}]}', FIELD.format("object", "nonces", "string")),
        ("{}", "use GET request for the default identity token"),
        ("null", "use GET request for the default identity token"),
        ('{"audience": "", "token_type": "OIDC"}', "use GET request for the default identity token"),
        ('{"audience": "a"}', "token_type is a required parameter"),
        ('{"audience": "a", "token_type": ""}', "token_type is a required parameter"),
    ],
)
def test_malformed_bodies(body: str, text: str) -> None:
    with pytest.raises(TokenOptionsError) as refused:
        TokenOptions.parse(body.encode())
    assert str(refused.value) == text


@pytest.mark.parametrize(
    "body",
    [
        '{"Audience": "a", "NONCES": [], "token_type": "OIDC"}',
        '{"audience": "a", "token_type": "OIDC"} and what follows',
        '{"audience": "b", "audience": "a", "token_type": "OIDC", "aws_principal_tag_options": null}',
    ],
)
def test_what_go_tolerates(body: str) -> None:
    assert TokenOptions.parse(body.encode()) == TokenOptions(audience="a")


def test_what_has_no_utf8_form_is_replaced() -> None:
    options = TokenOptions.parse(b'{"audience": "a\xff", "nonces": ["\\ud800", null], "token_type": "OIDC"}')
    assert options == TokenOptions(audience="a\N{REPLACEMENT CHARACTER}", nonces=("?", ""))
