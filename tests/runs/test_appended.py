"""What is added to an empty list of the configuration joins what the empty list means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES
from cnn_lstm.runs.forecast_cli import parsed
from tests import experiments

TARGET = "cnn_lstm.data.targets."


def saved_data(*argv: object) -> dict[str, Any]:
    """The section `data` of the configuration that a run would save."""
    section: dict[str, Any] = yaml.safe_load(parsed(["fit", *map(str, argv)]).config_text)["data"]
    return section


def targets(section: dict[str, Any]) -> list[tuple[str, int]]:
    return [
        (target["class_path"].removeprefix(TARGET), target["init_args"]["horizon"]) for target in section["targets"]
    ]


def without(*names: str) -> list[str]:
    return [name for name in DEFAULT_FEATURES if name not in names]


@pytest.mark.parametrize(
    ("argv", "features"),
    [
        (["--data.features+", "atr_14"], [*DEFAULT_FEATURES, "atr_14"]),
        (["--data.features+=atr_14"], [*DEFAULT_FEATURES, "atr_14"]),
        (["--data.features+", "[atr_14,rsi_7]"], [*DEFAULT_FEATURES, "atr_14", "rsi_7"]),
        (["--data.features+", "atr_14", "--data.features+=rsi_7"], [*DEFAULT_FEATURES, "atr_14", "rsi_7"]),
        (["--data.features+", "rsi_14"], [*without("rsi_14"), "rsi_14"]),  # one of the default ones
        (["--data.features", "null", "--data.features+", "atr_14"], [*DEFAULT_FEATURES, "atr_14"]),
        (["--data.features", "[rsi_7]", "--data.features+", "atr_14"], ["rsi_7", "atr_14"]),
        (["--data.features+", "atr_14", "--data.features", "[rsi_7]"], ["rsi_7"]),
    ],
)
def test_added_features_join_those_that_an_empty_list_means(argv: list[str], features: list[str]) -> None:
    assert saved_data(*argv)["features"] == features


@pytest.mark.parametrize(
    ("features", "before"), [(None, DEFAULT_FEATURES), (["rsi_7"], ("rsi_7",)), ("absent", DEFAULT_FEATURES)]
)
def test_a_file_says_what_is_added_to(features: object, before: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"data": {"window": 9} if features == "absent" else {"features": features}}))
    assert saved_data("--config", file, "--data.features+", "atr_14")["features"] == [*before, "atr_14"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--data.targets+", f"{TARGET}Direction"], [("ForwardReturn", 1), ("Direction", 1)]),
        (["--data.targets+=Direction", "--data.targets.horizon", "5"], [("ForwardReturn", 1), ("Direction", 5)]),
        (["--data.targets.horizon", "5"], [("ForwardReturn", 5)]),
        (["--data.targets.init_args.horizon=5"], [("ForwardReturn", 5)]),
        (["--data.targets", "[Direction]", "--data.targets.horizon", "5"], [("Direction", 5)]),
    ],
)
def test_added_targets_join_the_default_one(argv: list[str], expected: list[tuple[str, int]]) -> None:
    assert targets(saved_data(*argv)) == expected


def test_an_untouched_list_stays_empty() -> None:
    """So that a folder of an earlier version is of the same configuration."""
    section = saved_data("--data.window", 9)
    assert section["features"] is None
    assert section["targets"] is None


@pytest.mark.parametrize("word", ["--print_config", "--print_config=skip_unset"])
def test_the_printed_configuration_shows_the_whole_list(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--data.features+", "atr_14", word], [word, "--data.features+", "atr_14"]):
        assert experiments.run("fit", *argv) == 0
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed["data"]["features"] == [*DEFAULT_FEATURES, "atr_14"]


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--data.symbols+", "IBM"], ["data.symbols", "all symbols"]),
        (["--data.features+", "atr_14", "--data.symbols+=IBM"], ["data.symbols", "all symbols"]),
        (["--data.features+", "ats_14"], ["ats_14", "atr_14"]),
    ],
)
def test_what_cannot_be_added_is_refused(argv: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("data", "describe", *argv) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error[E225]")
    assert all(part in message for part in parts), message


def test_a_file_cannot_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("data: {features+: [atr_14]}")
    assert experiments.run("fit", "--config", file, "--print_config") == 2
    assert "--data.features+ on the command line" in capsys.readouterr().err


def test_the_meant_lists_are_those_of_the_data_module() -> None:
    data, section = MarketDataModule(), saved_data("--data.features+", "atr_14", "--data.targets+", "Direction")
    assert section["features"][:-1] == list(data.recipe.features)
    assert section["targets"][0] == data.targets[0].spec()
