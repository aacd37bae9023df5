"""The report as text: the verdict first, then tables that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from cnn_lstm.data.quantities import quantity
from cnn_lstm.evaluation.formatting import (
    COLUMNS,
    TITLES,
    aligned,
    comparison_cells,
    number,
    p_value,
    percent,
    rows_cells,
    time_noun,
)
from cnn_lstm.evaluation.json_types import PooledLevels, Report, StrategyMetrics, TailTest, TargetReport
from cnn_lstm.evaluation.plain_language import (
    FEWER_ROWS,
    answer_lines,
    rows_under_test,
    selection_sentence,
    suspicions,
)
from cnn_lstm.evaluation.sequential_text import sequence_block
from cnn_lstm.hints import counted

TAIL_RISK: dict[TailTest, str] = {
    "kupiec_p": "Kupiec p",
    "independence_p": "independence p",
    "conditional_p": "both p",
    "shortfall_z2": "Z2",
    "shortfall_p": "Z2 p",
}


def render_report(report: Report) -> str:
    """The report as text.

    Args:
        report: What `evaluate` returned.
    """
    targets = report["targets"]
    verdicts = "\n".join(
        "\n  ".join([f"{target['verdict']}: {name}", target["reason"], *answer_lines(target)])
        for name, target in targets.items()
    )
    pooled = [_pooled(reach, levels) for reach, levels in report.get("pooled", {}).items()]
    return "\n\n".join([verdicts, *pooled, *(_target(name, target) for name, target in targets.items())]) + "\n"


def _pooled(reach: str, levels: PooledLevels) -> str:
    lines = [["", "RSE", "CORR"]]
    for name, metrics in levels["forecasts"].items():
        lines.append([name, *(number(metrics[key]) for key in ("rse", "corr"))])
    rows = counted(int(reach), "row")
    title = f"all {levels['targets']} levels {rows} ahead together, {counted(levels['rows'], 'forecast')}"
    return f"{title}\n{aligned(lines, left=1)}"


def _target(name: str, target: TargetReport) -> str:
    blocks = [_headline(name, target), _forecasts(target), selection_sentence(target), *suspicions(target)]
    blocks += [sequence_block(target)]
    blocks += [_breakdown(target), _intervals(target), _head(target), _tail_risk(target), *_strategy(target)]
    return "\n\n".join(block for block in blocks if block)


def _headline(name: str, target: TargetReport) -> str:
    left_out = f", {target['left_out']:,} left out" if target["left_out"] else ""
    symbols, dates = counted(target["symbols"], "symbol"), counted(target["dates"], time_noun(target))
    return (
        f"{name}: {counted(target['rows'], 'forecast')} of {symbols} on {dates}, "
        f"{target['first'][:10]}..{target['last'][:10]}{left_out}"
    )


def _forecasts(target: TargetReport) -> str:
    """The model and its baselines; skill and p-values are the model's on the rows that the baseline knows."""
    columns, rows = COLUMNS[target["kind"]], rows_cells(target)
    fewer = any(rows.values())
    titles = [TITLES.get(column, column) for column in columns]
    lines = [["", *titles, "skill", "DM p", "boot p", *(["rows"] if fewer else [])]]
    for name, metrics in target["forecasts"].items():
        title = f"{name} *" if name == target["best_baseline"] else name
        cells = [number(metrics.get(column)) for column in columns]
        lines.append([title, *cells, *comparison_cells(target["comparisons"].get(name)), *rows[name]])
    note = f"* best baseline by {target['loss']}; skill is that of the model against each baseline"
    note += f"\n{FEWER_ROWS}" if fewer else ""
    return f"{aligned(lines, left=1)}\n{note}"


def _breakdown(target: TargetReport) -> str:
    lines = [["", "rows", "model", target["best_baseline"], "skill"]]
    for kind in ("fold", "year", "regime"):
        for group in target["breakdowns"].get(kind, []):
            losses = (number(group[key]) for key in ("loss_model", "loss_baseline", "skill"))
            lines.append([f"{kind} {group['name']}", f"{group['rows']:,}", *losses])
    symbols = f"lower {target['loss']} than {target['best_baseline']} for {target['win_rate']:.0%} of the symbols"
    return f"{aligned(lines, left=1)}\n{symbols}"


def _intervals(target: TargetReport) -> str:
    if not target["intervals"]:
        return ""
    sets = quantity(target["kind"]).is_class
    columns = {"coverage": "coverage", "mean_size" if sets else "mean_width": "classes" if sets else "width"}
    columns |= {} if sets else {"winkler": "Winkler"}
    lines = [["", *columns.values(), "Kupiec p"]]
    for level, metrics in target["intervals"].items():
        lines.append([f"{level}%", *(number(metrics[name]) for name in columns), p_value(metrics["kupiec_p"])])
    blocks = ["conformal intervals", aligned(lines, left=1)]
    whole = target["distribution"]
    if "crps" in whole:
        blocks.append(f"CRPS {number(whole['crps'])}, PIT Kolmogorov-Smirnov p {p_value(whole['pit']['ks_p'])}")
    blocks += [
        f"{name}: mean {number(spread['mean'])}, rank correlation with the error "
        f"{number(spread['rank_correlation'])}; epistemic spread, not an interval"
        for name, spread in target["spread"].items()
    ]
    return "\n".join(blocks)


def _head(target: TargetReport) -> str:
    head = target["distribution"].get("head")
    if head is None:
        return ""
    return (
        f"distribution of the model's head, {head['name']}\n"
        f"CRPS {number(head['crps'])}, PIT Kolmogorov-Smirnov p {p_value(head['pit']['ks_p'])}"
    )


def _tail_risk(target: TargetReport) -> str:
    if not target["tail_risk"]:
        return ""
    lines = [["", "rows", "breaches", "rate", *TAIL_RISK.values()]]
    for level, tested in target["tail_risk"].items():
        cells = f"{tested['rows']:,}", f"{tested['breaches']:,}", percent(tested["breach_rate"])
        tests = (number(tested[key]) if key == "shortfall_z2" else p_value(tested[key]) for key in TAIL_RISK)
        lines.append([f"{level}%", *cells, *tests])
    return f"value at risk and expected shortfall, {rows_under_test(target)}\n{aligned(lines, left=1)}"


def _strategy(target: TargetReport) -> Iterator[str]:
    strategy = target["strategy"]
    if strategy is None:
        return
    hold = strategy["buy_and_hold"]
    yield "\n".join(
        [
            f"strategy after {number(strategy['cost_bp'])} bp per side: {strategy['rule']}",
            f"net return {percent(strategy['net_annual_return'])} per year "
            f"(gross {percent(strategy['gross_annual_return'])}), "
            f"volatility {percent(strategy['annual_volatility'])}, drawdown {percent(strategy['max_drawdown'])}",
            f"Sharpe {number(strategy['sharpe'])} (standard error {number(strategy['sharpe_se'])}), "
            f"PSR {number(strategy['psr'])}, DSR {number(strategy['dsr'])} for the best of {strategy['trials']}"
            f"{_effective(strategy)}",
            f"turnover {number(strategy['annual_turnover'])} per year, "
            f"break-even cost {number(strategy['break_even_cost_bp'])} bp per side, "
            f"random signs earn as much with p {p_value(strategy['random_sign_p'])}",
            f"buy and hold at the same exposure: {percent(hold['net_annual_return'])} per year, "
            f"Sharpe {number(hold['sharpe'])}, drawdown {percent(hold['max_drawdown'])}",
        ]
    )


def _effective(strategy: StrategyMetrics) -> str:
    """The same of the effective number of trials, where a sweep has said it."""
    deflated = strategy.get("dsr_effective")
    return "" if deflated is None else f", {number(deflated)} of {strategy['effective_trials']:.1f} independent ones"
