"""New bars every evening move no past row of any output, by a bit."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.splits import DateSplit, FractionSplit, RowSplit, Split, WalkForward
from cnn_lstm.errors import CheckpointError
from cnn_lstm.inference.ensemble import ensemble_from, write_ensemble
from cnn_lstm.inference.ensemble_module import for_trainer
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import Forecaster
from tests.experiments import experiment, fit, run
from tests.fits import FEATURES, small_checkpoint, small_data, small_network, small_trainer
from tests.markets import TableSource, market, walk

KEYS = ["target", "symbol", "as_of"]
TRUTH = ("y_true", "target_start", "target_end", "bar_return")  # of the last rows, known once their label has ended
NOT_OF_A_ROW = ("data_sha256",)  # of the whole table
QUICK: dict[str, Any] = {"deadline": None, "phases": [Phase.explicit, Phase.generate]}  # shrinking takes minutes


def grown() -> pd.DataFrame:
    """Two symbols of unequal calendars, and a third one that is listed late."""
    table = pd.concat([market(200, ("AAA", "BBB")), walk(60, "NEW", 9, "2010-07-20")], ignore_index=True)
    return table.sort_values(["timestamp", "symbol"], ignore_index=True)


def upto(table: pd.DataFrame, days: int) -> pd.DataFrame:
    """The table as it was after so many days."""
    times = sorted(set(table["timestamp"]))
    early: pd.DataFrame = table[table["timestamp"] <= times[min(days, len(times)) - 1]]
    return early


def assert_past_unmoved(before: pd.DataFrame, after: pd.DataFrame) -> None:
    """Every row that was there has the same bits; a truth may only become known."""
    assert len(after) >= len(before) > 0
    assert list(after) == list(before)
    later = before[KEYS].merge(after, on=KEYS, how="left", validate="one_to_one")
    for name in before.columns.drop([*KEYS, *NOT_OF_A_ROW], errors="ignore"):
        one, other = before[name].reset_index(drop=True), later[name]
        if name in TRUTH:
            one, other = one[one.notna()], other[one.notna()]
        if one.dtype == np.float64:
            one, other = (pd.Series(column.to_numpy().view(np.int64)) for column in (one, other))
        assert one.equals(other), name


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.from_checkpoint(small_checkpoint(tmp_path_factory.mktemp("grown")))


@given(days=st.integers(80, 195), more=st.integers(1, 60))
@settings(max_examples=8, **QUICK)
def test_predictor_and_its_intervals(predictor: Predictor, days: int, more: int) -> None:
    table = grown()
    before, after = (predictor.predict(upto(table, count)) for count in (days, days + more))
    assert_past_unmoved(before, after)
    late, old = str(before["as_of"].max())[:10], table[table["symbol"] != "NEW"]
    assert_past_unmoved(predictor.predict(upto(old, days), start=late), predictor.predict(old, start=late))


@given(days=st.integers(80, 190), more=st.integers(1, 60), samples=st.integers(1, 5))
@settings(max_examples=3, **QUICK)
def test_dropout_passes(predictor: Predictor, days: int, more: int, samples: int) -> None:
    """Also where a symbol came, and where only the last rows of the history are given."""
    table = grown()
    old = upto(table[table["symbol"] != "NEW"], days)
    late = old[old["timestamp"] >= sorted(set(old["timestamp"]))[40]]
    before, after = (predictor.predict(each, samples=samples) for each in (old, upto(table, days + more)))
    assert_past_unmoved(before, after)
    assert bool((before["mc_std"] > 0).any()) == (samples > 1)
    columns = [*KEYS, "y_pred", "mc_std"]
    assert_past_unmoved(predictor.predict(late, samples=samples)[columns], after[columns])


@given(days=st.integers(80, 150), more=st.integers(1, 5))
@settings(max_examples=4, **QUICK)
def test_what_a_stream_said_is_what_the_grown_table_says(predictor: Predictor, days: int, more: int) -> None:
    table = upto(grown(), days + more)
    stream = predictor.stream(upto(table, days))
    coming = [bars for _, bars in table[~table.index.isin(upto(table, days).index)].groupby("timestamp")]
    known = [bars[bars["symbol"].isin(stream.symbols)] for bars in coming]
    said = pd.concat([stream.update(bars) for bars in known if len(bars)])
    said = said.drop(columns=[name for name in said if re.fullmatch(r"e\d+", str(name))])
    assert_past_unmoved(said, predictor.predict(grown()))


# -- the parts of a data module that keeps the dates of a checkpoint ---------------------------------------------------


def module(table: pd.DataFrame, split: Split) -> MarketDataModule:
    return MarketDataModule(TableSource(table), features=FEATURES, window=6, split=split)


def decisions(data: MarketDataModule, rows: Any) -> list[tuple[str, int]]:
    names = np.asarray(data.panel.symbols, dtype=object)[data.panel.symbol[rows]]
    return list(zip(names, data.panel.time[rows].astype(np.int64), strict=True))


SPLITS = [
    FractionSplit(),
    FractionSplit(0.5, 0.2),
    RowSplit(0.6, 0.2),
    RowSplit(90, 30),
    RowSplit(90, 30, by="label"),
    WalkForward(3, 0),
    WalkForward(3, 2, embargo=4),
    WalkForward(3, 1, sliding=True, embargo=3),
    DateSplit("2010-05-03", "2010-07-01"),
]


@given(split=st.sampled_from(SPLITS), more=st.sampled_from((0, 1, 5, 56)))
@settings(max_examples=40, **QUICK)
def test_the_parts_are_those_of_the_checkpoint(split: Split, more: int) -> None:
    table = market(200, ("AAA", "BBB"))
    first, later = module(upto(table, 140), split), module(upto(table, 140 + more), split)
    first.setup()
    later.keep_dates(first.parts.boundaries)
    later.setup()
    for part in ("train", "validation"):
        assert decisions(later, later.parts.by_name[part]) == decisions(first, first.parts.by_name[part])
    for one, other in ((first.parts.test, later.parts.test), (first.rows_to_predict(), later.rows_to_predict())):
        assert set(decisions(first, one)) <= set(decisions(later, other))
    assert later.panel.time[later.rows_to_predict()].min() == first.panel.time[first.rows_to_predict()].min()
    ends = later.panel.time[later.parts.test].max()
    open_end = not isinstance(split, WalkForward) or split.fold == split.folds - 1
    assert ends == (later if open_end else first).panel.time[(later if open_end else first).parts.test].max()
    assert more <= 2 or (ends > first.parts.boundaries.end) == open_end


def test_dates_that_the_user_gives_are_the_users(caplog: pytest.LogCaptureFixture) -> None:
    table = market(200, ("AAA", "BBB"))
    first, later = module(table, FractionSplit()), module(table, DateSplit("2010-08-02", "2010-09-01"))
    first.setup()
    later.keep_dates(first.parts.boundaries)
    later.setup()
    assert str(later.parts.boundaries.test)[:10] == "2010-09-01"
    assert "W351" not in caplog.text


def test_another_history_keeps_the_dates_aloud(caplog: pytest.LogCaptureFixture) -> None:
    table = market(200, ("AAA", "BBB"))
    first, other = module(table, FractionSplit()), module(table, FractionSplit(0.5, 0.1))
    first.setup()
    other.keep_dates(first.parts.boundaries)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        other.setup()
    assert other.parts.boundaries.test == first.parts.boundaries.test
    assert "W351" in caplog.text
    assert str(first.parts.boundaries.test)[:10] in caplog.text


def test_recent_prices_alone_are_forecast_from_the_test_part_on(caplog: pytest.LogCaptureFixture) -> None:
    table = market(300, ("AAA", "BBB"))
    first = module(upto(table, 200), FractionSplit())
    first.setup()
    recent = module(table[table["timestamp"] >= "2010-08-16"], FractionSplit())
    recent.keep_dates(first.parts.boundaries)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        recent.setup()
    assert "no bars of its training part" in caplog.text
    assert recent.panel.time[recent.rows_to_predict()].min() >= first.parts.boundaries.test


# -- a script's own trainer --------------------------------------------------------------------------------------------


def forecasts_of(command: str, path: Path, table: pd.DataFrame, way: str, split: Split) -> pd.DataFrame:
    """Forecasts of a script that says nothing of dates, by symbol and time."""
    data, trainer = module(table, split), small_trainer()
    if way == "file":
        model: Any = Forecaster(small_network())
        getattr(trainer, command)(model, datamodule=data, ckpt_path=path, **({} if command == "predict" else QUIET))
    else:
        ensemble = way == "ensemble"
        model = for_trainer(ensemble_from(read_checkpoint(path))) if ensemble else Forecaster.load_from_checkpoint(path)
        getattr(trainer, command)(model, datamodule=data, **({} if command == "predict" else QUIET))
    rows = model.forecasts["row"].numpy()
    known = {"symbol": data.panel.symbol[rows], "as_of": data.panel.time[rows]}
    return pd.DataFrame({**known, "y_pred": model.forecasts["y_pred"][:, 0].numpy()})


QUIET = {"verbose": False}


@pytest.mark.parametrize("command", ["test", "predict", "validate"])
@pytest.mark.parametrize("way", ["file", "model", "ensemble"])
def test_a_script_says_nothing_of_dates(
    command: str, way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table, split = market(220, ("AAA", "BBB")), FractionSplit()
    trainer, path = small_trainer(), tmp_path / "small.ckpt"
    trainer.fit(Forecaster(small_network()), datamodule=module(upto(table, 170), split))
    trainer.save_checkpoint(path)
    if way == "ensemble":
        write_ensemble([path, path], tmp_path / "ensemble.ckpt")
        path = tmp_path / "ensemble.ckpt"
    before, after = (forecasts_of(command, path, upto(table, days), way, split) for days in (170, 215))
    assert "W351" not in caplog.text
    if command == "validate":
        pd.testing.assert_frame_equal(before, after)
        return
    both = before.merge(after, on=["symbol", "as_of"], suffixes=("", "_later"))
    assert (len(both), len(after) > len(before)) == (len(before), True)
    assert (both["y_pred"] == both["y_pred_later"]).all()
    assert after["as_of"].min() == before["as_of"].min()


def test_a_script_with_other_data_is_refused(tmp_path: Path) -> None:
    """A loaded forecaster would read other columns than it was trained on."""
    path, other = small_checkpoint(tmp_path), small_data(tmp_path, features=FEATURES[::-1])
    with pytest.raises(CheckpointError, match="features"):
        small_trainer().test(Forecaster.load_from_checkpoint(path), datamodule=other, verbose=False)


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commands", "evenings", "samples"),
    [
        (("predict",), (170, 175), 3),
        pytest.param(("predict", "test", "validate"), (170, 175, 220), 0, marks=pytest.mark.slow),
    ],
)
def test_commands_after_new_bars(
    commands: Sequence[str], evenings: Sequence[int], samples: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = market(220, gaps=False)
    run_dir = fit(experiment(tmp_path, upto(table, 170)), tmp_path / "run")
    names = {"predict": "forecasts.parquet", "test": "predictions.parquet", "validate": "validate_metrics.json"}
    tables: dict[str, list[pd.DataFrame]] = {command: [] for command in commands if command != "validate"}
    words, metrics = ("--config", run_dir / "config.yaml", "--ckpt_path", "best"), set()
    for days in evenings:
        upto(table, days).to_parquet(tmp_path / "prices.parquet")
        for command in commands:
            assert run(command, *words, "--model.samples", str(samples)) == 0
            if command == "validate":
                metrics.add((run_dir / names[command]).read_text())
            else:
                tables[command].append(pd.read_parquet(run_dir / names[command]))
    for before, after in (pair for evening in tables.values() for pair in pairwise(evening)):
        assert_past_unmoved(before, after)
        assert len(before) < len(after)
    assert len(metrics) <= 1
    wanted = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt").predict(table, samples=samples)
    assert_past_unmoved(tables["predict"][-1], wanted)
    assert "W351" not in capsys.readouterr().err
