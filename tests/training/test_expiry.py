"""Checkpoints that expire, and fits that begin with earlier weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cnn_lstm.errors import CheckpointError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.pyfunc import PriceModel
from cnn_lstm.model.checkpoints import read_checkpoint, write_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY, Contract
from tests.experiments import experiment, fit, run
from tests.markets import market

EXPIRES = "2010-12-01"


def prices() -> pd.DataFrame:
    return market(260, ("AAA", "BBB"), gaps=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiment(tmp_path_factory.mktemp("config"), prices())


@pytest.fixture(scope="module")
def expiring(config: Path) -> Path:
    return fit(config, config.parent / "expiring", "--expires", EXPIRES)


def best(folder: Path) -> Path:
    return folder / "checkpoints/best.ckpt"


def until(day: str) -> pd.DataFrame:
    table = prices()
    return table[table["timestamp"] < day]


def test_the_contract_says_it_and_older_ones_do_not(expiring: Path, tmp_path: Path) -> None:
    content = read_checkpoint(best(expiring))
    assert Contract.of(content).expires == f"{EXPIRES}T00:00:00.000000"
    del content[CHECKPOINT_KEY]["expires"]
    write_checkpoint(content, tmp_path / "old.ckpt")
    old, again = (Predictor.from_checkpoint(path) for path in (tmp_path / "old.ckpt", best(expiring)))
    assert not old.predict(prices()).empty
    before = until(EXPIRES)
    pd.testing.assert_frame_equal(old.predict(before), again.predict(before))


@pytest.mark.parametrize("value", ["soon", 5, ["2010-12-01"], "2010-13-01"])
def test_a_crafted_day_is_refused(expiring: Path, tmp_path: Path, value: Any) -> None:
    content = read_checkpoint(best(expiring))
    content[CHECKPOINT_KEY] |= {"expires": value}
    torch.save(content, tmp_path / "crafted.ckpt")
    with pytest.raises(CheckpointError, match=r"E414.*expires"):
        Predictor.from_checkpoint(tmp_path / "crafted.ckpt")


def test_python_refuses_what_comes_at_or_after_the_day(expiring: Path) -> None:
    predictor, free = Predictor.from_checkpoint(best(expiring)), Predictor.from_checkpoint(best(expiring), "cpu", True)
    last_before = until(EXPIRES)
    assert not predictor.predict(last_before).empty
    on_the_day = until("2010-12-02")
    assert on_the_day["timestamp"].max() == pd.Timestamp(EXPIRES, tz="UTC")
    for refused in (predictor.predict, predictor.encode, PriceModel(predictor).predict):
        with pytest.raises(CheckpointError, match=rf"E430.*expired on {EXPIRES}"):
            refused(on_the_day)
    wanted = free.predict(on_the_day)
    assert wanted["as_of"].max() == pd.Timestamp(EXPIRES, tz="UTC")
    # a window too early to be asked for does not make it young again
    with pytest.raises(CheckpointError, match="E430"):
        predictor.predict(on_the_day, start="2010-12-01")


def test_a_stream_refuses_the_bar_and_stays_as_it_was(expiring: Path, tmp_path: Path) -> None:
    predictor, free = Predictor.from_checkpoint(best(expiring)), Predictor.from_checkpoint(best(expiring), "cpu", True)
    table = prices()
    streams = [one.stream(until("2010-11-30")) for one in (predictor, free)]
    bars = [table[table["timestamp"] == day] for day in ("2010-11-30", EXPIRES)]
    for stream in streams:
        assert len(stream.update(bars[0])) == 2
    streams[0].save(tmp_path / "state.npz")
    with pytest.raises(CheckpointError, match="E430"):
        streams[0].update(bars[1])
    # a champion whose time is prolonged goes on with the state of before
    later = free.stream(state=tmp_path / "state.npz")
    pd.testing.assert_frame_equal(later.update(bars[1]), streams[1].update(bars[1]))


@pytest.mark.parametrize("command", ["predict of a run", "predict of a table", "encode"])
def test_commands_refuse_it_unless_they_are_asked_to_go_on(
    command: str, expiring: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = {
        "predict of a run": ["predict", "--config", expiring / "config.yaml", "--ckpt_path", "best"],
        "predict of a table": ["predict", "--prices", config.parent / "prices.parquet", "--ckpt_path", best(expiring)],
        "encode": ["encode", "--ckpt_path", best(expiring)],
    }[command]
    assert run(*argv) == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith(f"error[E430]: the checkpoint expired on {EXPIRES}")
    assert run(*argv, "--allow_expired") == 0


def test_a_test_is_about_the_past(expiring: Path) -> None:
    assert run("test", "--config", expiring / "config.yaml", "--ckpt_path", "best") == 0


def test_a_span_counts_from_the_last_bar_and_a_resumed_fit_counts_again(config: Path, tmp_path: Path) -> None:
    folder = fit(config, tmp_path / "run", "--expires", "1mo", "--trainer.max_epochs", 1)
    last = prices()["timestamp"].max()
    assert pd.Timestamp(Contract.of(read_checkpoint(best(folder))).expires, tz="UTC") == last + pd.DateOffset(months=1)
    argv = ["--config", folder / "config.yaml", "--ckpt_path", "last", "--expires", "2mo", "--trainer.max_epochs", 2]
    assert run("fit", *argv) == 0
    saved = Contract.of(read_checkpoint(folder / "checkpoints/last.ckpt")).expires
    assert pd.Timestamp(saved, tz="UTC") == last + pd.DateOffset(months=2)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--expires", "soon"], 2, "E236"),
        (["--weights_from", "missing.ckpt"], 4, "no such checkpoint file"),
        (["--weights_from", "BEST", "--model.network.lstm_hidden", 8], 4, "lstm_hidden: 4 -> 8"),
        (["--weights_from", "BEST", "--data.window", 9], 4, "window: 8 -> 9"),
    ],
)
def test_wrong_words_are_one_line(
    argv: list[Any], code: int, message: str, expiring: Path, config: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [best(expiring) if word == "BEST" else word for word in argv]
    assert run("fit", "--config", config, "--run_dir", tmp_path / "run", *words) == code
    assert message in capsys.readouterr().err


# -- a warm start ----------------------------------------------------------------------------------------------------


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(path)["state_dict"]
    return state


def test_a_fit_begins_with_the_weights_and_fits_its_own_scales_and_line(
    config: Path, expiring: Path, tmp_path: Path
) -> None:
    """With a rate of almost 0 the network ends as it began."""
    argv = ["--trainer.max_epochs", 1, "--model.optimizer.class_path", "torch.optim.SGD"]
    argv += ["--model.optimizer.init_args.lr", 1e-12, "--data.end", "2010-11-01"]
    warm = weights(best(fit(config, tmp_path / "warm", "--weights_from", best(expiring), *argv)))
    cold = weights(best(fit(config, tmp_path / "cold", *argv)))
    earlier = weights(best(expiring))
    network = [name for name in earlier if name.endswith("weight") and name.startswith(("network.", "head."))]
    assert len(network) > 4
    for name in network:
        torch.testing.assert_close(warm[name], earlier[name], rtol=0, atol=1e-6)
    assert any(not torch.allclose(cold[name], earlier[name], atol=1e-3) for name in network)
    statistics = [name for name in earlier if name.startswith("linear.") or name.endswith(("loc", "scale"))]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(warm[name], cold[name])
    assert any(not torch.equal(warm[name], earlier[name]) for name in statistics)


def test_a_resumed_fit_has_weights_of_its_own(config: Path, expiring: Path, tmp_path: Path) -> None:
    words = ["--weights_from", best(expiring), "--trainer.max_epochs"]
    whole = fit(config, tmp_path / "whole", *words, 3)
    folder = fit(config, tmp_path / "cut", *words, 1)
    argv = ["--config", folder / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 3]
    assert run("fit", *argv) == 0
    last, wanted = (weights(one / "checkpoints/last.ckpt") for one in (folder, whole))
    assert all(torch.equal(last[name], wanted[name]) for name in wanted)


def test_the_starting_line_is_measured_without_them(config: Path, expiring: Path, tmp_path: Path) -> None:
    lines = []
    for words in ([], ["--weights_from", best(expiring)]):
        folder = fit(config, tmp_path / f"run{len(words)}", "--starting_line.candidate", "true", *words)
        lines.append(json.loads((folder / "summary.json").read_text())["starting_line"]["start"])
    assert lines[0] == lines[1]
