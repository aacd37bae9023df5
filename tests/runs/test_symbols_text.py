"""Symbols are text, whatever YAML would make of their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.symbols_text import listed, with_listed_symbols
from cnn_lstm.runs.yaml_guard import load_yaml

# what YAML takes for truth values, numbers, times of day, dates and nothing, and signs that it has a use for
NAMES = ["ON", "NO", "yes", "TRUE", "off", "600519", "000001", "00700", "1:30", "0x1F", "1E5", "1_0", "NULL", "Null"]
NAMES += [
    ".INF",
    "2024-01-02",
    "NA",
    "BTC/USDT",
    "BTC/USDT:USDT",
    "M&M.NS",
    "$SPX",
    "^GSPC",
    "EURUSD=X",
    "BRK-B",
    "S P",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_text_in_yaml(name: str) -> None:
    for text in (
        f"data: {{symbols: [IBM, {name}]}}",
        f"# ü\ndata:\n  symbols:\n  - IBM\n  - {name}  # why\n  window: 5\n",
        f"data.symbols: [IBM, {name}]",
        f"market: {{symbols: [IBM, '{name}']}}",
    ):
        tree: Any = load_yaml(text)
        while isinstance(tree, dict):
            tree = tree.get("symbols") or tree.get("data.symbols") or next(iter(tree.values()))
        assert tree == ["IBM", name]
    assert load_yaml(f"source: {{init_args: {{symbol: {name}}}}}")["source"]["init_args"]["symbol"] in (name, None)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_text_on_the_command_line(name: str) -> None:
    for value in (name, f"[{name}]", f"['{name}']", f'["{name}"]'):
        if value in ("NULL", "Null"):
            continue
        argv = with_listed_symbols(["--data.symbols", value, f"--data.symbols+={value}"])
        assert argv == ["--data.symbols", f'["{name}"]', f'--data.symbols+=["{name}"]']
    assert listed(f"{name}, IBM") == [name, "IBM"]


@pytest.mark.parametrize("nothing", ["null", "~", "", "None"])
def test_nothing_stays_nothing(nothing: str) -> None:
    assert with_listed_symbols(["--data.symbols", nothing]) == ["--data.symbols", nothing]


@pytest.mark.parametrize("text", ["{symbols: null}", "{symbols: }", "{symbols: ~}"])
def test_no_symbols_stay_none(text: str) -> None:
    assert load_yaml(f"data: {text}") == {"data": {"symbols": None}}


def test_other_values_are_what_yaml_says() -> None:
    text = "{symbols: {choices: [1, 2]}, names: [ON, 1], window: 010, quiet: on, x: [{symbols: ACME}]}"
    assert load_yaml(text) == {
        "symbols": {"choices": [1, 2]},
        "names": [True, 1],
        "window": 8,
        "quiet": True,
        "x": [{"symbols": ["ACME"]}],
    }


@given(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
@settings(max_examples=100, deadline=None)
def test_what_is_dumped_is_read_again(names: list[str]) -> None:
    tree = {"data": {"symbols": names, "window": 5}}
    for text in (yaml.safe_dump(tree), yaml.safe_dump(tree, default_flow_style=True), json.dumps(tree)):
        assert load_yaml(text) == tree
    assert json.loads(with_listed_symbols(["--data.symbols", f"[{','.join(names)}]"])[1]) == names


def test_an_alias_is_quoted_once() -> None:
    assert load_yaml("a: {symbols: &s [ON, 007]}\nb: {symbols: *s}") == {
        "a": {"symbols": ["ON", "007"]},
        "b": {"symbols": ["ON", "007"]},
    }


def test_the_command_line_reaches_the_data(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("data:\n  symbols: [NO]\n  source:\n    class_path: cnn_lstm.data.sources.PriceFiles\n"
                    "    init_args: {paths: x.csv, symbol: ON}\n")  # fmt: skip
    cases = [
        ([], ["NO"], "ON"),
        (["--data.symbols", "[ON,000001]"], ["ON", "000001"], "ON"),
        (["--data.symbols=ACME"], ["ACME"], "ON"),
        (["--data.symbols", "null", "--data.source.init_args.symbol", "NO"], None, "NO"),
    ]
    for argv, symbols, symbol in cases:
        cli = forecast_cli.parsed(["fit", "--config", str(file), *argv])
        assert cli.command_config.data.symbols == symbols
        source = cli.build_data().source
        assert isinstance(source, PriceFiles)
        assert source.symbol == symbol
        assert yaml.safe_load(cli.config_text)["data"]["symbols"] == symbols
