"""Compares forecasters with each other on the rows that all of them know.

Shapes: n rows, k forecasters, T dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import MCS
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm

from cnn_lstm.data.predictions import TargetInfo, target_infos
from cnn_lstm.data.targets import Floats
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.forecasts import Forecast, judged_rows, read_forecasts
from cnn_lstm.evaluation.formatting import aligned, number, p_value
from cnn_lstm.evaluation.series import clustered_by_date, is_constant, mean_block, newey_west_t
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.significance import Comparison, compare

SIZE = 0.10  # of the model confidence set: it holds the best forecaster with probability 1 - SIZE


@dataclass(frozen=True)
class PairComparison:
    """Two forecasters of one target; signed values are above 0 where the first one is better.

    Attributes:
        first: Name of the first.
        second: Name of the second.
        compared: Losses, skill of the first over the second, Diebold-Mariano test and bootstrap.
        conditional_p: p-value of Giacomini and White: whether the volatility that was known tells when one is better.
        clark_west_p: One-sided p-value of Clark and West that the first, which nests the second, adds something; None
            where the loss is not the squared error.
    """

    first: str
    second: str
    compared: Comparison
    conditional_p: float
    clark_west_p: float | None


@dataclass(frozen=True)
class TargetComparison:
    """Forecasters of one target.

    Attributes:
        loss: Name of the loss.
        rows: Rows that all of them know.
        dates: Their dates.
        losses: Mean loss of each on these rows, by its name.
        pairs: Each two of them.
        confidence_set: p-value of each in the model confidence set; one below 0.10 is not in the set.
        daily: Loss of each on each date, (T, k), by the date and its name; their means are `losses`.
    """

    loss: str
    rows: int
    dates: int
    losses: dict[str, float]
    pairs: list[PairComparison]
    confidence_set: dict[str, float]
    daily: pd.DataFrame = field(repr=False, compare=False)

    @property
    def ranked(self) -> list[str]:
        """The names, the one with the lowest loss first."""
        return sorted(self.losses, key=lambda name: self.losses[name])

    @property
    def possibly_best(self) -> list[str]:
        """Those in the model confidence set, the one with the lowest loss first."""
        return [name for name in self.ranked if self.confidence_set[name] >= SIZE]

    def to_plain(self) -> dict[str, Any]:
        """Plain values, as comparison.json holds them; comparison.parquet holds the losses of the dates."""
        return {name: value for name, value in asdict(self).items() if name != "daily"}


def compare_forecasters(tables: Mapping[str, pd.DataFrame], settings: Evaluation) -> dict[str, TargetComparison]:
    """Compares predictions tables of the same prices, by target.

    Args:
        tables: Predictions table of each forecaster, at least two, by its name.
        settings: Resamples and seed of the bootstraps.

    Raises:
        DataError: E358, if they have no target in common, or fewer than two rows of one.
    """
    infos = [target_infos(table) for table in tables.values()]
    shared = [name for name in infos[0] if all(name in others for others in infos)]
    if not shared:
        raise DataError("the tables have no target in common", ", ".join(tables), "judge one target", code=358)
    return {name: _of_target(tables, name, infos[0][name], settings) for name in shared}


def _of_target(
    tables: Mapping[str, pd.DataFrame], target: str, about: TargetInfo, settings: Evaluation
) -> TargetComparison:
    keys = ["symbol", "as_of"]
    known = {name: judged_rows(table, target, about).set_index(keys).sort_index() for name, table in tables.items()}
    common = known[next(iter(known))].index
    for rows in known.values():
        common = common.intersection(rows.index)
    if len(common) < 2:
        raise DataError(f"{len(common)} rows are known to all", ", ".join(tables), "judge the same dates", code=358)
    frames = {name: rows.loc[common].reset_index() for name, rows in known.items()}
    forecasts = {name: read_forecasts(frame, about)["model"] for name, frame in frames.items()}
    losses = {name: _loss(name, one) for name, one in forecasts.items()}
    base = frames[next(iter(frames))]
    pairs = [
        _pair(first, second, forecasts, losses, base, about, settings) for first, second in combinations(losses, 2)
    ]
    return TargetComparison(
        loss=about.quantity.loss,
        rows=len(base),
        dates=base["as_of"].nunique(),
        losses={name: float(values.mean()) for name, values in losses.items()},
        pairs=pairs,
        confidence_set=confidence_set(losses, base["as_of"], about.horizon, settings.resamples, settings.seed),
        daily=_by_date(losses, base["as_of"]),
    )


def _by_date(losses: Mapping[str, Floats], dates: pd.Series) -> pd.DataFrame:
    """One loss per date of each forecaster, (T, k), as the tests read them."""
    values = clustered_by_date(np.column_stack(list(losses.values())), dates)
    return pd.DataFrame(values, index=pd.DatetimeIndex(np.sort(dates.unique()), name="as_of"), columns=list(losses))


def _loss(name: str, forecast: Forecast) -> Floats:
    if forecast.loss is None:
        raise DataError("classes without probabilities cannot be compared", name, "give p0, p1, ...", code=358)
    return forecast.loss


def _pair(
    first: str,
    second: str,
    forecasts: Mapping[str, Forecast],
    losses: Mapping[str, Floats],
    base: pd.DataFrame,
    about: TargetInfo,
    settings: Evaluation,
) -> PairComparison:
    dates, horizon = base["as_of"], about.horizon
    compared = compare(losses[first], {second: losses[second]}, dates, horizon, settings.resamples, settings.seed)
    daily = clustered_by_date(losses[second] - losses[first], dates)
    volatility = base.groupby("as_of")["volatility"].mean().to_numpy(np.float64)
    nested = None
    if not about.quantity.is_class and not about.quantity.is_volatility:
        adjustment = (forecasts[first].point - forecasts[second].point) ** 2
        nested = clark_west(clustered_by_date(losses[second] - losses[first] + adjustment, dates), horizon)
    return PairComparison(first, second, compared[second], conditional_ability(daily, volatility, horizon), nested)


def conditional_ability(difference: ArrayLike, known: ArrayLike, horizon: int) -> float:
    """Test of equal conditional predictive ability of Giacomini and White (2006), given what was known before.

    Args:
        difference: Loss differences in the order of time, one per date, (T,).
        known: What was known at each decision, for example the volatility, (T,).
        horizon: Steps that a target spans: so many dates but one are related.

    Returns:
        p-value of the Wald statistic with the instruments 1 and `known`; 1 where it has no value.

    Example:
        >>> random = np.random.default_rng(0)
        >>> state, noise = random.normal(size=500), random.normal(size=500)
        >>> conditional_ability(state + noise, state, 1) < 0.001, conditional_ability(noise, state, 1) > 0.05
        (True, True)
    """
    values, state = np.asarray(difference, dtype=np.float64), np.asarray(known, dtype=np.float64)
    usable = np.isfinite(values) & np.isfinite(state)
    values, state = values[usable], state[usable]
    if len(values) <= 2 * horizon or is_constant(values) or is_constant(state):
        return 1.0
    instruments = np.column_stack([np.ones(len(state)), (state - state.mean()) / state.std()])
    moments = instruments * values[:, None]
    spread = moments.T @ moments / len(values)
    for lag in range(1, horizon):  # Newey and West (1987)
        shifted = moments[lag:].T @ moments[:-lag] / len(values)
        spread += (1 - lag / horizon) * (shifted + shifted.T)
    mean = moments.mean(axis=0)
    statistic = len(values) * mean @ np.linalg.solve(spread, mean)
    return float(chi2.sf(statistic, instruments.shape[1]))


def clark_west(adjusted: ArrayLike, horizon: int) -> float:
    """Test of Clark and West (2007) of a forecaster against a smaller one that it nests.

    Where the larger model adds nothing, it is expected to lose by the noise of what it estimates; the test takes this
    noise out.

    Args:
        adjusted: Squared error of the smaller one, less that of the larger one, plus the squared distance of their
            forecasts; one per date, (T,).
        horizon: Steps that a target spans.

    Returns:
        One-sided p-value; 1 where it has no value.
    """
    statistic = newey_west_t(adjusted, horizon - 1)
    return 1.0 if np.isnan(statistic) else float(norm.sf(statistic))


def confidence_set(
    losses: Mapping[str, Floats], date: Any, horizon: int, resamples: int, seed: int
) -> dict[str, float]:
    """p-values of the model confidence set of Hansen, Lunde and Nason (2011), by arch.

    Args:
        losses: Loss of each row of each forecaster, (n,), by its name.
        date: Date of each row, (n,).
        horizon: Steps that a target spans.
        resamples: Draws of the stationary bootstrap.
        seed: Makes the draws repeatable.

    Returns:
        p-value of each; 1 for all where two of them have the same losses on all dates.
    """
    daily = clustered_by_date(np.column_stack(list(losses.values())), date)
    if any(is_constant(daily[:, i] - daily[:, j]) for i, j in combinations(range(daily.shape[1]), 2)):
        return dict.fromkeys(losses, 1.0)
    frame = pd.DataFrame(daily, columns=list(losses))
    test = MCS(frame, SIZE, reps=resamples, block_size=mean_block(len(daily), horizon), seed=seed)
    test.compute()
    found = test.pvalues["Pvalue"]
    return {name: float(found[name]) for name in losses}


def comparison_text(compared: Mapping[str, TargetComparison]) -> str:
    """The comparison for people."""
    return "\n\n".join(_target_text(name, one) for name, one in compared.items())


def _target_text(target: str, one: TargetComparison) -> str:
    table = [("", one.loss, "confidence set p", "")]
    for name in one.ranked:
        p = one.confidence_set[name]
        table.append((name, number(one.losses[name]), p_value(p), "" if p >= SIZE else "not in the set"))
    heading = f"{target}: {one.rows:,} rows on {one.dates:,} dates that all know"
    return "\n".join([heading, "", aligned(table, left=1), "", *map(_pair_text, one.pairs)])


def _pair_text(pair: PairComparison) -> str:
    compared, (low, high) = pair.compared, pair.compared.skill_interval
    lines = [
        f"{pair.first} against {pair.second}: skill {compared.skill:+.2%}, 95% interval {low:+.3f} to {high:+.3f}",
        f"  Diebold-Mariano p {p_value(compared.dm_p)}, bootstrap p {p_value(compared.bootstrap_p)}",
        f"  Giacomini-White p {p_value(pair.conditional_p)}: whether volatility tells when one is better",
    ]
    if pair.clark_west_p is not None:
        lines.append(f"  Clark-West p {p_value(pair.clark_west_p)}, if the first nests the second")
    return "\n".join(lines)
