"""What a user may choose of the evaluation; everything else is fixed, so that reports can be compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from cnn_lstm.errors import ConfigError

LIMITS = (
    ("season", 1, 10**6),
    ("fee_bp", 0, 10**4),
    ("half_spread_bp", 0, 10**4),
    ("trials", 1, 10**9),
    ("level", 1e-6, 0.5),
    ("resamples", 100, 10**6),
    ("seed", 0, 2**32 - 1),
)
OF_A_SWEEP = (
    ("spa", 0, 1, "give a p-value, 0 to 1"),
    ("pbo", 0, 1, "give a probability, 0 to 1"),
    ("effective_trials", 1, 10**9, "give 1 or more"),
)


@dataclass(frozen=True)
class Evaluation:
    """Settings of `test`; they are kept in the predictions file.

    Attributes:
        season: Rows of a season for the seasonal naive forecast; guessed from the bars by default: a week of daily
            bars, a day of intraday bars, a year of weekly or monthly ones.
        position: Rule of the strategy: the sign of each forecast, or long the top and short the bottom third of each
            date.
        fee_bp: Commission of a traded amount, in basis points per side.
        half_spread_bp: Half of the bid-ask spread, in basis points per side.
        trials: Models that were tried before this one was chosen; the models tested on the same rows by default. It
            deflates the Sharpe ratio.
        spa: By target, the p-value of the test of superior predictive ability on the validation rows of the sweep that
            chose this model; `sweep` writes it into its best.yaml.
        pbo: By target, the probability of backtest overfitting on these rows, see `backtest_overfitting`; written by
            `sweep`, like the next one.
        effective_trials: By target, how many independent trials those of the sweep amount to, see `effective_trials`.
            The Sharpe ratio is deflated by it too, next to `trials`.
        level: Significance level of the verdict.
        resamples: Draws of each bootstrap and of the random-sign benchmark.
        seed: Seed of these draws.
        explain: Whether `test` also says which features and bars the forecasts depend on; it takes some seconds
            to a minute, and the extra `explain`.
    """

    season: int | None = None
    position: Literal["sign", "rank"] = "sign"
    fee_bp: float = 5.0
    half_spread_bp: float = 5.0
    trials: int | None = None
    spa: dict[str, float] | None = None
    pbo: dict[str, float] | None = None
    effective_trials: dict[str, float] | None = None
    level: float = 0.05
    resamples: int = 1000
    seed: int = 0
    explain: bool = False

    def __post_init__(self) -> None:
        for name, low, high in LIMITS:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name}={value}", f"evaluation.{name}", f"give {low:g} to {high:g}", code=224)

        for name, low, high, fix in OF_A_SWEEP:
            for target, value in (getattr(self, name) or {}).items():
                if not low <= value <= high:
                    raise ConfigError(f"{name}={value}", f"evaluation.{name}.{target}", fix, code=224)

    @property
    def cost_bp(self) -> float:
        """Cost of a traded amount, in basis points per side."""
        return self.fee_bp + self.half_spread_bp

    def to_plain(self) -> dict[str, object]:
        """Plain values for the predictions file, of all that its metrics follow from."""
        return {name: value for name, value in asdict(self).items() if name != "explain"}
