"""The report in plain language, for a reader without statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnn_lstm.data.quantities import quantity
from cnn_lstm.evaluation.forecasts import LINEAR
from cnn_lstm.evaluation.formatting import p_value, time_noun
from cnn_lstm.evaluation.json_types import Answer, ComparedLosses, StrategyMetrics, TargetReport, Uses
from cnn_lstm.evaluation.selection import effective_sentence, overfitting_sentence
from cnn_lstm.hints import counted

# what the simple methods forecast, for those whose name does not say it
MADE = {
    "zero": "a forecast of no change",
    "training mean": "the average of the training data",
    "prior": "the shares of the classes in the training data",
    "last value": "the last known value goes on",
    "seasonal naive": "the value of one season before",
    "linear part": "the linear model that the model starts from, without its network",
    "ridge": "a linear fit of the window",
    "logistic": "a linear fit of the window",
    "HAR": "averages of the last day, week and month",
    "log-HAR": "averages of the last day, week and month",
}
# question of the verdict -> key of its answer
QUESTIONS = {"skill over naive forecasts": "over_naive", "better than the best fitted baseline": "over_fitted"}
FEWER_ROWS = (
    "a method without a forecast of some rows is judged, and the model against it, on the rows that it knows; it can "
    "be the best baseline if these are at least half of all"
)
TOLERANCE = 0.02  # of a measured coverage
TWO_SIDED = 1.96  # standard errors of the 95 % interval
SUSPICIOUS_IC = 0.1
SMALL_P = 0.05


def verdict_sentence(target: TargetReport, failed_checks: Sequence[str] = ()) -> str:
    """What the verdict means and how sure it is.

    Args:
        target: What the report says of a target.
        failed_checks: Kinds of leakage whose check failed.
    """
    if failed_checks:
        return (
            f"A check found that the model may have seen what it had to forecast ({', '.join(failed_checks)}). No "
            "metric on this page can be relied on until that is fixed."
        )
    best, compared = target["best_baseline"], target["comparisons"][target["best_baseline"]]
    tested = f"On {counted(compared.get('rows', target['rows']), 'forecast')} of the test period, "
    if compared["skill"] is None:
        return f"{tested}the simple method {best} made no error at all: no model can do better."
    outcome = f"{tested}the model's error ({target['loss']}) was {_difference(compared['skill'], best)}"
    if target["evidence"]:
        return (
            f"{outcome}. If the model were truly no better, a difference this large would come up by chance in "
            f"{odds(worst_p(compared))} such tests. That speaks for the model in this period; it promises nothing for "
            "other periods."
        )
    if compared["skill"] <= 0:
        return f"{outcome}. Nothing speaks for the model over that method."
    dates = compared.get("dates", target["dates"])
    if dates < target["dates_needed"]:
        return (
            f"{outcome}, but a test of {counted(dates, time_noun(target))} is too short to tell skill from luck: at "
            f"least {target['dates_needed']:,} are needed. Until there is evidence, the simple method is the safer "
            "choice."
        )
    return (
        f"{outcome}, but luck cannot be ruled out: if the model were truly no better, a difference this large would "
        f"come up by chance in {odds(worst_p(compared))} such tests; {_range(compared)}. Until there is evidence, the "
        "simple method is the safer choice."
    )


def answer_lines(target: TargetReport) -> Iterator[str]:
    """The two questions of the verdict with their answers, then what the test could have found, and the linear part.

    Args:
        target: What the report says of a target.
    """
    for question, key in QUESTIONS.items():
        answer: Answer | None = target.get(key)  # type: ignore[assignment]  # the keys of QUESTIONS are such answers
        if answer is not None:
            yield f"{question}: {'yes' if answer['evidence'] else 'no'}; {answer['reason']}"
    yield from power_sentence(target)
    yield from linear_sentence(target)


def power_sentence(target: TargetReport) -> Iterator[str]:
    """The smallest skill over the best baseline that this test could have found.

    Args:
        target: What the report says of a target.

    Example:
        >>> target = {"best_baseline": "ridge", "comparisons": {"ridge": {"smallest_skill": 0.058}}}
        >>> list(power_sentence(target))
        ['this test could have found a skill of 5.8% or more over ridge in 8 of 10 such tables']
    """
    best = target["best_baseline"]
    smallest = target["comparisons"][best].get("smallest_skill")
    if smallest is None:
        return
    if smallest >= 1:
        yield f"this test is too short for any skill over {best} to be found in 8 of 10 such tables"
    else:
        yield f"this test could have found a skill of {smallest:.1%} or more over {best} in 8 of 10 such tables"


def linear_sentence(target: TargetReport) -> Iterator[str]:
    """What the network adds to the linear part of the model; nothing for a model without one.

    Args:
        target: What the report says of a target.
    """
    compared = target["comparisons"].get(LINEAR)
    if compared is None:
        return
    if compared["skill"] is None:
        yield f"what the network adds to its linear part: no ratio, the linear part alone has no {target['loss']}"
        return
    size = f"{abs(compared['skill']):.1%} {'below' if compared['skill'] > 0 else 'above'}"
    if not compared["skill"]:
        size = "equal to"
    low, high = compared["skill_interval"]
    yield (
        f"what the network adds to its linear part: {target['loss']} {size} that of the linear part alone (95% "
        f"interval of the skill {signed(low)} to {signed(high)}, Diebold-Mariano p {p_value(compared['dm_p'])}, "
        f"bootstrap p {p_value(compared['bootstrap_p'])})"
    )


def _difference(skill: float, best: str) -> str:
    made = f" ({MADE[best]})" if best in MADE else ""
    size, of = f"{abs(skill):.1%}", f"that of the best simple method, {best}{made}"
    if size == "0.0%":
        return f"practically the same as {of}"
    return f"{size} {'lower' if skill > 0 else 'higher'} than {of}"


def _range(compared: ComparedLosses) -> str:
    low, high = compared["skill_interval"]
    if low is None or high is None:
        return "its range is not known"
    if low > 0:
        return (
            f"though the advantage seems to lie between {signed(low)} and {signed(high)}, the two tests do "
            "not both exclude luck"
        )
    return f"the advantage may plausibly be anything from {signed(low)} to {signed(high)}"


def worst_p(compared: ComparedLosses) -> float | None:
    """The larger p-value of the two tests; None where one is missing."""
    dm, bootstrap = compared["dm_p"], compared["bootstrap_p"]
    return None if dm is None or bootstrap is None else max(dm, bootstrap)


def odds(p: float | None) -> str:
    """A probability as a count.

    Example:
        >>> odds(0.0001), odds(0.0312), odds(0.4), odds(None)
        ('fewer than 1 of 1,000', 'about 31 of 1,000', 'about 40 of 100', 'an unknown share of')
    """
    if p is None:
        return "an unknown share of"
    if p < 0.001:
        return "fewer than 1 of 1,000"
    return f"about {1000 * p:.0f} of 1,000" if p < 0.1 else f"about {100 * p:.0f} of 100"


def probability(value: float | None) -> str:
    """A probability in percent that never reads as certain.

    Example:
        >>> probability(0.99999), probability(0.5), probability(0.0), probability(None)
        ('> 99.9%', '50.0%', '< 0.1%', '-')
    """
    if value is None:
        return "-"
    if value > 0.9995:
        return "> 99.9%"
    return "< 0.1%" if value < 0.0005 else f"{value:.1%}"


def signed(value: float | None) -> str:
    """A change in percent; what rounds to 0 has no sign.

    Example:
        >>> signed(0.0123), signed(-0.0001), signed(None)
        ('+1.2%', '0.0%', '-')
    """
    if value is None:
        return "-"
    text = f"{value:+.1%}"
    return "0.0%" if text[1:] == "0.0%" else text


def suspicions(target: TargetReport) -> Iterator[str]:
    """What should make a reader suspicious of a target's metrics.

    Args:
        target: What the report says of a target.
    """
    ic = target["forecasts"]["model"].get("ic")
    if quantity(target["kind"]).is_return and ic is not None and ic > SUSPICIOUS_IC:
        yield f"IC {ic:.2f} is suspiciously high for returns: look for a leak before anything else"


def selection_sentence(target: TargetReport) -> str:
    """How likely the choice of the best trial of a sweep was luck, by its validation rows; empty without a sweep.

    Args:
        target: What the report says of a target.

    Example:
        >>> selection_sentence({"selection": {"trials": 30, "spa_p": 0.0312}})[-44:]
        'rows in about 31 of 1,000 sweeps (SPA test).'
        >>> selection_sentence({"selection": {"trials": 1, "spa_p": None}})
        ''
    """
    selection = target["selection"]
    pbo, effective = selection.get("pbo"), selection.get("effective_trials")
    further = "" if pbo is None else f" {overfitting_sentence(pbo)}"
    further += "" if effective is None else f" {effective_sentence(selection['trials'], effective)}"
    if selection["spa_p"] is None:
        return further.strip()
    return (
        f"Chosen as the best of {selection['trials']:,} trials of a sweep. Had none of them been better than the best "
        "simple method, their best would have looked as good on the validation rows in "
        f"{odds(selection['spa_p'])} sweeps (SPA test).{further}"
    )


def interval_sentence(target: TargetReport, level: str) -> str:
    """Whether the intervals, or sets of classes, of a level kept their promise.

    Args:
        target: What the report says of a target.
        level: A level of its intervals, such as "90".
    """
    metrics = target["intervals"][level]
    if metrics["coverage"] is None:
        return ""
    share = f"{metrics['coverage'] * 100:.1f}"
    if "mean_size" in metrics:
        return (
            f"The {level}% sets of classes were to hold the true class in {level} of 100 cases; they held it in "
            f"{share} and named {metrics['mean_size']:.1f} of {target['classes']} classes on average. A set that names "
            "nearly all classes says little."
        )
    off = metrics["coverage"] - float(level) / 100
    if abs(off) <= TOLERANCE:
        remark = "That is within 2 points of the promise."
    elif off < 0:
        remark = "They were too narrow: surprises came more often than they say."
    else:
        remark = "They were wider than they needed to be."
    return f"The {level}% intervals were to hold {level} of 100 truths; they held {share}. {remark}"


def rows_under_test(target: TargetReport) -> str:
    """Which rows the tests of value at risk are made on.

    Args:
        target: What the report says of a target.

    Example:
        >>> rows_under_test({"horizon": 1, "symbols": 1}), rows_under_test({"horizon": 5, "symbols": 3})
        ('every row', "every 5th row of a symbol, p-values of the symbols' tests merged")
    """
    ending = {1: "st", 2: "nd", 3: "rd"}.get(target["horizon"] % 10, "th")
    nth = f"{target['horizon']}{'th' if target['horizon'] % 100 in (11, 12, 13) else ending}"
    rows = "every row" if target["horizon"] == 1 else f"every {nth} row of a symbol"
    return f"{rows}, p-values of the symbols' tests merged" if target["symbols"] > 1 else rows


def tail_risk_sentence(target: TargetReport, level: str) -> str:
    """Whether losses beyond the value at risk of a level came as often as promised; empty without rows.

    Args:
        target: What the report says of a target.
        level: A level of its tests, such as "5".
    """
    tested = target["tail_risk"][level]
    if tested["breach_rate"] is None:
        return ""
    sentence = (
        f"One unit held long was to lose more than its value at risk in {level} of 100 cases; it did in "
        f"{100 * tested['breach_rate']:.1f}, {counted(tested['breaches'], 'time')}."
    )
    p = tested["conditional_p"]
    if p is not None and p < SMALL_P:
        return f"{sentence} By number and clusters of these breaches the forecast of the tail is wrong."
    return f"{sentence} Number and clusters of these breaches do not speak against the forecast of the tail."


def strategy_sentences(strategy: StrategyMetrics) -> Iterator[str]:
    """What has to be known before the returns of a strategy are believed.

    Args:
        strategy: The report's strategy of a target.
    """
    yield f"Rule: {strategy['rule']}."
    yield (
        "This is a simulation on past prices. It leaves out market impact, borrowing, financing and taxes, and fills "
        "each trade at the price of its bar."
    )
    yield from _sharpe_sentence(strategy)
    yield from _trials_sentence(strategy)
    if strategy["random_sign_p"] is not None:
        yield (
            f"Random signs: {odds(strategy['random_sign_p'])} books with the same exposure and random timing earned as "
            "much before costs."
        )
    yield from _break_even_sentence(strategy)
    if strategy["unknown_returns"]:
        yield f"{strategy['unknown_returns']:,} bars have no known return and count as 0."


def _sharpe_sentence(strategy: StrategyMetrics) -> Iterator[str]:
    sharpe, error = strategy["sharpe"], strategy["sharpe_se"]
    if sharpe is None or error is None:
        return
    clear = "can" if abs(sharpe) > TWO_SIDED * error else "cannot"
    yield (
        f"The Sharpe ratio is an estimate: {sharpe:.2f} with a standard error of {error:.2f}. By the "
        f"{strategy['bars']:,} bars of this test it {clear} be distinguished from zero."
    )


def _trials_sentence(strategy: StrategyMetrics) -> Iterator[str]:
    if strategy["dsr"] is None:
        return
    if strategy["trials"] == 1:
        yield (
            "This model counts as the only one that was tried. If you tried more, say so (evaluation.trials): the best "
            "of many useless models looks good too."
        )
    else:
        yield (
            f"{strategy['trials']:,} models were tried to find this one. Allowing for that, the probability that the "
            f"true Sharpe ratio is above zero is {probability(strategy['dsr'])}."
        )
    deflated = strategy.get("dsr_effective")
    if deflated is not None:
        yield (
            f"Counted as the {strategy['effective_trials']:.1f} independent ones that the trials of the sweep amount "
            f"to, it is {probability(deflated)}."
        )


def _break_even_sentence(strategy: StrategyMetrics) -> Iterator[str]:
    cost = strategy["break_even_cost_bp"]
    if cost is None:
        return
    if cost <= 0:
        yield "It loses before any cost."
    else:
        word = "above" if cost > strategy["cost_bp"] else "below"
        yield (
            f"Nothing is left at a cost of {cost:.3g} basis points per side, {word} the {strategy['cost_bp']:g} that "
            "are counted here."
        )


def uses_sentence(uses: Uses) -> str:
    """How often the test rows were used, and what follows.

    Args:
        uses: `times`, and the number of different `models`.

    Example:
        >>> uses_sentence({"times": 1, "models": 1})
        'The test rows were used once, by this model: an untouched test.'
    """
    if uses["times"] == 1:
        return "The test rows were used once, by this model: an untouched test."
    models = counted(uses["models"], "model")
    return (
        f"The test rows were used {counted(uses['times'], 'time')} by {models}. Each choice made after looking at them "
        "makes good metrics more likely by chance."
    )
