from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_lstm.training.tracking.credentials import without_credentials

LETTERS = st.text(st.characters(blacklist_characters="/'\"", min_codepoint=33, max_codepoint=126), min_size=1)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://me:secret@host:5000/x", "https://host:5000/x"),
        ("postgresql+psycopg2://me:p@ss@host/db", "postgresql+psycopg2://host/db"),
        ("https://token@host", "https://host"),
        ("uri: 'http://a:b@c' and http://d:e@f/g", "uri: 'http://c' and http://f/g"),
        ("mysql://host/db?password=secret&ssl=1", "mysql://host/db?password=***&ssl=1"),
        ("https://host?Token=secret", "https://host?Token=***"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("mail me@example.org", "mail me@example.org"),
        ("https://host/path@x", "https://host/path@x"),
    ],
)
def test_credentials_are_taken_out_of_a_text(text: str, left: str) -> None:
    assert without_credentials(text) == left


@given(LETTERS, LETTERS)
def test_no_user_or_password_is_left(user: str, password: str) -> None:
    text = json.dumps({"uri": f"https://u{user}:p{password}@host/db"}).replace("\\", "")
    assert json.loads(without_credentials(text)) == {"uri": "https://host/db"}
