"""Static columns: a planted sector learnt, the same bits at every door, an unseen category refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.checks import Checks
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.static_columns import StaticColumns
from cnn_lstm.data.symbol_codes import code_of
from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.data.windows import cut_windows
from cnn_lstm.errors import CheckpointError, CnnLstmError, ConfigError, DataError
from cnn_lstm.evaluation.audit.run_audit import audit, joined
from cnn_lstm.inference.embeddings import embeddings_table
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.export import export
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.pyfunc import PriceModel, example_prices, example_tables
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.rl.encoder import Encoder
from tests.fits import small_network, small_trainer
from tests.markets import TableSource, bars_of, days

ROWS = 300
SAME = ["y_pred", "lower_90", "upper_90"]
FEATURES = ["log_return_1", "volume_ratio_5"]
SECTORS = {"AAA": "calm", "BBB": "wild", "CCC": "calm", "DDD": "wild"}
TABLE = pd.DataFrame({"Ticker": list(SECTORS), "sector": list(SECTORS.values()), "exchange": ["N", "N", "Q", "Q"]})


def planted(seed: int = 0) -> pd.DataFrame:
    """Prices of four symbols; the volatility of a wild sector is three times that of a calm one."""
    random = np.random.default_rng(seed)
    tables = []
    for number, (symbol, sector) in enumerate(SECTORS.items()):
        moves = random.normal(0, 0.03 if sector == "wild" else 0.01, ROWS)
        tables.append(bars_of(100 * np.exp(np.cumsum(moves)), days(ROWS), symbol, number))
    return pd.concat(tables, ignore_index=True)


PRICES = planted()


def data_with(static: StaticColumns | None, **arguments: Any) -> MarketDataModule:
    """Windows of five rows, whose features say little of the level of a volatility."""
    values: dict[str, Any] = {"targets": [RealizedVolatility(5, log=True)], "features": FEATURES, "window": 5}
    return MarketDataModule(**{"source": TableSource(PRICES), **values, "static": static, **arguments})


def fitted(folder: Path, static: StaticColumns | None, epochs: int = 1, **arguments: Any) -> tuple[Path, float]:
    """A checkpoint, and its lowest validation loss."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    data = data_with(static, **arguments)
    optimizer = lambda parameters: torch.optim.Adam(parameters, lr=0.02)  # noqa: E731
    trainer = small_trainer(max_epochs=epochs)
    model = Forecaster(small_network(n_features=data.n_features), optimizer=optimizer, linear="off")
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / "x.ckpt")
    return folder / "x.ckpt", float(trainer.callback_metrics["val_loss"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has learnt something of three static columns."""
    static = StaticColumns(["sector", "symbol", "exchange"], TABLE)
    return fitted(tmp_path_factory.mktemp("fit"), static, epochs=2)[0]


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> pd.DataFrame:
    """Forecasts of the whole table."""
    return Predictor.from_checkpoint(checkpoint).predict(PRICES, static=TABLE)


def test_a_planted_sector_is_learnt_only_where_it_is_known(tmp_path: Path) -> None:
    losses = {
        name: fitted(tmp_path / name, static, epochs=3)[1]
        for name, static in {"nothing": None, "sector": StaticColumns(["sector"], TABLE)}.items()
    }
    assert losses["sector"] < 0.7 * losses["nothing"]


def test_codes_stand_behind_the_features_and_are_not_numbers(checkpoint: Path) -> None:
    data = data_with(StaticColumns(["sector", "symbol"], TABLE), per_symbol=True)
    data.setup()
    assert data.recipe.features == (*FEATURES, "static_sector", "static_symbol", "symbol_code")
    last = data.panel.values[data.panel.edges[1:] - 1]
    assert last[:, 2].tolist() == [code_of(SECTORS[symbol]) for symbol in data.panel.symbols]
    assert last[:, 3].tolist() == [code_of(symbol) for symbol in data.panel.symbols]
    assert data.contract()["static"] == {"sector": ["calm", "wild"], "symbol": sorted(SECTORS)}
    model = Predictor.from_checkpoint(checkpoint).forecaster
    standardized = model.network.standardize(data.panel.values[None, 20:25, :5])  # type: ignore[union-attr,operator]
    assert (standardized[..., 2:] == 0).all()


def test_the_model_reads_the_category_and_starts_as_one_without() -> None:
    torch.manual_seed(0)
    model = Forecaster(small_network(n_features=3)).eval()
    x = torch.randn(4, 5, 3)
    x[..., 2] = torch.tensor([7.0, 9.0, 7.0, 8.0])[:, None]
    before = model.encode(x)
    model.categories.take(torch.tensor([[2.0, 7.0], [2.0, 9.0]]))
    started = model.encode(x)
    assert torch.equal(started[:3], before[:3])
    assert started[3].isnan().all()  # never the forecast of another category
    with torch.no_grad():
        for weights in model.categories.project.parameters():
            weights.normal_()
    moved = model.encode(x)
    swapped = x.clone()
    swapped[:, -1, 2] = torch.tensor([9.0, 7.0, 9.0, 8.0])
    assert not torch.allclose(moved[:2], before[:2])
    assert not torch.allclose(model.encode(swapped)[:2], moved[:2])


def test_streams_and_evenings_have_the_bits_of_the_whole_table(
    checkpoint: Path, whole: pd.DataFrame, tmp_path: Path
) -> None:
    assert whole["y_pred"].notna().all()
    cut = days(ROWS)[280]
    predictor = Predictor.from_checkpoint(checkpoint).keep(static=TABLE)
    stream = predictor.stream(PRICES[PRICES["timestamp"] <= cut])
    rows = []
    for number, (_, bars) in enumerate(PRICES[PRICES["timestamp"] > cut].groupby("timestamp")):
        if number == 5:
            stream.save(tmp_path / "state.npz")
            stream = predictor.stream(state=tmp_path / "state.npz")
        rows.append(stream.update(bars))
    streamed = pd.concat(rows).sort_values(["symbol", "as_of"], ignore_index=True)
    expected = whole[whole["as_of"] > cut].sort_values(["symbol", "as_of"], ignore_index=True)
    pd.testing.assert_frame_equal(streamed[SAME], expected[SAME], check_exact=True)
    for end in (ROWS - 1, ROWS):
        evening = predictor.predict(PRICES[PRICES["timestamp"] <= days(ROWS)[end - 1]], start=str(cut)[:10])
    expected = whole[whole["as_of"] >= cut].reset_index(drop=True)
    pd.testing.assert_frame_equal(evening[SAME], expected[SAME], check_exact=True)


def test_what_was_not_in_the_training_is_refused_at_every_door(checkpoint: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    for door in (predictor.predict, predictor.encode, predictor.stream, PriceModel(predictor).predict):
        with pytest.raises(CheckpointError, match=r"E429.*reads sector, symbol, exchange, and no table"):
            door(PRICES)
    new = PRICES.replace({"symbol": {"DDD": "EEE"}})
    with pytest.raises(DataError, match=r"E377.*no sector for EEE"):
        predictor.predict(new, static=TABLE)
    added = pd.concat([TABLE, pd.DataFrame({"Ticker": ["EEE"], "sector": ["calm"], "exchange": ["N"]})])
    with pytest.raises(DataError, match=r"E378.*the symbol 'EEE' was not in the training.*AAA, BBB, CCC, DDD"):
        predictor.predict(new, static=added)
    other = TABLE.assign(sector=["calm", "wild", "calm", "odd"])
    with pytest.raises(DataError, match=r"E378.*the sector 'odd' of DDD was not in the training.*calm, wild"):
        predictor.predict(PRICES, static=other)
    stream = predictor.stream(PRICES[PRICES["timestamp"] <= days(ROWS)[200]], static=TABLE)
    with pytest.raises(DataError, match="E338"):
        stream.update(new[new["timestamp"] == days(ROWS)[201]])


def test_the_symbol_alone_needs_no_table(tmp_path: Path) -> None:
    path, _ = fitted(tmp_path, StaticColumns(["symbol"]))
    predictor = Predictor.from_checkpoint(path)
    assert predictor.predict(PRICES)["y_pred"].notna().all()
    assert predictor.forecaster.contract.static == {"symbol": sorted(SECTORS)}
    with pytest.raises(DataError, match="E378"):
        predictor.predict(PRICES.replace({"symbol": {"DDD": "EEE"}}))


def test_mlflow_ensembles_encodings_and_exports(checkpoint: Path, whole: pd.DataFrame, tmp_path: Path) -> None:
    model = PriceModel(Predictor.from_checkpoint(checkpoint))
    table = model.predict(PRICES, {"static": TABLE.rename(columns={"Ticker": "symbol"}).to_json(orient="records")})
    pd.testing.assert_frame_equal(table[SAME], whole[SAME], check_exact=True)
    example = example_prices(model.predictor)
    assert model.predict(example, example_tables(model.predictor, example)).empty
    assert len(embeddings_table(Predictor.from_checkpoint(checkpoint).keep(static=TABLE), PRICES)) == len(whole)
    write_ensemble([checkpoint, checkpoint], tmp_path / "both.ckpt")
    both = Predictor.from_checkpoint(tmp_path / "both.ckpt").predict(PRICES, static=TABLE)
    assert (both["y_pred"] == whole["y_pred"]).all()
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    exported = export(checkpoint, tmp_path / "x.onnx", "onnx")
    codes = json.loads(exported.description.read_text())["static_codes"]
    assert codes["static_sector"] == {"calm": code_of("calm"), "wild": code_of("wild")}


@pytest.mark.parametrize("frozen", [True, False])
def test_the_encoder_of_an_agent_reads_the_category(frozen: bool, checkpoint: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint).keep(static=TABLE)
    panel, rows, _ = predictor.windows(PRICES)
    windows = cut_windows(panel.values, torch.from_numpy(rows[:: len(rows) // 9]), 5)
    encoder = Encoder.from_checkpoint(checkpoint, frozen=frozen)
    expected = predictor.forecaster.encode(windows)
    torch.testing.assert_close(encoder(windows), expected, rtol=1e-5, atol=1e-5)
    again = Encoder(encoder.plan, frozen=frozen)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(windows), encoder(windows))
    assert len(list(again.parameters())) == len(list(encoder.parameters()))
    random = Encoder.from_checkpoint(checkpoint, pretrained=False)
    assert random(windows).isfinite().all()


def test_a_checkpoint_of_other_categories_is_not_tested_or_gone_on_with(checkpoint: Path, tmp_path: Path) -> None:
    data = data_with(StaticColumns(["sector", "symbol", "exchange"], TABLE.replace({"sector": {"calm": "still"}})))
    model = Forecaster(small_network(n_features=data.n_features), linear="off")
    with pytest.raises(DataError, match=r"E378.*the sector 'still' was not in the training"):
        small_trainer().test(model, datamodule=data, ckpt_path=checkpoint)
    same = data_with(StaticColumns(["sector", "symbol", "exchange"], TABLE))
    tested = small_trainer()
    tested.test(
        Forecaster(small_network(n_features=same.n_features), linear="off"), datamodule=same, ckpt_path=checkpoint
    )
    assert np.isfinite(float(tested.callback_metrics["test_loss"]))


def test_the_audit_takes_static_columns(checkpoint: Path) -> None:
    data = data_with(StaticColumns(["sector", "symbol", "exchange"], TABLE))
    content, predictor = joined(data, checkpoint)
    assert not audit(data, predictor, content).failed


def test_a_panel_in_files_has_the_same_bits(tmp_path: Path) -> None:
    PRICES.assign(timestamp=PRICES["timestamp"].dt.strftime("%Y-%m-%d")).to_csv(tmp_path / "p.csv", index=False)
    static, panels = StaticColumns(["sector", "symbol"], TABLE), []
    for storage in (None, MappedPanel(str(tmp_path / "panel"))):
        data = data_with(static, source=PriceFiles(str(tmp_path / "p.csv")), storage=storage)
        data.setup()
        panels.append(data.panel.values.numpy().tobytes())
    assert panels[0] == panels[1]


def test_the_price_table_itself_can_be_the_table(tmp_path: Path) -> None:
    prices = PRICES.assign(sector=PRICES["symbol"].map(SECTORS), board=3.0)
    prices.to_csv(tmp_path / "prices.csv", index=False)
    tables = [
        StaticColumns(["sector", "board"], table).load()
        for table in (prices, str(tmp_path / "prices.csv"), prices.set_index("symbol"))
    ]
    assert all(table.values == {"sector": SECTORS, "board": dict.fromkeys(SECTORS, "3")} for table in tables)
    prices.loc[7, "sector"] = "wild"
    with pytest.raises(DataError, match=r"E377.*sector of AAA changes: calm, wild"):
        StaticColumns(["sector"], prices).load()


REFUSED: dict[str, tuple[int, Any]] = {
    "no column": (377, lambda: StaticColumns(["country"], TABLE).load()),
    "no symbol": (377, lambda: StaticColumns(["sector"], TABLE[["sector"]]).load()),
    "an empty cell": (377, lambda: StaticColumns(["sector"], TABLE.assign(sector=["a", "", "b", "c"])).load()),
    "no row": (377, lambda: StaticColumns(["sector"], TABLE[:0]).load()),
    "not a table": (338, lambda: StaticColumns(["sector"], 3).load()),  # type: ignore[arg-type]
    "no file": (301, lambda: StaticColumns(["sector"], "nowhere.csv").load()),
    "no table": (225, lambda: StaticColumns(["sector"])),
    "no name": (224, lambda: StaticColumns([])),
    "a name of ours": (225, lambda: data_with(StaticColumns(["symbol"]), features=["static_symbol"])),
    "an anchor": (225, lambda: data_with(StaticColumns(["symbol"]), anchor=["static_symbol"])),
    "a symbol of the test part alone": (
        378,
        lambda: data_with(
            StaticColumns(["symbol"]), source=TableSource(_late(PRICES)), checks=Checks(on_short="skip")
        ).setup(),
    ),
}


def _late(prices: pd.DataFrame) -> pd.DataFrame:
    """A symbol that begins in the test part."""
    return prices[(prices["symbol"] != "DDD") | (prices["timestamp"] >= days(ROWS)[270])]


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(case: str) -> None:
    code, make = REFUSED[case]
    with pytest.raises(CnnLstmError) as caught:
        make()
    assert caught.value.code == code
    assert len(str(caught.value)) <= 400
    assert "\n" not in str(caught.value)


DAMAGED: dict[str, Any] = {
    "no text": lambda ours: ours.update(static={"sector": [3]}),
    "twice": lambda ours: ours["static"].update(sector=["calm", "calm"]),
    "one more": lambda ours: ours["static"].update(sector=["calm", "odd", "wild"]),
    "none": lambda ours: ours.pop("static"),
    "another column": lambda ours: ours["static"].update(other=ours["static"].pop("sector")),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_is_refused(damage: str, checkpoint: Path, tmp_path: Path) -> None:
    content = copy.deepcopy(read_checkpoint(checkpoint))
    DAMAGED[damage](content[CHECKPOINT_KEY])
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match=r"E414|E421"):
        Predictor.from_checkpoint(tmp_path / "odd.ckpt")


def test_half_precision_would_round_the_codes() -> None:
    model = Forecaster(small_network(n_features=3)).half()
    with pytest.raises(ConfigError, match="half precision"):
        model.categories.take(torch.tensor([[2.0, 7.0]]))
