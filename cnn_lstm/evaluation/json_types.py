"""What an evaluation writes as JSON, object by object: report.json, model_info.json, walk_forward.json, repeat.json.

JSON has no NaN: in a file, a number that has no value is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

# name of a metric -> its value; which metrics there are follows from the kind of the target. Classes also have lists:
# precision, recall, confusion, reliability
Metrics = dict[str, Any]

# -- report.json -------------------------------------------------------------------------------------------------------


class Report(TypedDict):
    """Content of report.json; `targets` by name, `pooled` by rows ahead where several levels are forecast so far."""

    format: int
    settings: dict[str, object]
    targets: dict[str, TargetReport]
    pooled: NotRequired[dict[str, PooledLevels]]


class PooledLevels(TypedDict):
    """Several levels together: number of targets, forecasts of each forecaster, and its rse and corr."""

    targets: int
    rows: int
    forecasts: dict[str, Metrics]


class QuantityRecord(TypedDict):
    """What a target is, as the predictions table says it."""

    kind: str
    unit: str
    horizon: int
    delay: int
    classes: int


class Extent(TypedDict):
    """Which rows were judged; `first` and `last` are the dates of the decisions in ISO 8601."""

    rows: int
    left_out: int
    symbols: int
    dates: int
    dates_needed: int
    first: str
    last: str


class Verdict(TypedDict):
    """Whether there is evidence of skill; `reason` is one sentence."""

    evidence: bool
    verdict: str
    reason: str


class ComparedLosses(TypedDict):
    """The model against one baseline: `significance.Comparison` in plain values, and the smallest skill to be found.

    Reports of older versions have none of the last four.
    """

    loss_model: float
    loss_baseline: float
    skill: float | None
    skill_interval: list[float | None]
    difference_interval: list[float]
    dm_statistic: float
    dm_p: float | None
    bootstrap_p: float | None
    standard_error: NotRequired[float]
    rows: NotRequired[int]
    dates: NotRequired[int]
    smallest_skill: NotRequired[float | None]


class Answer(ComparedLosses):
    """Whether there is evidence of skill over the best of some baselines; `reason` is one sentence."""

    evidence: bool
    best_baseline: str
    reason: str


class Answers(Verdict):
    """The verdict over the best of all baselines, and its two questions.

    `over_naive` is about zero, training mean or prior, last value and seasonal naive, `over_fitted` about all others;
    None without such a baseline. Reports of older versions have neither.
    """

    best_baseline: str
    over_naive: NotRequired[Answer | None]
    over_fitted: NotRequired[Answer | None]


class Selection(TypedDict):
    """Among how many models this one was chosen, and what the sweep that chose it says of the choice."""

    trials: int
    spa_p: float | None
    pbo: NotRequired[float]
    effective_trials: NotRequired[float]


class GroupLosses(TypedDict):
    """Mean losses of the model and of the best baseline in one group of rows, such as a year."""

    name: str
    rows: int
    loss_model: float
    loss_baseline: float
    skill: float | None


class Breakdowns(TypedDict):
    """Share of symbols that the model wins, and losses by symbol, year, fold and regime of volatility."""

    win_rate: float
    breakdowns: dict[str, list[GroupLosses]]


class Pit(TypedDict):
    """Probability integral transform: shares of 10 equal bins, and two tests against the uniform distribution."""

    rows: int
    histogram: list[float]
    ks_p: float | None
    cramer_von_mises_p: float | None


class HeadScores(TypedDict):
    """The distribution that the model's own head forecasts: its name, CRPS, and probability integral transform."""

    name: str
    crps: float
    pit: Pit


class Distribution(TypedDict, total=False):
    """Scores of whole forecast distributions, as far as there are any.

    `crps` and `pit` are those of the distribution that the calibration scores span, `head` that of the model's own
    head; `crps_normal` is the CRPS of a normal head once more, by the name of earlier versions.
    """

    crps: float
    pit: Pit
    crps_normal: float
    head: HeadScores


TailTest = Literal["kupiec_p", "independence_p", "conditional_p", "shortfall_z2", "shortfall_p"]


class TailRisk(TypedDict):
    """Tests of value at risk and expected shortfall at one level, see `metrics.tail_risk.tail_risk`."""

    rows: int
    symbols: int
    breaches: int
    breach_rate: float | None
    kupiec_p: float | None
    independence_p: float | None
    conditional_p: float | None
    shortfall_z2: float | None
    shortfall_p: float | None


class Spread(TypedDict):
    """An epistemic spread: its mean, and its rank correlation with the absolute error."""

    mean: float | None
    rank_correlation: float | None


class BuyAndHold(TypedDict):
    """All symbols held long at the mean exposure of the strategy."""

    net_annual_return: float | None
    sharpe: float | None
    max_drawdown: float | None


class StrategyMetrics(TypedDict):
    """Metrics of a strategy after costs, see `metrics.strategy.strategy_metrics`."""

    rule: str
    bars: int
    periods_per_year: float | None
    cost_bp: float
    unknown_returns: int
    gross_annual_return: float | None
    net_annual_return: float | None
    annual_volatility: float | None
    sharpe: float | None
    sharpe_se: float | None
    psr: float | None
    trials: int
    dsr: float | None
    effective_trials: NotRequired[float]
    dsr_effective: NotRequired[float | None]
    min_track_record_length: float | None
    max_drawdown: float | None
    calmar: float | None
    annual_turnover: float | None
    mean_exposure: float | None
    hit_rate: float | None
    break_even_cost_bp: float | None
    random_sign_p: float | None
    buy_and_hold: BuyAndHold


class KeptDifferences(TypedDict):
    """Loss of each baseline - loss of the model by date, as the ledger keeps them; None where there is none."""

    dates: Sequence[str]
    differences: Mapping[str, Sequence[float | None]]


class SequenceRecord(TypedDict):
    """Evidence over time against one baseline at the last date: wealth, mean loss difference and where it lies."""

    dates: int
    wealth: float
    mean: float
    low: float | None
    high: float | None


class SequencePath(TypedDict):
    """The least wealth, and the confidence sequence against the hardest baseline, on dates that a plot can show."""

    dates: list[str]
    wealth: list[float]
    mean: list[float]
    low: list[float | None]
    high: list[float | None]


class Sequential(TypedDict):
    """Evidence that may be looked at on every date, see `sequential.sequential`.

    `wealth` is the least over the baselines at the last date, `highest` the highest that it ever was, `reached` the
    date on which it reached `threshold` for the first time. `baseline` is the one with the least wealth; `kept` counts
    the dates whose losses the ledger has from an earlier look at another model.
    """

    threshold: float
    level: float
    dates: int
    kept: int
    first: str
    last: str
    wealth: float
    highest: float
    reached: str | None
    evidence: bool
    baseline: str
    baselines: dict[str, SequenceRecord]
    path: SequencePath


class OverTime(TypedDict):
    """The evidence over time; missing where a model has learnt from dates after those it forecasts."""

    sequential: NotRequired[Sequential]


class TargetReport(QuantityRecord, Extent, Answers, OverTime, Breakdowns):
    """What the report says of one target; forecasts and comparisons by name of the forecaster, intervals by level.

    `loss_model` is the model's mean loss on all its rows; reports of older versions have neither it nor `sequential`.
    The metrics of a baseline that knows fewer rows name their number, `rows`. `tail_risk` is by level in percent; empty
    unless returns are forecast with a distribution or low quantiles.
    """

    loss: str
    loss_model: NotRequired[float]
    forecasts: dict[str, Metrics]
    comparisons: dict[str, ComparedLosses]
    selection: Selection
    intervals: dict[str, Metrics]
    distribution: Distribution
    tail_risk: dict[str, TailRisk]
    spread: dict[str, Spread]
    strategy: StrategyMetrics | None


# -- model_info.json ---------------------------------------------------------------------------------------------------


class Uses(TypedDict):
    """How often the same test rows were used so far: number of tests, and of different models among them."""

    times: int
    models: int


class CheckRecord(TypedDict):
    """One kind of leakage, the test that covers it, and what came out.

    `kind` is number and name in Kapoor and Narayanan, `test` what was tested on the data of this run, `outcome` is
    `passed`, `failed`, or `note` where a reader has to decide, and `found` says in one sentence what the test found.
    """

    kind: str
    test: str
    outcome: str
    found: str


class ModelRecord(TypedDict):
    """Network and objective as specs, number of parameters; of an ensemble also the digests of its members' weights."""

    network: dict[str, Any]
    objective: dict[str, Any]
    parameters: int
    ensemble_of: NotRequired[list[str]]


class DataRecord(TypedDict):
    """The data of the test: where they come from, what they hold, and what is forecast from them."""

    source: str
    sha256: str
    trained_on_sha256: str
    rows: int
    symbols: list[str]
    first: str
    last: str
    features: list[str]
    targets: list[dict[str, Any]]
    window: int


class PartRecord(TypedDict):
    """Number of forecasts in a part of the data, and the dates of the first and the last of them."""

    forecasts: int
    first: str
    last: str


class SplitRecord(TypedDict):
    """The parts of the data, and how many rows between them were purged."""

    purged_rows: int
    train: PartRecord
    validation: PartRecord
    test: PartRecord


class ModelInfo(TypedDict):
    """The model information sheet; of forecasts that others made, nothing is known of the model."""

    model: ModelRecord | None
    data: DataRecord
    split: SplitRecord
    leakage: list[CheckRecord]


class JudgedModelInfo(ModelInfo):
    """Content of model_info.json: the sheet with the uses of the test rows."""

    test_rows_used: Uses


class JointModelInfo(JudgedModelInfo):
    """Content of walk-forward's model_info.json, with the split of each fold."""

    folds: list[SplitRecord]


# -- walk_forward.json -------------------------------------------------------------------------------------------------


class FoldLine(TypedDict):
    """One fold, or all of them together: dates of training and test, losses, and the verdict."""

    fold: str
    train_first: str | None
    train_last: str | None
    test_first: str
    test_last: str
    rows: int
    best_baseline: str
    loss_model: float
    loss_baseline: float
    skill: float | None
    evidence: bool


class TargetFolds(TypedDict):
    """The lines of one target; walk_forward.json holds these by target."""

    loss: str
    folds: list[FoldLine]


# -- repeat.json -------------------------------------------------------------------------------------------------------


class SeedStatistics(TypedDict):
    """A metric over seeds: mean, standard deviation of a sample, smallest, largest, and all values by seed."""

    mean: float
    std: float
    min: float
    max: float
    values: list[float]


class SkillStatistics(SeedStatistics):
    """Skill over seeds; `lower_end` is mean - 2 std / sqrt(seeds)."""

    lower_end: float


class EnsembleMetrics(TypedDict):
    """The average of all seeds, judged like one of them; `figures` are its metrics."""

    figures: dict[str, float]
    skill: float
    skills: dict[str, float]


class TargetSpread(TypedDict):
    """What seeds have in common in one target, `figures` by name of the metric; repeat.json holds these by target."""

    loss: str
    best_baseline: str
    figures: dict[str, SeedStatistics]
    skill: SkillStatistics
    skills: dict[str, SeedStatistics]
    claim: bool
    better: int
    rank: int
    places: int
    ensemble: NotRequired[EnsembleMetrics]
