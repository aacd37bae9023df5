"""The page of the report: what it says, in which order, and that it needs nothing else."""

from __future__ import annotations

import base64
import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.errors import ResourceError
from cnn_lstm.evaluation.formatting import COLUMNS, number, p_value, percent
from cnn_lstm.evaluation.html import render_page
from cnn_lstm.evaluation.json_types import Report
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.files import write_text_whole
from tests.evaluation.tables import information, predictions_table

KINDS = ("return", "log_volatility", "class")
# 1 x 1 pixel
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """Tags with their attributes, tables as rows of texts, headings and all text of a page."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.bold: list[str] = []
        self.headings: list[str] = []
        self.after: list[str] = []  # tag that follows each heading
        self.feed(text)
        self.close()
        assert self.open == [], "tags that are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.headings and len(self.after) < len(self.headings):
            self.after.append(tag)
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("h2", "h3", "h4"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
            if self.tags[-1] == ("td", {"class": "best"}):
                self.bold.append(data)
        elif self.open[-1:] and self.open[-1] in ("h2", "h3", "h4"):
            self.headings[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return predictions_table(KINDS, symbols=("AAA", "BBB", "CCC"), dates=260)


@pytest.fixture(scope="module")
def report(table: pd.DataFrame) -> Report:
    return evaluate(table)


@pytest.fixture(scope="module")
def html(table: pd.DataFrame, report: Report) -> str:
    return render_page(report, table, information())


def small(kind: str = "return", **changes: Any) -> pd.DataFrame:
    options: dict[str, Any] = {"symbols": ("AAA",), "dates": 40, "resamples": 100}
    return predictions_table((kind,), **(options | changes))


def page_of(table: pd.DataFrame, report: Report | None = None, **information_changes: Any) -> str:
    return render_page(report or evaluate(table), table, information() | information_changes)


def test_every_metric_of_the_forecasts_stands_in_their_table(html: str, report: Report) -> None:
    tables = [rows for rows in Page(html).tables if rows[0][0] == "forecast"]
    assert len(tables) == 3
    for target, rows in zip(report["targets"].values(), tables, strict=True):
        lines = {line[0].replace(" best baseline", ""): line[1:] for line in rows[1:]}
        assert list(lines) == list(target["forecasts"])
        for name, metrics in target["forecasts"].items():
            expected = [number(metrics.get(column)) for column in COLUMNS[target["kind"]]]
            assert lines[name][: len(expected)] == expected
            compared = target["comparisons"].get(name)
            assert lines[name][len(expected)] == number(compared["skill"] if compared else None)
        marked = [line[0] for line in rows if "best baseline" in line[0]]
        assert marked == [f"{target['best_baseline']} best baseline"]


def test_the_tail_of_the_head_stands_in_a_table_of_its_own(html: str, report: Report) -> None:
    page, tested = Page(html), report["targets"]["return_1"]["tail_risk"]
    (rows,) = [rows for rows in page.tables if rows[0][0] == "level"]
    assert [line[0] for line in rows[1:]] == ["1%", "5%"]
    for line, level in zip(rows[1:], tested.values(), strict=True):
        assert line[1:4] == [f"{level['rows']:,}", f"{level['breaches']:,}", percent(level["breach_rate"])]
        assert line[4:] == [
            *(p_value(level[name]) for name in ("kupiec_p", "independence_p", "conditional_p")),
            number(level["shortfall_z2"]),
            p_value(level["shortfall_p"]),
        ]
    assert f"in 5 of 100 cases; it did in {100 * (tested['5']['breach_rate'] or 0):.1f}" in page.text
    head = report["targets"]["return_1"]["distribution"]["head"]
    assert f"Distribution that the model itself forecasts (normal): CRPS {number(head['crps'])}" in page.text
    assert page.headings.count("Value at risk and expected shortfall") == 1


@pytest.mark.parametrize(("column", "best"), [("rmse", min), ("r2_mean", max), ("directional_accuracy", max)])
def test_the_best_value_of_a_column_is_bold(html: str, report: Report, column: str, best: Any) -> None:
    forecasts = report["targets"]["return_1"]["forecasts"]
    values = [metrics[column] for metrics in forecasts.values() if metrics[column] is not None]
    assert number(best(values)) in Page(html).bold
    assert number((min if best is max else max)(values)) not in Page(html).bold


def test_the_verdicts_come_first_in_the_order_of_the_targets(html: str, report: Report) -> None:
    page = Page(html)
    first = page.text.index("Key metrics")
    assert {target["evidence"] for target in report["targets"].values()} == {True, False}
    for name, target in report["targets"].items():
        mark = "✓ EVIDENCE OF SKILL" if target["evidence"] else "\N{EN DASH} NO EVIDENCE OF SKILL"
        assert f"{name} {mark} On " in page.text[:first]
        assert target["reason"] in page.text[:first]
    order = ["Key metrics", "The model and the simple methods", "Plots", "Where the model wins", "Intervals and"]
    order += ["What it would have earned", "Model information sheet", "Leakage", "How to recompute it"]
    places = [next(place for place, title in enumerate(page.headings) if title.startswith(word)) for word in order]
    assert places == sorted(places)


def test_both_questions_and_the_smallest_skill_stand_under_the_verdict(html: str, report: Report) -> None:
    first = Page(html).text.partition("Key metrics")[0]
    for target in report["targets"].values():
        for question, key in (
            ("Skill over naive forecasts", "over_naive"),
            ("Better than the best fitted baseline", "over_fitted"),
        ):
            answer: Any = target[key]  # type: ignore[literal-required]  # the key is a variable
            assert f"{question}: {'yes' if answer['evidence'] else 'no'}; {answer['reason']}." in first
    assert first.count("This test could have found a skill of ") == len(report["targets"])
    assert "linear part" not in first


def test_what_the_network_adds_and_the_rows_that_a_baseline_knows_are_shown() -> None:
    table = small(dates=60)
    attrs = table.attrs
    table = table.assign(y_linear=0.5 * table["y_pred"])
    table.loc[table.index % 3 == 0, "y_ridge"] = np.nan
    table.attrs = attrs
    page = Page(page_of(table))
    assert "What the network adds to its linear part: squared error " in page.text.partition("Key metrics")[0]
    rows = next(lines for lines in page.tables if lines[0][0] == "forecast")
    assert rows[0][-1] == "rows"
    known = {line[0].removesuffix(" best baseline"): line[-1] for line in rows[1:]}
    assert known["ridge"] == str(int(table["y_ridge"].notna().sum()))
    assert known["model"] == known["zero"] == known["linear part"] == str(len(table))
    assert "on the rows that it knows" in page.text


def test_no_evidence_is_neither_green_nor_ticked() -> None:
    table = small(skill=0.0)
    html = page_of(table)
    assert '<section class="verdict">' in html
    assert "verdict yes" not in html
    assert "✓" not in html
    assert "NO EVIDENCE OF SKILL" in html


def test_failed_checks_stand_in_the_verdict() -> None:
    table = small(skill=0.3, dates=250)
    table.attrs["failed_checks"] = ["L3.1 temporal leakage"]
    text = Page(page_of(table)).text
    assert "NO EVIDENCE OF SKILL A check found that the model may have seen" in text
    assert text.index("L3.1 temporal leakage") < text.index("Key metrics")


def test_the_page_needs_nothing_else(html: str) -> None:
    page = Page(html)
    assert "http" not in html
    assert not page.attributes("script")
    assert not page.attributes("link")
    assert "url(" not in html
    assert "@import" not in html
    assert all(str(image["src"]).startswith("data:image/") for image in page.attributes("img"))
    for image in page.attributes("img"):
        inside = base64.b64decode(str(image["src"]).split(",")[1]).decode()
        # what lies inside a plot points to the names of formats alone
        assert not re.findall(r'(?:href|src)="(?!#|data:)', inside)


def test_every_plot_has_a_caption_and_a_description(html: str) -> None:
    page = Page(html)
    images = page.attributes("img")
    assert [len(str(image["alt"])) > 10 for image in images] == [True] * len(images)
    assert len(page.attributes("figcaption")) == 2 * len(images)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "return",
            ["Forecast and truth", "Does more", "Do the intervals", "Is the whole", "What it would", "Error by"],
        ),
        ("log_volatility", ["Forecast and truth", "Does more", "Do the intervals", "Is the whole", "Error by"]),
        ("class", ["Forecast and truth", "Do the sets", "Is a probability", "What it would", "Error by"]),
    ],
)
def test_each_kind_has_its_plots(kind: str, expected: list[str]) -> None:
    saving, wealth, *titles = re.findall(r"<figcaption><strong>(.*?)</strong>", page_of(small(kind)))
    assert saving.startswith("Saving over")
    assert wealth.startswith("Wealth of bets")
    rows = [next((word for word in expected if title.startswith(word)), title) for title in titles]
    assert list(dict.fromkeys(rows))[: len(expected)] == expected


def test_names_are_escaped() -> None:
    table = small(symbols=("<script>alert(1)</script>", 'A"B&C', "$\\frac{$", "日経"))
    table.attrs["targets"] = {"<b>return": table.attrs["targets"]["return_1"]}
    table["target"] = "<b>return"
    table["y_<i>own"] = 0.001
    html = page_of(table, information=None, data=information(["<img src=x>"])["data"])
    page = Page(html)
    assert not page.attributes("script")
    assert not page.attributes("b")
    assert not page.attributes("i")
    assert all(str(image["src"]).startswith("data:") for image in page.attributes("img"))
    for name in ("<script>alert(1)</script>", 'A"B&C', "日経", "<b>return", "<i>own", "<img src=x>"):
        assert name in page.text


def test_a_missing_metric_is_a_dash(report: Report, table: pd.DataFrame) -> None:
    changed = copy.deepcopy(report)
    target: Any = changed["targets"]["return_1"]
    for metrics in target["forecasts"].values():
        metrics["ic"] = None
    for compared in target["comparisons"].values():
        compared |= {"skill": None, "skill_interval": [None, None], "dm_p": None, "bootstrap_p": None}
    for metrics in target["intervals"].values():
        metrics |= dict.fromkeys(metrics, None) | {"level": metrics["level"]}
    for lines in target["breakdowns"].values():
        for line in lines:
            line["skill"] = None
    target["strategy"] |= dict.fromkeys(("sharpe", "sharpe_se", "dsr", "psr", "random_sign_p", "break_even_cost_bp"))
    target["forecasts"]["model"]["directional_accuracy"] = None
    html = render_page(changed, table, information())
    page = Page(html)
    assert not re.search(r"\b(None|nan|inf)\b", page.text)
    rows = next(lines for lines in page.tables if lines[0][0] == "forecast")
    place = rows[0].index("IC")
    assert {line[place] for line in rows[1:]} == {"-"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_heading_is_empty(kind: str) -> None:
    table = small(kind)
    kept = [name for name in table.columns if not name.startswith(("lower_", "upper_", "set_", "volatility"))]
    bare = table[kept]
    bare.attrs = copy.deepcopy(table.attrs)
    bare.attrs["targets"][next(iter(bare.attrs["targets"]))].pop("scores", None)
    report = evaluate(bare)
    next(iter(report["targets"].values()))["strategy"] = None
    page = Page(page_of(bare, report))
    assert not [title for title in page.headings if "coverage" in title or "after costs" in title or "regime" in title]
    followed = dict(zip(page.headings, page.after, strict=True))
    assert [title for title, tag in followed.items() if tag in ("h2", "h3", "h4", "section")] == []


@pytest.mark.parametrize("kind", ["volatility", "level", "value"])
def test_volatilities_levels_and_values_have_a_page(kind: str) -> None:
    table = small("log_volatility")
    about = table.attrs["targets"]["log_volatility_5"]
    about["kind"] = kind
    names = [name for name in table.columns if name.startswith(("y_", "lower_", "upper_"))]
    table[names] = np.exp(table[names])
    assert "EVIDENCE OF SKILL" in page_of(table)


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_of_few_dates_has_a_page(kind: str) -> None:
    table = small(kind)
    few = table[table["as_of"].isin(table["as_of"].unique()[:3])]
    few.attrs = table.attrs
    assert "NO EVIDENCE OF SKILL" in page_of(few)


def test_a_constant_forecast_has_a_page() -> None:
    table = small("log_volatility")
    table["y_pred"] = -4.5
    assert "NO EVIDENCE OF SKILL" in page_of(table)


def test_many_years_and_tiny_errors_have_a_page() -> None:
    table = small(dates=1200)
    names = [name for name in table.columns if name.startswith(("y_", "lower_", "upper_"))]
    table[names] *= 1e-4
    table["as_of"] += 5 * (table["as_of"] - table["as_of"].min())
    assert len(Page(page_of(table)).tables[3]) > 20


def test_the_sheet_says_how_often_the_test_rows_were_used() -> None:
    table = small()
    often = Page(page_of(table, test_rows_used={"times": 1200, "models": 7})).text
    assert "The test rows were used 1,200 times by 7 models." in often
    once = Page(page_of(table, test_rows_used={"times": 1, "models": 1})).text
    assert "The test rows were used once, by this model" in once


def test_the_sheet_says_where_data_are_others_than_those_of_the_training() -> None:
    other = {"data": information()["data"] | {"trained_on_sha256": "0" * 64}}
    assert "trained on other data" in page_of(small(), **other)
    assert "trained on other data" not in page_of(small())


def test_existing_plots_are_embedded(tmp_path: Path) -> None:
    (tmp_path / "attention.png").write_bytes(PNG)
    table = small()
    given = [tmp_path / "attention.png", tmp_path / "missing.png"]
    write_text_whole(tmp_path / "report.html", render_page(evaluate(table), table, information(), given))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert base64.b64encode(PNG).decode() in html
    assert "<strong>Attention</strong>" in html
    assert "Missing" not in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.png", "report.html"]


def test_a_folder_that_is_missing_is_a_resource_error(tmp_path: Path) -> None:
    table = small()
    with pytest.raises(ResourceError, match="cannot write the file"):
        write_text_whole(tmp_path / "missing" / "report.html", page_of(table))


def test_equal_tables_make_equal_pages() -> None:
    assert page_of(small()) == page_of(small())


def test_100_000_forecasts_make_a_small_page() -> None:
    table = predictions_table(("return",), symbols=[f"S{number:03}" for number in range(200)], dates=501, resamples=100)
    assert len(table) >= 100_000
    report = evaluate(table)
    html = render_page(report, table, information())
    assert len(html.encode()) < 2_500_000
