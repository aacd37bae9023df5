"""What the report says of the sweep that chose the model: p-value, overfitting, effective number of trials."""

from __future__ import annotations

from cnn_lstm.evaluation.json_types import Selection, StrategyMetrics
from cnn_lstm.evaluation.metrics.book import Book
from cnn_lstm.evaluation.metrics.sharpe import automatic_lags, deflated_sharpe_ratio
from cnn_lstm.evaluation.settings import Evaluation


def selection_record(settings: Evaluation, target: str, trials: int) -> Selection:
    """What the configuration of the test says of the sweep; only what it says is there.

    Args:
        settings: The settings of the test.
        target: Name of the target.
        trials: Models that were tried.

    Example:
        >>> selection_record(Evaluation(pbo={"return_1": 0.4}), "return_1", 20)
        {'trials': 20, 'spa_p': None, 'pbo': 0.4}
    """
    record: Selection = {"trials": trials, "spa_p": (settings.spa or {}).get(target)}
    pbo, effective = ((given or {}).get(target) for given in (settings.pbo, settings.effective_trials))
    if pbo is not None:
        record["pbo"] = pbo
    if effective is not None:
        record["effective_trials"] = effective
    return record


def with_effective_trials(metrics: StrategyMetrics, book: Book, selection: Selection) -> StrategyMetrics:
    """The metrics of a strategy, with the Sharpe ratio deflated by the effective number of trials next to the other.

    Args:
        metrics: The metrics.
        book: The book of the strategy.
        selection: What is known of the sweep.
    """
    effective = selection.get("effective_trials")
    if effective is None:
        return metrics
    deflated = deflated_sharpe_ratio(book.net, effective, lags=automatic_lags(len(book.net)))
    return {**metrics, "effective_trials": effective, "dsr_effective": deflated}


def overfitting_sentence(pbo: float) -> str:
    """A probability of backtest overfitting in words.

    Example:
        >>> overfitting_sentence(0.43)[:73]
        'The best trial on one half of the validation dates was below the median t'
    """
    return (
        "The best trial on one half of the validation dates was below the median trial on the other half in "
        f"{pbo:.0%} of all halves (PBO {pbo:.2f}; a choice by luck has about 0.50)."
    )


def effective_sentence(trials: int, effective: float) -> str:
    """An effective number of trials in words.

    Example:
        >>> effective_sentence(20, 6.749)
        'The 20 trials resemble each other: their best is as lucky as that of 6.7 independent ones.'
    """
    lucky = f"their best is as lucky as that of {effective:.1f} independent ones"
    return f"The {trials:,} trials resemble each other: {lucky}."
