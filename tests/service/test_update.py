"""Evening by evening, live.parquet becomes the table that one `predict` makes in the end; and nothing issued moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.known_future import KnownFuture
from cnn_lstm.data.static_columns import StaticColumns
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.errors import CheckpointError, CnnLstmError, ConfigError, DataError
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.locks import take_folder
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import Classes, Gaussian, Objective, Quantiles
from cnn_lstm.service import update as update_module
from cnn_lstm.service.growth import Changes
from cnn_lstm.service.live import LIVE, About, read_live
from cnn_lstm.service.update import update_run
from tests.experiments import experiment, fit, run, spec
from tests.fits import FEATURES, small_checkpoint, small_network, small_trainer
from tests.markets import TableSource, days, market, walk

OURS = ["issued", "late", "revised"]
EVENINGS = 5
ROWS = 200
HOLIDAYS = ("01-18", "02-15", "04-02", "05-31", "07-05", "09-06")  # of New York, 2010


@dataclass(frozen=True)
class Case:
    """A kind of model, and the data that it needs."""

    objective: type[Objective] | None = None
    targets: Sequence[Any] = (ForwardReturn(2),)
    features: Sequence[str] = tuple(FEATURES)
    data: dict[str, Any] = field(default_factory=dict)
    ensemble: bool = False
    hourly: bool = False


def events() -> KnownFuture:
    when = days(ROWS + 20)
    return KnownFuture(pd.DataFrame({"timestamp": when, "event": (np.arange(len(when)) % 7 == 0) * 1.0}), ["event"])


CASES = {
    "points, two targets": Case(targets=(ForwardReturn(1), RealizedVolatility(3, log=True))),
    "gaussian": Case(Gaussian),
    "quantiles": Case(Quantiles),
    "classes": Case(Classes, (Direction(),)),
    "a level": Case(None, (ForwardValue("close"),), (*FEATURES, "close"), {"anchor": ["close"]}),
    "across symbols": Case(features=("log_return_1", "excess_return_1", "close_location")),
    "known future": Case(data={"known_future": events()}),
    "static": Case(data={"static": StaticColumns(["symbol"])}),
    "an exchange": Case(data={"exchange": "XNYS"}),
    "an ensemble": Case(ensemble=True),
    "hours": Case(hourly=True),
}


def table_of(case: Case) -> pd.DataFrame:
    """Three symbols of unequal calendars, the last of which is listed late."""
    table = pd.concat([market(ROWS, ("AAA", "BBB")), walk(70, "NEW", 9, "2010-07-06")], ignore_index=True)
    if "static" in case.data:  # a new symbol is refused
        table = table[table["symbol"] != "NEW"]
    if "exchange" in case.data:
        table = table[~table["timestamp"].dt.strftime("%m-%d").isin(HOLIDAYS)]
    if case.hourly:
        first = table["timestamp"].min()
        table["timestamp"] = first + (table["timestamp"] - first) / 24
    return table.sort_values(["timestamp", "symbol"], ignore_index=True)


def predictor_of(case: Case, folder: Path, table: pd.DataFrame) -> Predictor:
    torch.manual_seed(0)
    options: dict[str, Any] = {"features": list(case.features), "targets": list(case.targets), "window": 6, **case.data}
    files = []
    for number in range(2 if case.ensemble else 1):
        data = MarketDataModule(TableSource(table[table["symbol"] != "NEW"]), **options)
        objective: dict[str, Any] = {} if case.objective is None else {"objective": case.objective()}
        trainer = small_trainer()
        network = small_network(n_features=data.n_features)
        trainer.fit(Forecaster(network, n_targets=len(case.targets), **objective), datamodule=data)
        files.append(folder / f"{number}.ckpt")
        trainer.save_checkpoint(files[-1])
    if case.ensemble:
        write_ensemble(files, folder / "ensemble.ckpt")
        files.append(folder / "ensemble.ckpt")
    predictor = Predictor.from_checkpoint(files[-1])
    return predictor.keep(case.data.get("known_future"))


def assert_same_bits(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Equal, and numbers in every bit."""
    assert list(found) == list(wanted)
    for name in wanted:
        one, other = found[name].reset_index(drop=True), wanted[name].reset_index(drop=True)
        if one.dtype == np.float64:
            one, other = (pd.Series(column.to_numpy().view(np.int64)) for column in (one, other))
        assert one.equals(other), name


@pytest.mark.filterwarnings("ignore:.*no intervals")
@pytest.mark.parametrize("name", CASES)
def test_evenings_are_one_predict(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    table = table_of(case)
    times = sorted(set(table["timestamp"]))
    first = times[-EVENINGS]
    predictor = predictor_of(case, tmp_path, table[table["timestamp"] < times[-2 * EVENINGS]])
    for evening in times[-EVENINGS:]:
        known = table[table["timestamp"] <= evening]
        before = read_live(tmp_path) if (tmp_path / LIVE).exists() else None
        # a new predictor each evening, as a new process has
        fresh = Predictor(predictor.forecaster).keep(case.data.get("known_future"))
        changes = update_run(tmp_path, fresh, known, str(first))
        assert changes.new == (known["timestamp"] == evening).sum() * len(case.targets)
        live, content = read_live(tmp_path), (tmp_path / LIVE).read_bytes()
        assert update_run(tmp_path, fresh, known, str(first)) == Changes(rows=len(live))
        assert (tmp_path / LIVE).read_bytes() == content
        if before is not None:
            kept = live.merge(before[["target", "symbol", "as_of"]]).reset_index(drop=True)
            outcomes = ["target_start", "target_end", "y_true", "bar_return", "late"]
            assert_same_bits(kept.drop(columns=outcomes), before.drop(columns=outcomes))
    wanted = predictor.predict(table)
    assert_same_bits(live.drop(columns=OURS), wanted[wanted["as_of"] >= first])
    assert live["y_true"].notna().any()
    assert live.attrs["targets"] == wanted.attrs["targets"]
    assert not live["revised"].any()


# -- what a source does to its past ------------------------------------------------------------------------------------


class Evenings:
    """A run in service, with a clock that stands at the evening of the last bar unless it is given."""

    def __init__(self, folder: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.predictor, self._patch = folder, predictor, monkeypatch

    def update(self, prices: pd.DataFrame, now: str = "", since: str | None = None) -> Changes:
        moment = pd.Timestamp(now, tz="UTC") if now else prices["timestamp"].max() + pd.Timedelta(hours=22)
        self._patch.setattr(update_module, "utc_now", lambda: moment.as_unit("us"))
        return update_run(self.folder, Predictor(self.predictor.forecaster), prices, since)

    @property
    def live(self) -> pd.DataFrame:
        return read_live(self.folder)


@pytest.fixture(scope="module")
def returns(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("returns")
    data = MarketDataModule(TableSource(bars("2010-08-31")), features=FEATURES, window=6, targets=[ForwardReturn(1)])
    trainer = small_trainer()
    trainer.fit(Forecaster(small_network()), datamodule=data)
    trainer.save_checkpoint(folder / "x.ckpt")
    return Predictor.from_checkpoint(folder / "x.ckpt")


@pytest.fixture
def service(returns: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evenings:
    return Evenings(tmp_path, returns, monkeypatch)


def bars(until: str) -> pd.DataFrame:
    """AAA and BBB up to a day; the Monday of the tests is 6 September 2010."""
    table = market(200, ("AAA", "BBB"), gaps=False)
    return table[table["timestamp"] <= pd.Timestamp(until, tz="UTC")].reset_index(drop=True)


def split(table: pd.DataFrame, symbol: str, ratio: float) -> pd.DataFrame:
    """What a source serves after a split: new bars in the new unit, and all bars before them adjusted to it."""
    of_symbol, scaled = table["symbol"] == symbol, table.copy()
    scaled.loc[of_symbol, ["open", "high", "low", "close"]] /= ratio
    scaled.loc[of_symbol, "volume"] *= ratio
    return scaled


def test_the_first_update_begins_after_what_the_fit_knew(service: Evenings) -> None:
    assert str(service.update(bars("2010-08-31"))).startswith("nothing new since")
    assert not (service.folder / LIVE).exists()
    assert service.update(bars("2010-09-02")) == Changes(symbols=2, new=4, late=0, rows=4)
    assert sorted(set(service.live["as_of"].dt.strftime("%m-%d"))) == ["09-01", "09-02"]
    with pytest.raises(ConfigError, match="E224"):
        service.update(bars("2010-09-02"), since="2010-08-02")
    assert service.update(bars("2010-09-02"), since=About.of(service.live).since).new == 0


def test_the_first_update_begins_after_what_the_test_knew(service: Evenings) -> None:
    service.predictor.predict(bars("2010-09-02")).to_parquet(service.folder / "predictions.parquet")
    assert service.update(bars("2010-09-03")).new == 2
    assert About.of(service.live).since[:10] == "2010-09-02"


def test_missing_evenings_are_late(service: Evenings) -> None:
    """With a delay of 1 the label of Monday begins on Tuesday, which is in time until it is over."""
    service.update(bars("2010-09-06"), since="2010-09-06")
    assert service.update(bars("2010-09-09")) == Changes(symbols=2, new=6, late=2, known=2, rows=8)
    live = service.live[service.live["symbol"] == "AAA"]
    assert live["late"].tolist() == [False, True, False, False]
    assert live["y_true"].notna().tolist() == [True, True, False, False]
    # nobody knew on Thursday that Friday would be the next bar: whoever forecast on Monday for it was late
    service.update(bars("2010-09-09"), now="2010-09-13 22:00")
    assert not service.live["late"].iloc[3]
    changes = service.update(bars("2010-09-10"), now="2010-09-13 22:00")
    assert (changes.new, changes.late) == (2, 0)
    service.update(bars("2010-09-13"), now="2010-09-13 22:00")
    assert service.live.loc[service.live["symbol"] == "AAA", "late"].tolist() == [
        False,
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_bar_that_comes_a_day_late(service: Evenings) -> None:
    monday = bars("2010-09-06")
    late = monday[~((monday["symbol"] == "BBB") & (monday["timestamp"] == monday["timestamp"].max()))]
    assert service.update(late, since="2010-09-06").new == 1
    changes = service.update(bars("2010-09-08"))
    assert (changes.new, changes.late, changes.revised) == (5, 1, "")
    live = service.live
    assert live[live["late"]][["symbol", "as_of"]].values.tolist() == [["BBB", pd.Timestamp("2010-09-06", tz="UTC")]]
    wanted = service.predictor.predict(bars("2010-09-08"), start="2010-09-06")
    assert_same_bits(live.drop(columns=OURS), wanted)


def test_a_corrected_bar(service: Evenings, caplog: pytest.LogCaptureFixture) -> None:
    service.update(bars("2010-09-08"), since="2010-09-06")
    before, table = service.live, bars("2010-09-09")
    wrong = (table["symbol"] == "AAA") & (table["timestamp"] == pd.Timestamp("2010-09-07", tz="UTC"))
    table.loc[wrong, ["open", "high", "low", "close"]] *= 1.05
    changes = service.update(table)
    assert changes.revised == "AAA @ 2010-09-06, 3 forecasts"  # its label, too, spans the bar
    assert "W367" in caplog.text
    live = service.live
    assert live[live["revised"]]["as_of"].dt.day.tolist() == [6, 7, 8]
    kept = live[live["as_of"] <= before["as_of"].max()].reset_index(drop=True)
    for name in ("y_pred", "lower_90", "upper_90", "y_last", "issued"):
        assert_same_bits(kept[[name]], before[[name]])
    caplog.clear()
    assert service.update(table) == Changes(rows=len(live))  # it is said once
    assert not caplog.records


def test_a_split_changes_nothing(service: Evenings) -> None:
    service.update(bars("2010-09-08"), since="2010-09-06")
    changes = service.update(split(bars("2010-09-09"), "AAA", 4.0))
    assert (changes.new, changes.known, changes.revised) == (2, 2, "")
    wanted = service.predictor.predict(bars("2010-09-09"), start="2010-09-06")
    np.testing.assert_allclose(service.live["y_true"], wanted["y_true"], rtol=1e-4, atol=1e-7)


def test_a_level_after_a_split_has_the_unit_of_its_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["a level"]
    service = Evenings(tmp_path, predictor_of(case, tmp_path, bars("2010-08-31")), monkeypatch)
    service.update(bars("2010-09-08"), since="2010-09-06")
    issued, after = service.live, split(bars("2010-09-09"), "AAA", 4.0)
    # this model reads prices as they are, so that in the new unit it would forecast something else
    assert service.update(after).revised == "AAA @ 2010-09-06, 3 forecasts"
    # 9 September is a bar of the new unit, and the label of 8 September: it is four times as much in the old one
    new_bar = after[(after["symbol"] == "AAA")]["close"].iloc[-1]
    live = service.live[service.live["symbol"] == "AAA"]
    assert live["y_true"].iloc[:2].tolist() == issued[issued["symbol"] == "AAA"]["y_true"].iloc[:2].tolist()
    assert live["y_true"].iloc[2] == pytest.approx(4.0 * new_bar, rel=1e-4)
    assert np.isnan(live["y_true"].iloc[3])
    # a wrong close that is corrected is not a split: the issued truth stays
    wrong = bars("2010-09-10")
    place = (wrong["symbol"] == "BBB") & (wrong["timestamp"] == pd.Timestamp("2010-09-09", tz="UTC"))
    right = float(bars("2010-09-10").query("symbol == 'BBB'")["close"].iloc[-1])
    wrong.loc[place, ["open", "high", "low", "close"]] /= 1.1
    assert service.update(split(wrong, "AAA", 4.0)).revised.startswith("BBB @ 2010-09-0")
    live = service.live[service.live["symbol"] == "BBB"]
    assert live["y_true"].iloc[3] == pytest.approx(right, rel=1e-6)


def test_a_symbol_that_the_source_drops(service: Evenings, caplog: pytest.LogCaptureFixture) -> None:
    service.update(bars("2010-09-08"), since="2010-09-06")
    before, left = service.live, bars("2010-09-10").query("symbol == 'AAA'")
    changes = service.update(left)
    assert (changes.symbols, changes.new, changes.gone) == (1, 2, ("BBB",))
    assert "W368" in caplog.text
    assert_same_bits(service.live.query("symbol == 'BBB'"), before.query("symbol == 'BBB'"))
    caplog.clear()
    service.update(left)
    assert not caplog.records
    assert service.update(bars("2010-09-10")).new == 2  # it is back


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "files"])
def test_a_listed_symbol_that_the_source_loses_does_not_stop_the_others(
    stored: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the commands: neither is it in the file, nor does it have a bar since `data.start`."""
    every = pd.concat([walk(260, symbol, seed) for seed, symbol in enumerate(("AAA", "BBB", "CCC"))])
    storage = spec("cnn_lstm.data.mapped.MappedPanel", folder=str(tmp_path / "panel")) if stored else None
    data: dict[str, Any] = {"symbols": ["AAA", "BBB", "CCC"], "start": "2010-02-01", "storage": storage}
    source = spec("cnn_lstm.data.sources.PriceFiles", paths=str(tmp_path / "prices.parquet"))
    config = experiment(
        tmp_path, every[every["timestamp"] < "2010-11-01"], {**data, "source": source}, model={"samples": 5}
    )
    home = fit(config, tmp_path / "run", "--trainer.max_epochs", 1)
    capsys.readouterr()
    assert run("update", home, "--since", "2010-10-25") == 0
    assert "[W369] its forecasts are of plain passes, without mc_std — model.samples 5" in capsys.readouterr().err
    begun = read_live(home)
    assert not [name for name in map(str, begun) if name.startswith("mc_")]
    others = every[(every["symbol"] == "AAA") | ((every["symbol"] == "BBB") & (every["timestamp"] < "2010-02-01"))]
    others.to_parquet(tmp_path / "prices.parquet")
    capsys.readouterr()
    assert run("update", home) == 0
    shown = capsys.readouterr()
    [line] = [line for line in shown.err.splitlines() if "W36" in line]
    assert "BBB, CCC, 2 symbols" in line
    assert shown.out.startswith("1 symbol, ")
    live = read_live(home)
    for symbol in ("BBB", "CCC"):
        assert_same_bits(live[live["symbol"] == symbol], begun[begun["symbol"] == symbol])
    assert live[live["symbol"] == "AAA"]["as_of"].max() == every["timestamp"].max()
    assert run("update", home) == 0
    assert "W368" not in capsys.readouterr().err
    assert run("monitor", home, "--now", "2010-12-31", "--exit_zero") == 0
    assert "2 symbols of the training have no bars: BBB, CCC" in capsys.readouterr().out
    for words in (["--data.symbols", "[AAA,AAB]"], ["--data.symbols", "[BBB,CCC]"]):  # misspelt; and nothing is left
        assert run("update", home, *words) == 3
        assert "error[E3" in capsys.readouterr().err


def test_fewer_bars_than_before_revise_nothing(service: Evenings) -> None:
    service.update(bars("2010-09-08"), since="2010-09-06")
    content = (service.folder / LIVE).read_bytes()
    recent = bars("2010-09-08")[bars("2010-09-08")["timestamp"] >= "2010-08-20"]
    for table in (bars("2010-09-06"), recent):
        assert service.update(table, since="2010-09-06").revised == ""
    assert (service.folder / LIVE).read_bytes() == content


def test_a_bar_that_is_taken_out(service: Evenings) -> None:
    service.update(bars("2010-09-08"), since="2010-09-06")
    table = bars("2010-09-08")
    out = (table["symbol"] == "BBB") & (table["timestamp"] == pd.Timestamp("2010-09-07", tz="UTC"))
    assert service.update(table[~out]).revised == "BBB @ 2010-09-07, 2 forecasts"


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_another_model_is_refused(service: Evenings, tmp_path_factory: pytest.TempPathFactory) -> None:
    service.update(bars("2010-09-08"), since="2010-09-06")
    torch.manual_seed(5)
    other = Predictor.from_checkpoint(small_checkpoint(tmp_path_factory.mktemp("other")))
    with pytest.raises(CheckpointError, match="E443"):
        update_run(service.folder, other, bars("2010-09-08"))


def test_a_locked_folder_is_refused(service: Evenings) -> None:
    with take_folder(service.folder, "fit", "run"), pytest.raises(ConfigError, match="E243"):
        service.update(bars("2010-09-08"))


def test_a_damaged_file_is_not_written_over(service: Evenings) -> None:
    with pytest.raises(DataError, match="E366"):
        read_live(service.folder)
    service.update(bars("2010-09-08"), since="2010-09-06")
    content = bytearray((service.folder / LIVE).read_bytes())
    content[200] ^= 1
    (service.folder / LIVE).write_bytes(content)
    with pytest.raises(DataError, match=r"E339.*restore it from a backup"):
        service.update(bars("2010-09-09"))
    assert (service.folder / LIVE).read_bytes() == content


@pytest.mark.parametrize("moment", ["write_live", "replace"])
def test_an_error_leaves_the_old_file(service: Evenings, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service.update(bars("2010-09-08"), since="2010-09-06")
    content = (service.folder / LIVE).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if moment == "write_live":
            patch.setattr("cnn_lstm.data.stored_tables.pq.ParquetWriter.write_table", full)
        else:
            patch.setattr(Path, "replace", full)
        with pytest.raises(CnnLstmError, match="E606"):
            service.update(bars("2010-09-09"))
    assert (service.folder / LIVE).read_bytes() == content
    assert service.update(bars("2010-09-09")).new == 2


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = market(200, ("AAA", "BBB"), gaps=False)
    times = sorted(set(table["timestamp"]))
    run_dir = fit(experiment(tmp_path, table[table["timestamp"] < times[-3]]), tmp_path / "run")
    capsys.readouterr()
    assert run("update", run_dir) == 0
    assert capsys.readouterr().out.startswith("nothing new since what the fit")
    table[table["timestamp"] < times[-1]].to_parquet(tmp_path / "prices.parquet")
    assert run("update", run_dir) == 0
    out = capsys.readouterr().out
    assert out == f"2 symbols, 4 new forecasts (2 late), 0 outcomes known; 4 rows in {run_dir / LIVE}\n"
    assert run("update", run_dir, "--data.end", "2010-08-03") == 0
    assert "data.end is 2010-08-03: add --data.end null" in capsys.readouterr().out
    table.to_csv(tmp_path / "newer.csv", index=False)
    assert run("update", run_dir, "--prices", tmp_path / "newer.csv") == 0
    assert "2 symbols, 2 new forecasts, 0 outcomes known; 6 rows" in capsys.readouterr().out
    assert run("update", run_dir, "--config", run_dir / "config.yaml", "--ckpt_path", "last") in (0, 4)
    assert run("update", run_dir, "--prices", tmp_path / "none.csv") == 3
    assert run("update", tmp_path / "no_run") == 4
    assert not (tmp_path / "no_run").exists()
    wanted = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt").predict(table)
    assert_same_bits(read_live(run_dir).drop(columns=OURS), wanted[wanted["as_of"] >= times[-3]])
