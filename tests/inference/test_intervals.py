"""Intervals: measured coverage, no look-ahead, a bar at a time as all at once, and what a checkpoint keeps of them."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from cnn_lstm.data.predictions import TargetInfo
from cnn_lstm.data.targets import ewma_volatility
from cnn_lstm.errors import CheckpointError
from cnn_lstm.inference.adaptive import GAMMA, LEVELS, RECENT, AdaptiveIntervals, AdaptiveSets
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from tests.experiments import experiment, fit, predict, spec
from tests.markets import market, walk

Floats = NDArray[np.float64]
FIRST = "2000-01-01"
COLUMNS = [f"{side}_{level}" for level in LEVELS for side in ("lower", "upper")]
SETS = [f"set_{level}" for level in LEVELS]
CONTRACT = {
    "recipe": {"window": 6},
    "symbols": ["AAA"],
    "target_names": ["t"],
    "target_mean": [0.0],
    "boundaries": {"train": FIRST, "validation": FIRST, "test": FIRST, "end": FIRST},
    "fingerprint": "0f",
}


def forecasts(
    truth: Floats,
    symbol: str = "AAA",
    reach: int = 2,
    kind: str = "return",
    scale: Floats | float = 1.0,
    probabilities: Floats | None = None,
) -> pd.DataFrame:
    """A predictions table of one target; the forecast is 0, or the given class probabilities (n, C)."""
    rows = len(truth)
    days = pd.date_range(FIRST, periods=rows + reach, freq="D", tz="UTC").as_unit("us")
    table = pd.DataFrame(
        {
            "symbol": symbol,
            "as_of": days[:rows],
            "target_end": days[reach:],
            "target": "t",
            "y_true": truth,
            "y_pred": 0.0,
            "scale": scale,
        }
    )
    classes = 0
    if probabilities is not None:
        classes = probabilities.shape[1]
        table = table.assign(**{f"p{k}": probabilities[:, k] for k in range(classes)})
    table.attrs["targets"] = {"t": TargetInfo(kind, classes=classes).to_plain()}
    return table


def calibration(scores: Floats | list[float], typical: float = 1.0) -> Calibration:
    return Calibration([sorted(float(score) for score in scores)], [typical])


def normal(rows: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=rows)


def day(row: int) -> str:
    return str((pd.Timestamp(FIRST) + pd.Timedelta(days=row)).date())


def assert_same_bits(found: pd.DataFrame, wanted: pd.DataFrame, columns: list[str] = COLUMNS) -> None:
    for name in columns:
        one, other = (frame[name].to_numpy() for frame in (found, wanted))
        assert len(one) == len(other) > 0
        assert (one == other).all(), name


# -- coverage ------------------------------------------------------------------------------------------------------

CALIBRATED, TESTED, BREAK, PATHS = 500, 800, 250, 20


def garch(paths: int, rows: int, break_at: int | None = None, seed: int = 0) -> Floats:
    """Returns of GARCH(1,1) with t innovations of 5 degrees, (rows, paths); three times as large from the break on."""
    random = np.random.default_rng(seed)
    shocks = random.standard_t(5, (rows, paths)) / np.sqrt(5 / 3)
    returns, variance = np.zeros((rows, paths)), np.ones(paths)
    for row in range(rows):
        returns[row] = np.sqrt(variance) * shocks[row]
        variance = 0.02 + 0.08 * returns[row] ** 2 + 0.9 * variance
    if break_at is not None:
        returns[break_at:] *= 3
    return returns


def covered(returns: Floats, scaled: bool, static: bool = False) -> dict[int, Floats]:
    """Whether the zero forecast of the return after a delay of one bar was covered, (TESTED, paths) for each level."""
    found: dict[int, list[Floats]] = {level: [] for level in LEVELS}
    for path in returns.T:
        scale = ewma_volatility(path) if scaled else np.ones_like(path)
        truth, scale = path[2:], scale[:-2]
        cut = len(truth) - TESTED
        scores = (truth / scale)[cut - CALIBRATED : cut]
        table = forecasts(truth[cut:], scale=scale[cut:])
        table = add_intervals(table, calibration(scores), "2100-01-01" if static else FIRST)
        for level in LEVELS:
            inside = (table[f"lower_{level}"] <= table["y_true"]) & (table["y_true"] <= table[f"upper_{level}"])
            found[level].append(np.asarray(inside, dtype=np.float64))
    return {level: np.stack(columns, axis=1) for level, columns in found.items()}


ROWS = 100 + CALIBRATED + TESTED + 2


@pytest.mark.parametrize("kind", ["iid", "garch"])
def test_coverage_is_nominal(kind: str) -> None:
    random = np.random.default_rng(1)
    returns = random.normal(size=(ROWS, PATHS)) if kind == "iid" else garch(PATHS, ROWS)
    for level, inside in covered(returns, scaled=True).items():
        assert inside.mean() == pytest.approx(level / 100, abs=0.01)
        assert np.abs(inside.mean(axis=0) - level / 100).max() < 0.02, "each path by itself"


@pytest.mark.parametrize("scaled", [True, False], ids=["EWMA scale", "scale 1"])
def test_coverage_survives_a_break_of_volatility(scaled: bool) -> None:
    returns = garch(PATHS, ROWS, break_at=ROWS - TESTED + BREAK)
    after = slice(BREAK, BREAK + 250)
    inside = covered(returns, scaled)
    assert inside[90][after].mean() >= 0.86
    assert inside[90].mean() == pytest.approx(0.9, abs=0.02)
    if not scaled:
        assert covered(returns, scaled, static=True)[90][after].mean() < 0.7, "what adaptation is for"


def test_coverage_survives_a_new_mean_of_log_volatility() -> None:
    """A model that still reverts to the mean of calmer days is too low every day."""
    random, rows, covering = np.random.default_rng(2), 900, []
    for _ in range(PATHS):
        level = np.where(np.arange(rows) < 550, 0.0, np.log(3))
        deviation = np.zeros(rows)
        for row in range(1, rows):
            deviation[row] = 0.8 * deviation[row - 1] + random.normal(0, 0.3)
        known = level + deviation
        error = known[1:] - 0.8 * known[:-1]
        table = forecasts(error[299:], kind="log_volatility", reach=1)
        table = add_intervals(table, calibration(error[:299]), FIRST)
        covering.append(table["y_true"].between(table["lower_90"], table["upper_90"])[250:500].mean())
    assert np.mean(covering) >= 0.86


def test_sets_of_classes_cover_although_the_probabilities_lie() -> None:
    random = np.random.default_rng(3)
    logits = random.normal(size=(4000, 3))
    claimed, real = (np.exp(k * logits) / np.exp(k * logits).sum(axis=1, keepdims=True) for k in (3.0, 1.0))
    truth = (real.cumsum(axis=1) < random.random((4000, 1))).sum(axis=1)
    scores = 1 - claimed[np.arange(4000), truth]
    half = 1000
    table = forecasts(truth[half:].astype(float), kind="class", probabilities=claimed[half:])
    table = add_intervals(table, calibration(scores[:half]), FIRST)
    for level in LEVELS[1:]:
        inside = [str(int(y)) in found for y, found in zip(table["y_true"], table[f"set_{level}"], strict=True)]
        assert np.mean(inside) == pytest.approx(level / 100, abs=0.02)
    best = claimed[half:].argmax(axis=1)
    assert all(str(k) in found for k, found in zip(best, table["set_50"], strict=True)), "never empty"


@pytest.mark.parametrize("count", [39, 199])
def test_calibration_scores_alone_cover_as_the_finite_sample_says(count: int) -> None:
    """(n + 1 - 2 rank) / (n + 1) of the next values, of any distribution without ties."""
    random, draws = np.random.default_rng(4), 4000
    values = random.standard_cauchy((draws, count + 1))
    hits = np.zeros(len(LEVELS))
    for *scores, truth in values:
        bounds = AdaptiveIntervals(sorted(scores)).bounds((0.0, 1.0))
        hits += [low <= truth <= high for low, high in bounds]
    np.testing.assert_allclose(hits / draws, np.array(LEVELS) / 100, atol=4 * np.sqrt(0.25 / draws))


def test_mapie_agrees_on_coverage_and_width() -> None:
    """MAPIE's ACI knows symmetric scores only, and those of the calibration alone; the differences are small."""
    regression = pytest.importorskip("mapie.regression")
    base = pytest.importorskip("sklearn.base")

    class Zero(base.RegressorMixin, base.BaseEstimator):  # type: ignore[misc, name-defined]
        def fit(self, X: Floats, y: Floats | None = None) -> Zero:
            self.fitted_ = True
            return self

        def predict(self, X: Floats) -> Floats:
            return np.zeros(len(X))

    known, truth = np.split(np.random.default_rng(6).standard_t(5, 1300), [500])
    truth[400:] *= 2
    x, inside, width = np.zeros((1, 1)), [], []
    model = regression.TimeSeriesRegressor(Zero().fit(x), method="aci", cv="prefit").fit(np.zeros((500, 1)), known)
    for value in truth:
        _, bounds = model.predict(x, confidence_level=0.9, allow_infinite_bounds=True)
        low, high = bounds[0, :, 0]
        inside.append(low <= value <= high)
        width.append(high - low)
        model.adapt_conformal_inference(x, np.array([value]), gamma=GAMMA, confidence_level=0.9)
    table = add_intervals(forecasts(truth, reach=1), calibration(known), FIRST)
    ours = table["y_true"].between(table["lower_90"], table["upper_90"])
    assert ours.mean() == pytest.approx(np.mean(inside), abs=0.01)
    assert (ours == inside).mean() > 0.97
    finite = np.isfinite(width)
    assert (table["upper_90"] - table["lower_90"])[finite].mean() == pytest.approx(
        np.array(width)[finite].mean(), rel=0.1
    )


# -- the rule ------------------------------------------------------------------------------------------------------


def slowly(table: pd.DataFrame, scores: list[float], reach: int) -> Floats:
    """The rule written out, each row again from everything that has ended: (n, 4, 2)."""
    truth, scale = table["y_true"].to_numpy(), table["scale"].to_numpy()
    found = np.zeros((len(table), len(LEVELS), 2))
    for row in range(len(table)):
        ended = np.arange(max(row - reach + 1, 0))
        alphas = 1 - np.array(LEVELS) / 100
        inside = (found[ended, :, 0] <= truth[ended, None]) & (truth[ended, None] <= found[ended, :, 1])
        levels = alphas + GAMMA * (alphas - ~inside).sum(axis=0)
        pool = np.sort(np.concatenate([scores, (truth / scale)[ended][-RECENT:]]))
        for k, alpha in enumerate(levels):
            rank = int(np.floor((len(pool) + 1) * np.clip(alpha, 0, 1) / 2 + 1e-9))
            low, high = pool[max(rank, 1) - 1], pool[-max(rank, 1)]
            if alpha < 0:
                middle = pool[len(pool) // 2]
                low, high = (middle + 2 ** (-alpha / 0.1) * (bound - middle) for bound in (low, high))
            found[row, k] = scale[row] * low, scale[row] * high
        found[row, :, 0] = np.minimum.accumulate(found[row, :, 0])
        found[row, :, 1] = np.maximum.accumulate(found[row, :, 1])
    return found


@pytest.mark.parametrize("reach", [1, 2, 6])
def test_intervals_are_those_of_the_rule_written_out(reach: int) -> None:
    truth = normal(400) * np.repeat([1.0, 6.0], 200)
    table = forecasts(truth, reach=reach, scale=np.linspace(0.5, 2.0, 400))
    scores = sorted(normal(30, seed=1).tolist())
    found = add_intervals(table, calibration(scores), FIRST)[COLUMNS].to_numpy().reshape(-1, len(LEVELS), 2)
    np.testing.assert_allclose(found, slowly(table, scores, reach), rtol=1e-9, atol=1e-12)


def test_static_intervals_are_the_ranks_of_the_scores() -> None:
    """Of 99 scores those of rank 100 alpha / 2 from either end."""
    found = add_intervals(forecasts(normal(3), scale=2.0), calibration(list(range(1, 100))), "2100-01-01")
    for level, rank in ((50, 25), (80, 10), (90, 5)):
        assert set(found[f"lower_{level}"]) == {2.0 * rank}
        assert set(found[f"upper_{level}"]) == {2.0 * (100 - rank)}


@pytest.mark.parametrize("truth", [1e3, 0.0], ids=["always missed", "always hit"])
def test_bounds_stay_finite_and_in_order_at_the_ends_of_the_level(truth: float) -> None:
    series = np.full(600, truth)
    series[::2] *= -1
    table = add_intervals(forecasts(series, scale=np.geomspace(1, 1e-6, 600)), calibration(normal(60)), FIRST)
    assert np.isfinite(table[COLUMNS]).all().all()
    for narrow, wide in itertools.pairwise(LEVELS):
        assert (table[f"lower_{wide}"] <= table[f"lower_{narrow}"]).all()
        assert (table[f"upper_{narrow}"] <= table[f"upper_{wide}"]).all()
    assert (table["lower_50"] <= table["upper_50"]).all()


def test_a_level_far_below_zero_is_finite_for_numbers_and_everything_for_classes() -> None:
    numbers, classes = AdaptiveIntervals([-1.0, 0.0, 1.0]), AdaptiveSets([0.4, 0.5])
    numbers.go_on({"alphas": [-500.0] * 4, "recent": [], "pending": []})
    low, high = numbers.bounds((0.0, 1.0))[0]
    assert -np.inf < low < -1e9 < 1e9 < high < np.inf
    classes.go_on({"alphas": [-0.01] * 4, "recent": [], "pending": []})
    assert classes.bounds((1.0, 0.0)) == [(0, 1)] * 4


@pytest.mark.parametrize("seed", range(5))
def test_wider_levels_hold_the_narrower_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    shocks = random.standard_t(2, 500) * np.exp(np.cumsum(random.normal(0, 0.1, 500)))
    table = add_intervals(forecasts(shocks, reach=5), calibration(random.normal(size=40)), FIRST)
    bounds = table[COLUMNS].to_numpy().reshape(-1, len(LEVELS), 2)
    assert (np.diff(bounds[..., 0]) <= 0).all()
    assert (np.diff(bounds[..., 1]) >= 0).all()
    assert (bounds[..., 0] <= bounds[..., 1]).all()


@pytest.mark.parametrize("scale", [0.0, np.nan, -1.0, np.inf])
def test_a_scale_that_is_none_is_the_typical_one(scale: float) -> None:
    found, wanted = (
        add_intervals(forecasts(normal(20), scale=value), calibration(normal(40), typical=0.3), FIRST)
        for value in (scale, 0.3)
    )
    assert_same_bits(found, wanted)


def test_a_volatility_is_never_below_zero() -> None:
    scores = calibration(normal(100))
    found, free = (
        add_intervals(forecasts(np.abs(normal(50)), kind=kind), scores, FIRST) for kind in ("volatility", "value")
    )
    assert (free["lower_95"] < 0).all()
    pd.testing.assert_frame_equal(found[COLUMNS], free[COLUMNS].clip(lower=0))


# -- what is known when --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [1, 3, 7])
def test_a_label_moves_no_interval_before_it_has_ended(reach: int) -> None:
    truth, changed = normal(300), 120
    later = truth.copy()
    later[changed:] += 50.0
    found, wanted = (
        add_intervals(forecasts(values, reach=reach), calibration(normal(99)), FIRST) for values in (later, truth)
    )
    assert_same_bits(found[: changed + reach], wanted[: changed + reach])
    assert (found.loc[changed + reach, COLUMNS] != wanted.loc[changed + reach, COLUMNS]).any(), "and then at once"


def test_nothing_before_the_test_part_moves_an_interval() -> None:
    truth, edge = normal(200), 80
    other = truth.copy()
    other[:edge] *= 9
    found, wanted = (add_intervals(forecasts(values), calibration(normal(99)), day(edge)) for values in (truth, other))
    assert_same_bits(found, wanted)
    assert (found.loc[: edge + 1, COLUMNS].nunique() == 1).all(), "no label of the test part has ended yet"
    assert found.loc[edge:, "upper_50"].nunique() > 10
    assert_same_bits(found[edge:], add_intervals(forecasts(truth)[edge:], calibration(normal(99)), FIRST))


def test_rows_without_a_label_change_nothing_of_the_others() -> None:
    """The last rows before a gap are in the table of `predict`, and not in that of `test`."""
    table = forecasts(normal(200))
    gap = table.index.isin([50, 51, 120, 199])
    table["y_true"], table["target_end"] = table["y_true"].mask(gap), table["target_end"].mask(gap)
    found = add_intervals(table, calibration(normal(99)), FIRST)
    assert np.isfinite(found[COLUMNS]).all().all()
    assert_same_bits(found[~gap], add_intervals(table[~gap], calibration(normal(99)), FIRST))


def test_symbols_learn_from_their_own_labels_only() -> None:
    one, other = forecasts(normal(150)), forecasts(9 * normal(150, seed=1), symbol="BBB")
    both = pd.concat([one, other], ignore_index=True)
    both.attrs = one.attrs
    found = add_intervals(both, calibration(normal(99)), FIRST)
    for symbol, alone in (("AAA", one), ("BBB", other)):
        assert_same_bits(found[found["symbol"] == symbol], add_intervals(alone, calibration(normal(99)), FIRST))


def test_targets_have_their_own_scores() -> None:
    one = forecasts(normal(50))
    both = pd.concat([one, one.assign(target="u")], ignore_index=True)
    both.attrs = {"targets": {name: TargetInfo("return").to_plain() for name in "tu"}}
    scores = [sorted(normal(99, seed).tolist()) for seed in (1, 2)]
    found = add_intervals(both, Calibration(scores, [1.0, 1.0]), FIRST)
    for name, own in zip("tu", scores, strict=True):
        assert_same_bits(found[found["target"] == name], add_intervals(one, calibration(own), FIRST))
        assert found.attrs["targets"][name]["scores"] == own


# -- one bar at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["return", "volatility", "class"])
def test_a_bar_at_a_time_with_the_state_put_away_gives_the_bits_of_the_whole_table(kind: str) -> None:
    rows, reach, random = 600, 4, np.random.default_rng(5)
    probabilities = random.dirichlet(np.ones(3), rows) if kind == "class" else None
    truth = random.integers(0, 3, rows).astype(float) if kind == "class" else random.standard_t(3, rows)
    scores = random.random(80) if kind == "class" else random.normal(size=80)
    table = forecasts(truth, reach=reach, kind=kind, scale=random.uniform(0.5, 2, rows), probabilities=probabilities)
    known = calibration(scores, typical=0.7)
    wanted = add_intervals(table, known, FIRST)

    def fresh() -> Any:
        if kind == "class":
            return AdaptiveSets(known.scores[0])
        return AdaptiveIntervals(known.scores[0], 0.7, positive=kind == "volatility")

    live = fresh()
    names = ["p0", "p1", "p2"] if kind == "class" else ["y_pred", "scale"]
    found = []
    for row in range(rows):
        if row >= reach:
            live.observe(row - reach, truth[row - reach])
        found.append(live.issue(row, tuple(table.loc[row, names])))
        if row % 97 == 0:
            learnt = json.loads(json.dumps(live.learnt()))
            live = fresh()
            live.go_on(learnt)
    if kind == "class":
        assert [["".join(map(str, bound)) for bound in bounds] for bounds in found] == wanted[SETS].to_numpy().tolist()
    else:
        assert (np.array(found).reshape(rows, -1) == wanted[COLUMNS].to_numpy()).all()


def test_what_waits_for_its_label_does_not_grow() -> None:
    live = AdaptiveIntervals(sorted(normal(50).tolist()))
    for row, value in enumerate(normal(2000)):
        live.issue(row, (0.0, 1.0))
        if row % 2:  # every other label never comes
            live.observe(row, value)
    state = live.learnt()
    assert len(state["pending"]) <= 1
    assert len(state["recent"]) == RECENT


def test_a_label_of_a_forecast_that_was_not_issued_teaches_nothing() -> None:
    live = AdaptiveIntervals(sorted(normal(50).tolist()))
    live.issue(5, (0.0, 1.0))
    before = live.learnt()
    live.observe(3, 99.0)
    assert live.learnt() == before


# -- the table -----------------------------------------------------------------------------------------------------


def test_the_table_given_keeps_its_columns_and_attributes(tmp_path: Path) -> None:
    table = forecasts(normal(30))
    table.attrs |= {"trials": 4}
    before, attributes = table.copy(), copy.deepcopy(table.attrs)
    found = add_intervals(table, calibration([-1.0, 0.5]), FIRST)
    pd.testing.assert_frame_equal(table, before)
    assert table.attrs == attributes
    assert found.columns.tolist() == [*table.columns, *COLUMNS]
    assert set(found[COLUMNS].dtypes.astype(str)) == {"float64"}
    pd.testing.assert_frame_equal(found[table.columns], table)
    found.to_parquet(tmp_path / "predictions.parquet")
    kept = pd.read_parquet(tmp_path / "predictions.parquet").attrs
    about = {"kind": "return", "unit": "", "horizon": 1, "delay": 0, "classes": 0, "scores": [-1.0, 0.5]}
    assert kept == {"trials": 4, "targets": {"t": about}}


def test_sets_of_many_classes_are_told_apart() -> None:
    even = np.full((2, 12), 1 / 12)
    found = add_intervals(forecasts(np.zeros(2), kind="class", probabilities=even), calibration([0.95] * 30), FIRST)
    assert set(found["set_50"]) == {" ".join(map(str, range(12)))}
    assert str(found["set_50"].dtype) == "str"


def test_an_empty_table_has_the_columns_too() -> None:
    for probabilities, names in ((None, COLUMNS), (np.zeros((0, 2)), SETS)):
        table = forecasts(np.zeros(0), probabilities=probabilities)
        found = add_intervals(table, calibration([0.1]), FIRST)
        assert found.columns.tolist() == [*table.columns, *names]


@pytest.mark.parametrize(
    "damaged",
    [
        {"scores": [[0.1]]},
        {"scores": [[]], "typical_scale": [1.0]},
        {"scores": [[0.2, 0.1]], "typical_scale": [1.0]},
        {"scores": [[0.1, float("nan")]], "typical_scale": [1.0]},
        {"scores": [["x"]], "typical_scale": [1.0]},
        {"scores": [[0.1], [0.1]], "typical_scale": [1.0, 1.0]},
        {"scores": [[0.1]], "typical_scale": [0.0]},
        {"scores": 3, "typical_scale": [1.0]},
    ],
    ids=["no scale", "no score", "unsorted", "NaN", "text", "two targets", "scale 0", "no list"],
)
def test_damaged_scores_are_refused(damaged: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="the checkpoint is damaged") as caught:
        add_intervals(forecasts(normal(5)), Contract.from_plain(CONTRACT | {"calibration": damaged}).calibration, FIRST)
    assert caught.value.code == 414


# -- from a fit to a forecast --------------------------------------------------------------------------------------

FITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "numbers": (
        {
            "targets": [
                spec("cnn_lstm.data.targets.ForwardReturn", horizon=2),
                spec("cnn_lstm.data.targets.RealizedVolatility", horizon=5),
            ]
        },
        {"objective": spec("cnn_lstm.model.objectives.Gaussian")},
    ),
    "classes": (
        {"targets": [spec("cnn_lstm.data.targets.Direction", thresholds=[-0.005, 0.005], horizon=2)]},
        {"objective": spec("cnn_lstm.model.objectives.Classes", classes=3)},
    ),
}


@pytest.fixture(scope="module", params=FITS.values(), ids=list(FITS))
def run_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, model = request.param
    folder = tmp_path_factory.mktemp("run")
    optimizer = spec("torch.optim.AdamW", lr=0.2)  # the best epoch is not the last one
    config = experiment(folder, market(220), data, model={**model, "optimizer": optimizer}, trainer={"max_epochs": 4})
    return fit(config, folder / "run")


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_checkpoint_has_the_scores_of_its_own_weights(run_dir: Path, name: str) -> None:
    predictor = Predictor.from_checkpoint(run_dir / "checkpoints" / f"{name}.ckpt")
    table, contract = predictor.predict(market(220)), predictor.forecaster.contract
    scored = contract.calibration
    assert scored is not None
    first, last = (pd.Timestamp(day, tz="UTC") for day in (contract.boundaries.validation, contract.boundaries.test))
    reach = table.groupby(["symbol", "as_of"])["target_end"].transform("max")  # a row counts if all labels are known
    known = table.groupby(["symbol", "as_of"])["y_true"].transform(lambda values: values.notna().all())
    kept = table[(table["as_of"] >= first) & (reach < last) & known]
    for k, target in enumerate(contract.target_names):
        part = kept[kept["target"] == target]
        assert len(part) > 50
        if "p0" in part:
            scores = 1 - part[["p0", "p1", "p2"]].to_numpy()[np.arange(len(part)), part["y_true"].astype(int)]
        else:
            scores = ((part["y_true"] - part["y_pred"]) / part["scale"]).to_numpy()
        np.testing.assert_allclose(scored.scores[k], np.sort(scores), rtol=1e-3, atol=1e-5)
        assert scored.typical_scale[k] == pytest.approx(part["scale"].median(), rel=0.1)
        assert table.attrs["targets"][target]["scores"] == scored.scores[k]


def test_best_and_last_have_scores_of_different_epochs(run_dir: Path) -> None:
    best, last = (read_checkpoint(run_dir / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    assert best["epoch"] < last["epoch"]
    assert best["cnn_lstm"]["calibration"]["scores"] != last["cnn_lstm"]["calibration"]["scores"]


@pytest.mark.parametrize("back", [1, 5, 20])
def test_a_later_start_has_the_intervals_of_the_whole_table(run_dir: Path, back: int) -> None:
    predictor = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    whole = predictor.predict(market(220))
    start = whole["as_of"].drop_duplicates().sort_values().iloc[-back]
    assert start >= pd.Timestamp(predictor.forecaster.contract.boundaries.test, tz="UTC")
    found = predictor.predict(market(220), start=str(start)[:10])
    pd.testing.assert_frame_equal(found, whole[whole["as_of"] >= start].reset_index(drop=True), check_exact=True)
    assert found.attrs == whole.attrs


def test_the_command_gives_the_intervals_of_the_predictor(run_dir: Path) -> None:
    """The test part alone and every window: adaptation begins at the same bar."""
    names = COLUMNS if (run_dir / "config.yaml").read_text().count("Gaussian") else SETS
    whole = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt").predict(market(220))
    for part in ("all", "test"):
        found = predict(run_dir, "--data.predict_part", part)
        wanted = whole[whole["as_of"] >= found["as_of"].min()]
        assert_same_bits(found, wanted, names)


def test_a_later_test_part_does_not_put_off_adaptation(run_dir: Path) -> None:
    predictor = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    names = [name for name in (*COLUMNS, *SETS) if name in predictor.predict(market(220))]
    whole = predict(run_dir, "--data.predict_part", "all")
    split = ["--data.split", "cnn_lstm.data.splits.FractionSplit", "--data.split.train", "0.75"]
    later = predict(run_dir, "--data.predict_part", "all", *split)
    assert_same_bits(later, whole, names)


def strip(source: Path, target: Path, **calibration: Any) -> Path:
    """A copy of a checkpoint with another calibration, or none."""
    content = torch.load(source, weights_only=True)
    content["cnn_lstm"].pop("calibration")
    torch.save({**content, "cnn_lstm": content["cnn_lstm"] | calibration}, target)
    return target


def test_a_checkpoint_without_scores_forecasts_without_intervals(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = strip(run_dir / "checkpoints" / "best.ckpt", tmp_path / "old.ckpt")
    whole = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt").predict(market(220))
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        found = Predictor.from_checkpoint(old).predict(market(220), start="2010-10-01")
    assert [record.getMessage() for record in caplog.records if "no intervals" in record.getMessage()] != []
    assert len(caplog.records) == 1
    wanted = whole[whole["as_of"] >= "2010-10-01"].drop(columns=[c for c in (*COLUMNS, *SETS) if c in whole])
    pd.testing.assert_frame_equal(found, wanted.reset_index(drop=True), check_exact=True)


def test_a_checkpoint_with_damaged_scores_is_refused(run_dir: Path, tmp_path: Path) -> None:
    damaged = strip(run_dir / "checkpoints" / "best.ckpt", tmp_path / "damaged.ckpt", calibration={"scores": []})
    with pytest.raises(CheckpointError, match="damaged"):
        Predictor.from_checkpoint(damaged).predict(market(220))


def test_no_window_gives_an_empty_table_with_the_same_columns(run_dir: Path) -> None:
    predictor = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    empty, full = predictor.predict_if_any(walk(10)), predictor.predict(market(220))
    assert not len(empty)
    assert empty.dtypes.astype(str).to_dict() == full.dtypes.astype(str).to_dict()


def test_dropout_samples_move_the_interval_with_their_mean(run_dir: Path) -> None:
    predictor = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    plain, drawn = (predictor.predict(market(220), samples=samples) for samples in (0, 3))
    if "lower_90" not in plain:
        assert (plain["set_90"] == drawn["set_90"]).all()
        return
    early = plain["as_of"] < pd.Timestamp(predictor.forecaster.contract.boundaries.test, tz="UTC")
    early &= plain["target"] == "return_2"
    for table in (plain, drawn):
        np.testing.assert_allclose(
            (table["upper_90"] - table["y_pred"])[early], (plain["upper_90"] - plain["y_pred"])[early], rtol=1e-9
        )
    assert (plain["y_pred"] != drawn["y_pred"]).any()


@pytest.mark.parametrize("unknown", [0.0, float("nan"), float("inf")])
def test_an_unknown_scale_is_the_typical_one_in_the_table_too(unknown: float) -> None:
    table = forecasts(normal(3), scale=np.array([1.0, unknown, 3.0]))
    assert add_intervals(table, calibration(normal(50), typical=2.0), FIRST)["scale"].tolist() == [1.0, 2.0, 3.0]


# -- many forecasts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["return", "volatility", "class"])
def test_forecasts_before_the_boundary_all_at_once_have_the_bits_of_one_after_the_other(kind: str) -> None:
    random, rows = np.random.default_rng(3), 200
    scale = np.where(random.random(rows) < 0.1, random.choice([0.0, np.nan, np.inf], rows), random.random(rows))
    probabilities = random.dirichlet(np.ones(3), rows) if kind == "class" else None
    truth = random.integers(0, 3, rows).astype(float) if kind == "class" else np.abs(normal(rows))
    table = forecasts(truth, kind=kind, scale=scale, probabilities=probabilities)
    table["y_pred"] = np.where(random.random(rows) < 0.1, np.nan, 0.1 * normal(rows, 1))
    scores = np.abs(normal(40, 2)) if kind == "class" else normal(40, 2)
    found = add_intervals(table, calibration(scores / 4, typical=0.7), day(150))
    one = (
        AdaptiveSets(sorted(scores / 4))
        if kind == "class"
        else AdaptiveIntervals(sorted(scores / 4), 0.7, kind != "return")
    )
    columns = [f"p{k}" for k in range(3)] if kind == "class" else ["y_pred", "scale"]
    wanted = [one.bounds(tuple(forecast)) for forecast in table[columns].to_numpy()[:150].tolist()]
    for k, level in enumerate(LEVELS):
        if kind == "class":
            assert found[f"set_{level}"][:150].tolist() == ["".join(map(str, bounds[k])) for bounds in wanted]
        else:
            for side, name in enumerate(("lower", "upper")):
                bits = np.array([bounds[k][side] for bounds in wanted])
                np.testing.assert_array_equal(found[f"{name}_{level}"][:150].to_numpy(), bits)


def test_intervals_of_a_large_table_take_no_more_than_a_few_columns() -> None:
    rows = 20_000
    table = pd.concat([forecasts(normal(rows // 10, k), symbol=f"S{k}") for k in range(10)], ignore_index=True)
    table.attrs = forecasts(normal(3)).attrs
    tracemalloc.start()
    add_intervals(table, calibration(normal(100)), FIRST)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / rows < 450, (
        "bytes per forecast: eight bounds, the columns they are read from, and one symbol's objects"
    )
