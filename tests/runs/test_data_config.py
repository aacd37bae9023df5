"""Commands without a trainer import no Lightning, and take or refuse a configuration as its parser does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cnn_lstm.bounded import with_digest
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.runs import data_config, forecast_cli
from cnn_lstm.runs.data_config import data_of
from cnn_lstm.runs.plain_keys import PLAIN
from tests.fits import small_checkpoint

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))
QUICKSTART = ROOT / "configs/quickstart.yaml"
# values of every kind that a plain key may take
TRIED = [
    *(None, True, False, 0, 1, 2, 7, -1, 0.0, 0.001, 0.5, 0.99, 2.5, "auto", "cpu", "gpu", "cuda", "mps", "ddp"),
    *("32-true", "16-mixed", "bf16-mixed", "64-true", "norm", "value", "warn", "best", "val_loss", "min"),
    *("step", "epoch", "off", "ema", "tail", "runs", "lenient", "strict"),
]


def with_key(tree: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    section, _, name = key.partition(".")
    return tree | {section: (tree.get(section) or {}) | {name: value} if name else value}


def surely(tmp_path: Path, tree: dict[str, Any], command: str = "fit") -> bool:
    """Whether a configuration is taken without the parser of a fit."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree))
    try:
        data_config._without_a_trainer(["--config", str(file)], command)
    except Exception:  # as `data_of`
        return False
    return True


# -- no Lightning ------------------------------------------------------------------------------------------------------


PROGRAM = """
import json, sys
from cnn_lstm.cli import main
for argv in json.loads(sys.argv[1]):
    code = main(argv)
    heavy = HEAVY & {name.split(".")[0] for name in sys.modules}
    print("AFTER", argv[0], code, *sorted(heavy))
"""
HEAVY = {"lightning", "torchmetrics", "matplotlib", "mlflow", "statsmodels", "arch", "optuna", "sklearn"}


@pytest.mark.parametrize("command", ["judge", "monitor", "update", "init"])
def test_pages_of_commands_without_a_trainer_import_no_lightning(command: str) -> None:
    """It would be half of what such a command costs; statistics and drawings are their work."""
    program = f"import sys, cnn_lstm.commands.{command}; print({{'lightning', 'torchmetrics'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_commands_without_a_trainer_import_no_lightning(tmp_path: Path) -> None:
    """One process for all of them, the one that draws at the end: what one has imported would show after the next."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    checkpoint = str(small_checkpoint(tmp_path).rename(run / "checkpoints/best.ckpt"))
    (run / "metrics.csv").write_text("epoch,step,train_loss,val_loss\n0,1,1.0,1.0\n1,2,0.5,0.6\n")
    commands = [
        ["data", "check", "--config", str(QUICKSTART), "--data.window", "60"],
        ["data", "describe", "--config", str(QUICKSTART)],
        ["encode", "--ckpt_path", checkpoint, "--data", str(tmp_path / "prices.csv")],
        ["export", "--ckpt_path", checkpoint, "--format", "safetensors"],
        ["plot", str(run)],
    ]
    program = PROGRAM.replace("HEAVY", str(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    after = [line for line in done.stdout.splitlines() if line.startswith("AFTER")]
    light = [f"AFTER {argv[0]} 0" for argv in commands[:-1]]
    assert after == [*light, "AFTER plot 0 matplotlib"], done.stderr


# -- what is taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_configurations_need_no_parser_of_a_fit(file: Path) -> None:
    quick, whole = (
        data_config._without_a_trainer(["--config", str(file)], "fit")[0],
        forecast_cli.parsed(["fit", "--config", str(file)]).build_data(),
    )
    assert quick.recipe == whole.recipe
    assert [target.spec() for target in quick.targets] == [target.spec() for target in whole.targets]
    for name in ("symbols", "start", "end", "batch_size", "scaling", "train_stride", "fit_on", "per_symbol", "order"):
        assert getattr(quick, name) == getattr(whole, name), name
    assert vars(quick.split) == vars(whole.split)
    assert type(quick.source) is type(whole.source)


@pytest.mark.slow
@pytest.mark.parametrize("value", TRIED, ids=repr)
def test_what_is_surely_right_is_right_for_the_parser_of_a_fit(value: object, tmp_path: Path) -> None:
    """All keys that take the value at once; whatever the parser of a fit refuses must not be taken."""
    tree: dict[str, Any] = {}
    for key, accepts in PLAIN.items():
        if accepts(value):
            tree = with_key(tree, key, value)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree))
    forecast_cli.parsed(["fit", "--config", str(file)]).build_data()


def test_every_plain_key_is_one_of_a_fit_and_takes_its_default() -> None:
    parser = forecast_cli.parsed(["fit"])._subcommand_parsers["fit"]
    defaults = {
        action.dest: action.default
        for action in parser._actions
        if hasattr(action, "_typehint")
        and not action.dest.startswith(("data.", "model.", "evaluation."))
        and "help" not in action.dest
    }
    assert set(PLAIN) == set(defaults)
    assert [key for key, accepts in PLAIN.items() if not accepts(defaults[key])] == []


WRONG: dict[str, tuple[str, Any]] = {
    "a misspelt key of the trainer": ("trainer.max_epoch", 5),
    "a text for a number": ("trainer.max_epochs", "many"),
    "a number for a flag": ("tensorboard", 3.5),
    "a misspelt section": ("trainr.max_epochs", 5),
    "an empty folder": ("runs_dir", ""),
    "a negative patience": ("early_stopping.patience", -1),
    "a mode of no metric": ("early_stopping.mode", "least"),
    "a misspelt key of a callback": ("checkpoint.monitr", "val_loss"),
    "no way to average": ("weight_averaging.kind", "mean"),
    "a misspelt argument of the network": ("model.network", {"chanels": [8]}),
    "a network that cannot be built": ("model.network", {"kernel_sizes": [3, 3, 3], "channels": [8]}),
    "a misspelt key of the model": ("model.sample", 3),
    "no passes": ("model.samples", -2),
    "no optimiser": ("model.optimizer", {"class_path": "torch.nn.Linear"}),
    "a misspelt argument of the optimiser": (
        "model.optimizer",
        {"class_path": "torch.optim.AdamW", "init_args": {"lrr": 1e-3}},
    ),
    "a misspelt evaluation": ("evaluation.fee", 3.0),
    "a misspelt key of the data": ("data.windows", 30),
    "a window of nothing": ("data.window", 0),
    "a final fit without a calibration": ("data.fit_on", "train_and_validation"),
    "an endless rate": ("model.optimizer", {"class_path": "torch.optim.AdamW", "init_args": {"lr": float("inf")}}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_goes_to_the_parser_of_a_fit(case: str, tmp_path: Path) -> None:
    key, value = WRONG[case]
    assert not surely(tmp_path, with_key({}, key, value))


def test_its_words_are_those_of_the_parser_of_a_fit(tmp_path: Path) -> None:
    for key, value in (WRONG["a misspelt key of the trainer"], WRONG["a window of nothing"]):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(with_key({}, key, value)))
        errors = []
        for build in (data_of, lambda argv: forecast_cli.parsed(["fit", *argv]).build_data()):
            with pytest.raises(Exception, match=r"error\[E\d+\]") as caught:
                build(["--config", str(file)])
            errors.append(str(caught.value))
        assert errors[0] == errors[1]


def test_a_run_writes_what_was_checked_and_an_edited_file_is_looked_at_again(tmp_path: Path) -> None:
    cli = forecast_cli.parsed(["fit", "--config", str(QUICKSTART), "--early_stopping.smoothing", "0.5"])
    file = tmp_path / "config.yaml"
    file.write_text(with_digest(cli.config_text))
    assert data_config._was_written(file)
    assert isinstance(data_config._without_a_trainer(["--config", str(file)], "fit")[0], MarketData)
    file.write_text(file.read_text().replace("smoothing: 0.5", "smoothing: 0.6"))
    with pytest.raises(data_config.NotSureError):
        data_config._without_a_trainer(["--config", str(file)], "fit")


@pytest.mark.parametrize("argv", [["--data.help"], ["--print_config"], ["--trainer.max_epochs", "3"], ["--quiet"]])
def test_other_options_go_to_the_parser_of_a_fit(argv: list[str]) -> None:
    with pytest.raises(data_config.NotSureError):
        data_config._without_a_trainer(argv, "fit")


def test_options_of_the_data_overrule_and_add_as_for_a_fit() -> None:
    argv = ["--config", str(QUICKSTART), "--data.features+", "rsi_14", "--data.targets.horizon", "3"]
    quick, _ = data_config._without_a_trainer([*argv, "--data.symbols", "[IBM]", "--data.batch_size=7"], "fit")
    whole = forecast_cli.parsed(["fit", *argv, "--data.symbols", "[IBM]", "--data.batch_size=7"]).build_data()
    assert quick.recipe == whole.recipe
    assert (quick.symbols, quick.batch_size) == (whole.symbols, whole.batch_size) == (["IBM"], 7)
