from __future__ import annotations

import json
import logging
import warnings
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cnn_lstm.credentials import clean, is_secret, keep_out_of_logs, without_credentials
from cnn_lstm.errors import CnnLstmError, Defect, DefectsError, TrackingError

LETTERS = st.text(st.characters(blacklist_characters="/'\"", min_codepoint=33, max_codepoint=126), min_size=1)
FIRST, LAST = "Xq7vR", "Zw9kT"  # both ends of each secret; neither may be left
SIGNS = ["", "'", '"', "/", " ", "@", ":", "#", "?", ";", "&", "%40", "\\", "$", "!'/ @"]
NAMES = [
    "password", "passwd", "pwd", "sslpassword", "access_token", "token", "auth_token", "apikey", "api_key", "api-key",
    "sig", "signature", "X-Amz-Signature", "X-Amz-Security-Token", "auth", "client_secret", "secret", "access_key",
    "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "AccountKey", "private_key", "passphrase", "refresh_token",
    "dbPassword", "accessToken",
]  # fmt: skip
ONE = f"{FIRST}-{LAST}"
# what surrounds a value of a name that holds no blank
FORMS = [
    "https://host/x?{name}={secret}",
    "https://host/x?a=1&{name}={secret}&b=2",
    "cannot reach 'https://host/x?{name}={secret}', try again",
    "host=db user=me {name}={secret} dbname=x",
    "Server=db;Uid=me;{name}={secret};Database=x",
    "{name}: {secret}",
    "source:\n  {name}: {secret}\n  window: 60\n",
    "- {name}: '{secret}'",
    "{{source: {{{name}: {secret}, window: 60}}}}",
    '{{"{name}": "{secret}", "window": 60}}',
    "{{'{name}': '{secret}', 'window': 60}}",
    "unexpected argument --{name} {secret}",
    "unexpected argument --{name}={secret}",
    "os.environ['{name}'] = '{secret}'",
    "{name}='{secret}'",
]


def assert_nothing_left(text: str) -> None:
    cleaned = without_credentials(text)
    assert FIRST not in cleaned, cleaned
    assert LAST not in cleaned, cleaned
    assert without_credentials(cleaned) == cleaned


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_the_value_of_a_secret_is_taken_out(name: str, form: str) -> None:
    assert_nothing_left(form.format(name=name, secret=ONE))


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    "form",
    [
        "postgresql+psycopg://me:{secret}@db.example.org:5432/study",
        "cannot connect to mysql://me:{secret}@db/study: refused",
        "tracking_uri: https://me:{secret}@host/x\nwindow: 60\n",
        "two: http://a:b@c/d and s3://key:{secret}@bucket",
        "redis://:{secret}@host/0",
    ],
)
def test_passwords_of_addresses_may_hold_any_sign(form: str, sign: str) -> None:
    assert_nothing_left(form.format(secret=f"{FIRST}{sign}{LAST}"))


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", ["password", "access_token", "client_secret"])
def test_secrets_in_quotes_may_hold_any_sign(name: str, sign: str) -> None:
    secret = f"{FIRST}{sign}{LAST}"
    tree = {"source": {name: secret, "window": 60}}
    forms = [json.dumps(tree), repr(tree), yaml.safe_dump(tree), yaml.safe_dump(tree, default_flow_style=True)]
    escaped = secret.replace("\\", "\\\\").replace("'", "\\'")
    forms += [f"host=db {name}='{escaped}' dbname=x", f"Driver=x;{name}={{{secret}}};Server=y"]
    forms += [f"https://host/?{name}={quote(secret)}&b=2"]
    for text in forms:
        assert_nothing_left(text)
    assert json.loads(without_credentials(forms[0])) == {"source": {name: "***", "window": 60}}
    assert yaml.safe_load(without_credentials(forms[2])) == {"source": {name: "***", "window": 60}}


@pytest.mark.parametrize("sign", SIGNS)
def test_an_address_by_itself_may_hold_any_sign_in_its_query(sign: str) -> None:
    if sign != "&":  # begins the next name
        assert_nothing_left(f"https://host/x?password={FIRST}{sign}{LAST}")


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {ONE}",
        f"authorization: Basic {ONE}==",
        f"Proxy-Authorization: Basic {ONE}",
        f"{{'Authorization': 'Bearer {ONE}', 'Accept': '*/*'}}",
        f'{{"Authorization": "Bearer {ONE}"}}',
        f"curl -H 'Authorization: Bearer {ONE}' https://host",
        f'Authorization: Digest username="{FIRST}", response="{LAST}"',
        f"Cookie: a={FIRST}; b={LAST}",
        f"X-Api-Key: {ONE}",
        f"a request with Bearer {ONE} was refused",
        f"password: |\n  {FIRST}\n  {LAST}\n",
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={FIRST}/+{LAST}==;EndpointSuffix=x",
        f"https://{ONE}@host/x",
        f"https://host/x?X-Amz-Credential={FIRST}%2F{LAST}&X-Amz-Date=1",
        f"https://host/maps?key={ONE}",
        f"https://host/api?code={ONE}==",
    ],
)
def test_headers_and_other_places(text: str) -> None:
    assert_nothing_left(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://me:secret@host:5000/x", "https://host:5000/x"),
        ("postgresql+psycopg2://me:p@ss@host/db", "postgresql+psycopg2://host/db"),
        ("https://token@host", "https://host"),
        ("uri: 'http://a:b@c' and http://d:e@f/g", "uri: 'http://c' and http://f/g"),
        ("mysql://host/db?password=secret&ssl=1", "mysql://host/db?password=***&ssl=1"),
        ("https://host?Token=secret", "https://host?Token=***"),
        ("host=db password='a b' dbname=x", "host=db password='***' dbname=x"),
        ("{password: abc, window: 60}", '{password: "***", window: 60}'),
    ],
)
def test_only_the_secret_is_taken_out(text: str, left: str) -> None:
    assert without_credentials(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me@work/mlflow.db",
        "sqlite:///C:/me@work/mlflow.db",
        "mail me@example.org",
        "https://host/path@x",
        "http://localhost:5000/#/experiments/me@x",
        "http://[::1]:5000/x and me@y",
        '{"http://host": "me@example.org"}',
        "cannot reach http://host: mail me@example.org",
        "data.window=60 — give at least 1",
        "password: null",
        "{tracking_uri: null, token: null}",
        "max_tokens: 5\nauthor: me\ndesign: a\nsignals: [1]\nkey: a\n",
        "unexpected token: it is not a number",
        "weights: {class_path: a.B, init_args: {lr: 0.1}}",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_credentials(text) == text


@given(LETTERS, LETTERS)
def test_no_user_or_password_is_left(user: str, password: str) -> None:
    text = json.dumps({"uri": f"https://u{user}:p{password}@host/db"}).replace("\\", "")
    assert json.loads(without_credentials(text)) == {"uri": "https://host/db"}


@given(st.text())
def test_any_text_can_be_cleaned_twice(text: str) -> None:
    once = without_credentials(f"password={text}")
    assert without_credentials(once) == once


def test_long_texts_take_no_time() -> None:
    for part in (
        "http://a:b",
        "password=",
        "password: ",
        "a_",
        "://",
        "'\\",
        "token: |\n  a\n",
        "-pass_word-",
        "x" * 50,
    ):
        without_credentials(part * (100_000 // len(part)))


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_keeps_its_form(name: str) -> None:
    tree = {"source": {"init_args": {name: ONE, "symbols": ["A"]}}, "uri": f"https://me:{ONE}@host", "epochs": 3}
    kept = {"source": {"init_args": {name: "***", "symbols": ["A"]}}, "uri": "https://host", "epochs": 3}
    assert is_secret(name)
    assert clean(tree) == kept
    assert clean(kept) == kept


@pytest.mark.parametrize("part", ["what", "where", "fix"])
def test_no_error_of_ours_says_a_secret(part: str) -> None:
    uri = f"postgresql://me:{FIRST}/'@ {LAST}@host/{'long' * 200}"
    said = {"what": "a", "where": "b", "fix": "c"} | {part: f"it is {uri}"}
    error = CnnLstmError(said["what"], said["where"], said["fix"])
    table = DefectsError([Defect(314, said["what"], said["where"], said["fix"])])
    for text in (str(error), repr(error), str(table), error.what, error.where, error.fix, str(TrackingError(uri))):
        assert FIRST not in text
        assert LAST not in text


def test_no_logger_and_no_warning_says_a_secret(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    before = logging.getLogRecordFactory()
    try:
        keep_out_of_logs()
        keep_out_of_logs()
        logging.getLogger("foreign").warning("cannot reach %s", f"https://me:{ONE}@host")
        logging.getLogger("foreign").warning("%d rows", 3)
        shown = warnings.formatwarning(f"password={ONE}", UserWarning, "a.py", 1)
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.messages == ["cannot reach https://host", "3 rows"]
    assert ONE not in shown
