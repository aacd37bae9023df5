"""No file makes anything run but a declared class or a declared feature."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from cnn_lstm import specs
from cnn_lstm.cli import main
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.errors import CnnLstmError, ConfigError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import digest_of
from cnn_lstm.rl.job import parse_config
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.argv import word_of
from cnn_lstm.runs.members import Member
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.space import options_of
from tests.fits import small_checkpoint
from tests.hostile.conftest import MODULE, Stranger

FOREIGN = f"{MODULE}.X"
LIMIT = 10.0


def rate(function: str) -> dict[str, Any]:
    return {"scheduler": {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": function}}}


def nested(where: str, value: Any) -> dict[str, Any]:
    """A foreign class inside of an argument that has no type."""
    spec = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val_loss"}}
    return {"callbacks": [spec | {where: {"unknown": value}}]}


PLACES: dict[str, dict[str, Any]] = {
    "network": {"model": {"network": FOREIGN}},
    "network by class_path": {"model": {"network": {"class_path": FOREIGN}}},
    "objective": {"model": {"objective": {"class_path": FOREIGN}}},
    "optimiser": {"model": {"optimizer": {"class_path": FOREIGN}}},
    "scheduler": {"model": {"scheduler": {"class_path": FOREIGN}}},
    "rate": {"model": rate(f"{MODULE}.f")},
    "source": {"data": {"source": {"class_path": FOREIGN}}},
    "split": {"data": {"split": {"class_path": FOREIGN}}},
    "target": {"data": {"targets": [{"class_path": FOREIGN}]}},
    "feature": {"data": {"features": [f"{MODULE}.f"]}},
    "callback": {"trainer": {"callbacks": [{"class_path": FOREIGN}]}},
    "callback alone": {"trainer": {"callbacks": {"class_path": FOREIGN}}},
    "argument of a callback": {"trainer": nested("dict_kwargs", {"class_path": FOREIGN})},
    "logger": {"trainer": {"logger": {"class_path": FOREIGN}}},
    "loggers": {"trainer": {"logger": [{"class_path": FOREIGN}]}},
    "profiler": {"trainer": {"profiler": {"class_path": FOREIGN}}},
    "strategy": {"trainer": {"strategy": {"class_path": FOREIGN}}},
    "accelerator": {"trainer": {"accelerator": {"class_path": FOREIGN}}},
    "plugin": {"trainer": {"plugins": [{"class_path": FOREIGN}]}},
    "our own callback": {"grad_norm": {"class_path": FOREIGN}},
    "checks": {"data": {"checks": {"class_path": FOREIGN}}},
    "known facts": {"data": {"known_future": {"class_path": FOREIGN}}},
    "static columns": {"data": {"static": {"class_path": FOREIGN}}},
    "exchange": {"data": {"exchange": {"class_path": FOREIGN}}},
    "exchange by name": {"data": {"exchange": FOREIGN}},
}
# of the packages that a file may name, but nothing that a configuration is made of
HELPERS: dict[str, dict[str, Any]] = {
    "trust as rate": {"model": rate("cnn_lstm.specs.trust")},
    "reader as rate": {"model": rate("cnn_lstm.model.checkpoints.read_checkpoint")},
    "writer as rate": {"model": rate("cnn_lstm.training.durable.torch.save")},
    "torch as rate": {"model": rate("torch.load")},
    "hook as rate": {"model": rate("torch.nn.modules.module.register_module_forward_hook")},
    "program": {"model": rate("cnn_lstm.cli.main")},
    "another module's": {"model": rate("lightning.pytorch.callbacks.model_checkpoint.os.system")},
    "lambda callback": {"trainer": {"callbacks": ["lightning.pytorch.callbacks.LambdaCallback"]}},
    "function as network": {"model": {"network": "cnn_lstm.model.checkpoints.load_forecaster"}},
    "function as source": {"data": {"source": "cnn_lstm.data.frames.price_table"}},
    "private class": {"data": {"source": "cnn_lstm.data.market_data._OneTable"}},
    "other base": {"model": {"network": "cnn_lstm.data.targets.ForwardReturn"}},
    "helper in an argument": {
        "trainer": nested("dict_kwargs", {"class_path": "cnn_lstm.training.run_folder.RunFolder"})
    },
    "function in an argument": {"trainer": nested("dict_kwargs", {"class_path": "cnn_lstm.specs.trust"})},
    "feature": {"data": {"features": ["rsi_14", "cnn_lstm.cli._shared_options"]}},
    "trusting feature": {"data": {"features": ["cnn_lstm.specs.trust"]}},
    "class as feature": {"data": {"features": ["cnn_lstm.data.targets.Direction"]}},
}


def refused(capsys: pytest.CaptureFixture[str], *argv: Any) -> str:
    """The one line with which a command ends with exit code 2."""
    begun = time.monotonic()
    assert main([str(word) for word in argv]) == 2
    assert time.monotonic() - begun < LIMIT
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error[E")
    assert len(lines[0]) <= 400
    return lines[0]


@pytest.mark.parametrize("place", PLACES)
def test_a_module_of_a_stranger_is_not_imported(
    place: str, stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stranger.folder / "config.yaml"
    file.write_text(yaml.safe_dump(PLACES[place]))
    refused(capsys, "data", "check", "--config", file)
    assert stranger.untouched


@pytest.mark.parametrize("place", HELPERS)
def test_nothing_but_declared_classes_and_features_is_named(
    place: str, stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stranger.folder / "config.yaml"
    file.write_text(yaml.safe_dump(HELPERS[place]))
    line = refused(capsys, "data", "check", "--config", file)
    assert "--trust-imports cnn_lstm" not in line
    assert specs.trusted_packages() == {"cnn_lstm"}


@pytest.mark.parametrize("allowed", ["torch.nn.functional.relu", "cnn_lstm.data.indicators.momentum.roc"])
def test_activations_and_declared_features_may_be_named(allowed: str) -> None:
    if allowed.startswith("torch"):
        section: dict[str, Any] = {"model": rate(allowed)}
        forecast_cli.parsed(["fit", "--config", yaml.safe_dump(section)])
    else:
        recipe = ForwardRecipe((allowed,))
        assert recipe.bind(["close"], [ForwardReturn()]).features[0].name == allowed


def ForwardRecipe(features: tuple[str, ...]) -> Recipe:  # noqa: N802 - made like a class
    plain = {"features": features, "targets": [ForwardReturn().spec()], "window": 8, "anchor": (), "checks": {}}
    return Recipe.from_plain(plain)


# -- the import policy cannot be lifted ------------------------------------------------------------------------------


def test_a_column_named_as_the_option_lifts_nothing(stranger: Stranger, capsys: pytest.CaptureFixture[str]) -> None:
    """A function of ours would get the table, whose column names are words of a command line."""
    table = pd.DataFrame(
        {"date": pd.bdate_range("2020-01-01", periods=90), "close": [50.0 + k * k % 17 for k in range(90)]}
    )
    table[f"--trust-imports={MODULE}"] = 1.0
    table.to_csv(stranger.folder / "prices.csv", index=False)
    section = {
        "source": {"class_path": "PriceFiles", "init_args": {"paths": "prices.csv", "symbol": "A"}},
        "features": ["close", "cnn_lstm.cli._shared_options"],
    }
    (stranger.folder / "config.yaml").write_text(yaml.safe_dump({"data": section}))
    for argv in (["data", "check"], ["data", "describe"], ["audit"]):
        assert "E293" in refused(capsys, *argv, "--config", "config.yaml")
    section["features"] = ["close", f"--trust-imports={MODULE}"]
    (stranger.folder / "config.yaml").write_text(yaml.safe_dump({"data": section}))
    assert main(["data", "check", "--config", "config.yaml"]) == 0  # as any other column
    assert specs.trusted_packages() == {"cnn_lstm"}


@pytest.mark.parametrize("key", ["run_dir", "runs_dir", "experiment"])
def test_no_name_of_a_file_is_an_option(key: str, stranger: Stranger, capsys: pytest.CaptureFixture[str]) -> None:
    (stranger.folder / "config.yaml").write_text(yaml.safe_dump({key: f"--trust-imports={MODULE}"}))
    assert "begins with -" in refused(capsys, "fit", "--config", "config.yaml")


def test_a_file_that_gives_the_option_itself_is_refused(stranger: Stranger, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("trust_imports", "trust-imports", "--trust-imports"):
        (stranger.folder / "config.yaml").write_text(yaml.safe_dump({key: MODULE}))
        assert "unknown key" in refused(capsys, "fit", "--config", "config.yaml")


def test_words_of_our_own_commands_are_no_options() -> None:
    evil = Path(f"--trust-imports={MODULE}")
    command = Member("seed", 1, evil, ["--config", "a.yaml"]).next_command()
    assert command is not None
    assert [word for word in command if word.startswith("--trust")] == []
    assert word_of(evil / "x") == f"./{evil}/x"
    options = options_of({"data.scaling": f"--trust-imports={MODULE}", "model.linear": "--trust-imports"})
    assert all(word.startswith(("--data.scaling=", "--model.linear=")) for word in options)


@pytest.mark.parametrize(
    "tree",
    [
        {"space": {"model.network": {"categorical": [FOREIGN, "CNNLSTM"]}}},
        {"space": {"model.network": {"categorical": [{"class_path": FOREIGN}, {"class_path": "CNNLSTM"}]}}},
        {"space": {"net": {"choose": {"a": {"model.network": FOREIGN}, "b": {"model.linear": "off"}}}}},
        {"space": {"model.scheduler": {"categorical": [rate("cnn_lstm.specs.trust")["scheduler"], None]}}},
        {"space": {"data.window": {"int": [5, 6]}}, "sampler": {"name": FOREIGN}},
        {"space": {"data.window": {"int": [5, 6]}}, "pruner": {"name": FOREIGN}},
        {"space": {"data.window": {"int": [5, 6]}}, "sampler": {"name": "tpe", "gamma": FOREIGN}},
        {"space": {f"--trust-imports={MODULE}": {"int": [5, 6]}}},
        {"space": {"model": {"categorical": ["/etc/x.yaml", "b.yaml"]}}},
    ],
    ids=["text", "spec", "choice", "trust", "sampler", "pruner", "argument", "key", "file"],
)
def test_a_space_names_nothing_either(tree: dict[str, Any], stranger: Stranger) -> None:
    """What a trial would be started with, each value of the space once."""

    def tried() -> None:
        for example in Definition.from_plain(tree).space.examples():
            forecast_cli.parsed(["fit", *options_of(example)])

    with pytest.raises(ConfigError):
        tried()
    assert stranger.untouched
    assert specs.trusted_packages() == {"cnn_lstm"}


@pytest.mark.parametrize(
    "section",
    [
        {"agent": {"arguments": {"policy_kwargs": {"activation_fn": {"class_path": FOREIGN}}}}},
        {"agent": {"arguments": {"policy_kwargs": {"activation_fn": {"class_path": "cnn_lstm.specs.trust"}}}}},
        {"agent": {"encoder": {"class_path": FOREIGN}}},
        {"market": {"class_path": FOREIGN}},
        {"market": FOREIGN},
    ],
)
def test_a_configuration_of_agents_names_nothing_either(section: dict[str, Any], stranger: Stranger) -> None:
    (stranger.folder / "config.yaml").write_text(yaml.safe_dump(section))
    with pytest.raises(ConfigError):
        parse_config(["--config", "config.yaml"])
    assert stranger.untouched
    assert specs.trusted_packages() == {"cnn_lstm"}


# -- checkpoints -----------------------------------------------------------------------------------------------------

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("small"))


def named(value: Any, old: str, new: str) -> Any:
    """A copy of plain values with another text in place of one."""
    if isinstance(value, dict):
        return {key: named(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(named(inner, old, new) for inner in value)
    return new if isinstance(value, str) and value == old else value


@pytest.mark.parametrize(
    "new", [FOREIGN, f"{MODULE}.f", "cnn_lstm.specs.trust", "cnn_lstm.cli.main", "cnn_lstm.runs.config.read_config"]
)
@pytest.mark.parametrize(
    "old",
    ["cnn_lstm.model.network.CNNLSTM", "cnn_lstm.data.targets.ForwardReturn", "log_return_1"],
    ids=["network", "target", "feature"],
)
def test_a_checkpoint_names_nothing_either(old: str, new: str, checkpoint: Path, stranger: Stranger) -> None:
    content = torch.load(checkpoint, weights_only=True)
    edited = {key: value if key == "state_dict" else named(value, old, new) for key, value in content.items()}
    assert edited != content or old == "log_return_1"
    file = stranger.folder / "edited.ckpt"
    torch.save(edited, file)
    assert digest_of(edited)  # the weights are those of the file
    prices = pd.read_csv(checkpoint.parent / "prices.csv")
    with pytest.raises(CnnLstmError):
        Predictor.from_checkpoint(file).predict(prices)
    assert stranger.untouched
    assert specs.trusted_packages() == {"cnn_lstm"}


# -- what a user trusts ----------------------------------------------------------------------------------------------


def test_a_trusted_package_lends_its_name_to_nobody(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that it only imports is not the user's."""
    (stranger.folder / "my_own_functions.py").write_text(
        "from cnn_lstm import trust\nfrom os import system\ndef mine(bars): return bars['close']\n"
    )
    monkeypatch.setattr(specs, "_trusted", {"cnn_lstm", "my_own_functions"})
    for name in ("trust", "system"):
        with pytest.raises(ConfigError, match="E293"):
            ForwardRecipe((f"my_own_functions.{name}",)).bind(["close"], [ForwardReturn()])
    bound = ForwardRecipe(("my_own_functions.mine",)).bind(["close"], [ForwardReturn()])
    assert bound.features[0].function(pd.DataFrame({"close": [1.0]})).tolist() == [1.0]


# -- in a process of its own -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_modules_in_the_current_folder_replace_no_library(stranger: Stranger) -> None:
    """A worker starts with the folder of its user; a stray yaml.py there would run in place of the library."""
    from cnn_lstm.runs.processes import PROGRAM

    for name in ("yaml", "optuna", "lightning"):
        (stranger.folder / f"{name}.py").write_text(CODE_OF_STRAY)
    (stranger.folder / "config.yaml").write_text(yaml.safe_dump(PLACES["callback"]))
    begun = time.monotonic()
    command = [*PROGRAM, "fit", "--config", "config.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=stranger.folder, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error[E228]")
    assert not (stranger.folder / "pwned").exists()
    assert time.monotonic() - begun < 3 * LIMIT
    assert sys.executable in PROGRAM


CODE_OF_STRAY = "import pathlib; pathlib.Path('pwned').touch()\n"
