"""The spaces under configs/sweep: the real command line takes what they draw, and each key changes something."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest

from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.yaml_guard import guard_parser, load_yaml
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.space import Space, options_of, value_at

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted((CONFIGS / "sweep").glob("*.yaml"))
# channels and kernels that the replaced system searched
REPLACED = {
    ((16, 32), (3, 3)),
    ((32, 64), (3, 3)),
    ((64, 128), (3, 3)),
    ((32, 64, 128), (3, 3, 3)),
    ((16, 32, 64), (3, 3, 3)),
    ((32, 64, 128, 256), (3, 3, 3, 3)),
    ((16, 32, 64, 128), (5, 5, 5, 5)),
    ((32, 64), (5, 5)),
    ((64, 128), (5, 5)),
    ((16, 32, 64), (3, 5, 3)),
    ((32, 64, 128), (5, 3, 5)),
}


@cache
def definition(file: Path) -> Definition:
    return Definition.from_plain(load_yaml(file.read_text(encoding="utf-8")), file.name)


def parsed(settings: dict[str, Any], config: str = "quickstart") -> dict[str, Any]:
    """The configuration of a fit with these settings, without training."""
    guard_parser()
    argv = ["fit", "--config", str(CONFIGS / f"{config}.yaml"), *options_of(settings)]
    values: dict[str, Any] = ForecastCLI(argv, run=False).config["fit"].as_dict()
    return values


def drawn(space: Space, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_30_random_trials_are_taken_by_the_command_line_and_make_a_network(file: Path) -> None:
    for settings in drawn(definition(file).space, 30):
        config = parsed(settings)
        for key, value in settings.items():
            assert value_at(config, key) == value
        network = config["model"]["network"]["init_args"] | {"n_features": 3}
        assert CNNLSTM(**network).embedding_dim > 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_key_changes_the_configuration(file: Path) -> None:
    space = definition(file).space
    before, changed = parsed({}), set()
    for settings in space.examples():
        after = parsed(settings)
        changed |= {key for key in settings if value_at(after, key) != value_at(before, key)}
    assert changed == space.keys


@pytest.mark.parametrize("config", ["volatility", "next_day_return", "quantiles", "own_files", "stocks_daily"])
def test_the_large_space_joins_other_configurations(config: str) -> None:
    for settings in drawn(definition(CONFIGS / "sweep" / "cnn_lstm.yaml").space, 2):
        assert value_at(parsed(settings, config), "model.optimizer.lr") == settings["model.optimizer.lr"]


def test_the_large_space_has_all_that_the_replaced_system_searched_and_promised() -> None:
    space = definition(CONFIGS / "sweep" / "cnn_lstm.yaml").space
    domains = {parameter.name: parameter.domain for parameter in space.parameters}
    options = list(domains["architecture"].of.values())  # type: ignore[union-attr]
    pairs = {(tuple(o["model.network.channels"]), tuple(o["model.network.kernel_sizes"])) for o in options}
    assert pairs >= REPLACED
    for option in options:
        channels, dilations = option["model.network.channels"], option["model.network.dilations"]
        assert len(channels) == len(option["model.network.kernel_sizes"])
        assert dilations is None or len(dilations) == len(channels)
    assert space.keys >= {
        *("model.network.lstm_hidden", "model.network.lstm_layers", "model.network.bidirectional"),
        *("model.network.attention_heads", "model.network.conv_dropout", "model.network.lstm_dropout"),
        *("model.optimizer.lr", "model.optimizer.weight_decay", "data.batch_size", "early_stopping.patience"),
        *("early_stopping.patience", "trainer.gradient_clip_val", "data.window", "data.features", "data.scaling"),
    }


def test_every_number_of_heads_divides_every_width() -> None:
    for file in FILES:
        domains = {parameter.name: parameter.domain for parameter in definition(file).space.parameters}
        widths, heads = (domains[f"model.network.{name}"].grid() for name in ("lstm_hidden", "attention_heads"))
        assert widths is not None
        assert heads is not None
        assert all(width % count == 0 for width in widths for count in heads if count)  # type: ignore[operator]
