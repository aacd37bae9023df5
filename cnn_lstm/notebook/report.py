"""What `test` found, for a notebook: verdict, metrics, table, plots."""

from __future__ import annotations

import html
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pandas as pd

from cnn_lstm.bounded import load_json, without_checksum
from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.predictions import target_infos
from cnn_lstm.data.stored_tables import read_table, read_text_of
from cnn_lstm.errors import DataError, require
from cnn_lstm.evaluation.json_types import Report, TargetReport, Verdict
from cnn_lstm.evaluation.plain_language import answer_lines
from cnn_lstm.evaluation.plots import Kind, plots_of_kind
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.evaluation.sequential_text import sequence_sentences
from cnn_lstm.evaluation.text import render_report
from cnn_lstm.hints import one_of
from cnn_lstm.pages.drawing import Drawing

KINDS: tuple[Kind, ...] = ("forecast", "truth", "calibration", "strategy", "errors", "sequence")


def verdict(table: Frame) -> dict[str, Verdict]:
    """The verdict on each target of a predictions table.

    Args:
        table: Predictions table of `test`, with its baselines, see `evaluate`.

    Returns:
        By target: `evidence` (true or false), `verdict`, and `reason` in one sentence.

    Raises:
        DataError: As `evaluate`.

    Example:
        >>> verdict(pd.read_parquet("runs/first/predictions.parquet"))  # doctest: +SKIP
        {'return_1': {'evidence': False, 'verdict': 'NO EVIDENCE OF SKILL', 'reason': ...}}
    """
    return _verdicts(evaluate(table))


def _verdicts(report: Report) -> dict[str, Verdict]:
    return {
        name: {"evidence": target["evidence"], "verdict": target["verdict"], "reason": target["reason"]}
        for name, target in report["targets"].items()
    }


@dataclass(frozen=True, repr=False)
class TestReport:
    """What `test` found; all of it lies in the folder too.

    Attributes:
        folder: The folder of the run, or of the walk-forward.
        report: What report.json holds.
        table: Predictions table with the baselines, one row per forecast, in original units.
    """

    __test__ = False  # no test of pytest

    folder: Path
    report: Report
    table: pd.DataFrame

    @classmethod
    def from_run(cls, folder: str | Path) -> TestReport:
        """Reads what a `test` or a `walk-forward` has left in a folder.

        Args:
            folder: The folder.

        Raises:
            DataError: If it holds no intact report.
        """
        folder = Path(folder)
        table = folder / "predictions.parquet"
        try:
            report = cast(Report, without_checksum(load_json(read_text_of(table, "report.json"))))
        except (OSError, ValueError) as error:
            what, fix = "no intact report of a test", "run the command that wrote it again"
            raise DataError(what, str(folder / "report.json"), fix, code=339) from error
        return cls(folder, report, read_table(table))

    @property
    def verdict(self) -> dict[str, Verdict]:
        """The verdict on each target, see `verdict`."""
        return _verdicts(self.report)

    @property
    def page(self) -> Path:
        """The whole report as a page of HTML."""
        return self.folder / "report.html"

    def open(self) -> None:
        """Opens the page in a browser."""
        webbrowser.open(self.page.resolve().as_uri())

    def metrics(self, target: str | None = None) -> pd.DataFrame:
        """The metrics of the model and of each baseline.

        Args:
            target: Name of the target; the first one by default.

        Returns:
            One row per forecast, the model first, and one column per metric, in the target's unit where it has one.

        Raises:
            ConfigError: E224, if the target is unknown.
        """
        forecasts = self._target(target)[1]["forecasts"]
        numbers = {
            name: {key: value for key, value in metrics.items() if isinstance(value, int | float)}
            for name, metrics in forecasts.items()
        }
        return pd.DataFrame.from_dict(numbers, orient="index")

    def plot(
        self,
        kind: Kind = "forecast",
        symbol: str | None = None,
        target: str | None = None,
        file: str | Path | None = None,
    ) -> Drawing:
        """Draws the plots of the report.

        Args:
            kind: `forecast` over time with truth and interval, `truth` against forecast, `calibration`, `strategy`
                after costs, `errors` by year and regime, or `sequence`: the evidence over time.
            symbol: The only symbol of `forecast`, `truth` and `strategy`; by default all, of which `forecast` shows
                four.
            target: Name of the target; the first one by default.
            file: Where to write it too, see `Drawing.save`.

        Raises:
            ConfigError: E224, if kind, symbol or target are unknown, or the target has no such plot.
        """
        return draw(kind, self.table, *self._target(target), symbol, file)

    def _target(self, name: str | None) -> tuple[str, TargetReport]:
        chosen = _known(name, list(self.report["targets"]), "target")
        return chosen, self.report["targets"][chosen]

    def __repr__(self) -> str:
        return f"{render_report(self.report)}\nreport: {self.page}"

    def _repr_html_(self) -> str:
        return "\n".join([*map(self._target_html, self.report["targets"]), f"<p>{html.escape(str(self.page))}</p>"])

    def _target_html(self, name: str) -> str:
        target = self.report["targets"][name]
        lines = "".join(
            f"<li>{html.escape(line)}</li>" for line in (*answer_lines(target), *sequence_sentences(target))
        )
        table = self.metrics(name).to_html(float_format=lambda value: f"{value:.4g}", na_rep="")
        title, reason = html.escape(f"{name}: {target['verdict']}"), html.escape(target["reason"])
        return f"<h4>{title}</h4><p>{reason}</p><ul>{lines}</ul>{table}"


def draw(
    kind: Kind,
    table: pd.DataFrame,
    name: str | None,
    target: TargetReport | None,
    symbol: str | None,
    file: str | Path | None = None,
) -> Drawing:
    """The plots of one kind of a predictions table, shown where IPython runs.

    Args:
        kind: See `TestReport.plot`.
        table: Predictions table.
        name: Name of the target; the first one by default.
        target: What the report says of it.
        symbol: The only symbol; all by default.
        file: Where to write it too.

    Raises:
        ConfigError: E224, if kind, symbol or target are unknown, or the target has no such plot.
    """
    _known(kind, KINDS, "plot")
    if symbol is not None:
        _known(symbol, [str(one) for one in table["symbol"].unique()], "symbol")
    name = _known(name, list(target_infos(table)), "target")
    plots = plots_of_kind(kind, table, name, target, symbol)
    require(bool(plots), f"no plot {kind!r} of {name}", "plot", f"choose another one: {', '.join(KINDS)}")
    drawing = Drawing(tuple(plots))
    if file is not None:
        drawing.save(file)
    return drawing.shown()


def _known(name: str | None, names: Sequence[str], what: str) -> str:
    if name is None:
        return names[0]
    require(name in names, f"no {what} {name!r}", "the report", one_of(str(name), names))
    return name
