"""The report of a sweep: trials.csv, plots and the page."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from matplotlib.image import imread
from optuna.trial import TrialState, create_trial

from cnn_lstm.sweeps.report import parameter_importances, write_report

Direction = Literal["minimize", "maximize"]
DISTRIBUTIONS: dict[str, Any] = {
    "model.optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True),
    "model.network.lstm_layers": optuna.distributions.IntDistribution(1, 3),
    "features": optuna.distributions.CategoricalDistribution(["<b>all</b>", "$x_{", "収益"]),
}


def trial(value: float | list[float] | None, state: str = "COMPLETE", seed: int = 0, **attributes: Any) -> Any:
    random = np.random.default_rng(seed)
    params = {
        "model.optimizer.lr": float(10 ** random.uniform(-5, -2)),
        "model.network.lstm_layers": int(random.integers(1, 4)),
        "features": ["<b>all</b>", "$x_{", "収益"][seed % 3],
    }
    values = {"values": value} if isinstance(value, list) else {"value": value}
    steps = {0: 1.5, 1: 1.25} if state == "PRUNED" else {}
    return create_trial(
        state=TrialState[state],
        params=params,
        distributions=DISTRIBUTIONS,
        user_attrs=attributes,
        intermediate_values=steps,
        **values,
    )


def study_of(*trials: Any, directions: Sequence[Direction] = ("minimize",), name: str = "s") -> optuna.Study:
    study = optuna.create_study(directions=list(directions), study_name=name)
    study.add_trials(trials)
    return study


class Page(HTMLParser):
    """Text and tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def mixed() -> optuna.Study:
    done = [trial(1.0 + 0.1 * k, seed=k, epochs=k + 3, seconds=2.0) for k in range(8)]
    failed = [trial(None, "FAIL", 9, reason="<script>alert(1)</script>"), trial(None, "FAIL", 10)]
    return study_of(*done, trial(1.25, "PRUNED", 8), *failed, name="<i>mine")


def test_the_table_has_every_trial_unrounded(mixed: optuna.Study, tmp_path: Path) -> None:
    write_report(mixed, tmp_path, ["val_mae"])
    lines = list(csv.DictReader((tmp_path / "trials.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["number"] for line in lines] == [str(k) for k in range(11)]
    for line, made in zip(lines, mixed.trials, strict=True):
        assert line["state"] == made.state.name
        assert line["val_mae"] == ("" if made.value is None else repr(made.value))
        assert line["model.optimizer.lr"] == repr(made.params["model.optimizer.lr"])
        assert line["features"] == made.params["features"]
        assert line["reason"] == made.user_attrs.get("reason", "")


def test_the_best_trial_comes_first_then_states_plots_and_reasons(mixed: optuna.Study, tmp_path: Path) -> None:
    files = write_report(mixed, tmp_path, ["val_mae"])
    page = Page((tmp_path / "sweep.html").read_text(encoding="utf-8"))
    order = ["best trial: 0", "val_mae 1", "model.optimizer.lr", "COMPLETE 8", "PRUNED 1", "FAIL 2"]
    order += ["How the trials went", "Which parameters", "What the good", "Where the good", "Why trials failed"]
    places = [page.text.index(word) for word in order]
    assert places == sorted(places)
    assert "<script>alert(1)</script> 1 9" in page.text
    assert "unknown 1 10" in page.text
    names = ["trials.csv", *(f"sweep_{n}.png" for n in ("history", "importances", "parallel", "slices")), "sweep.html"]
    assert [file.name for file in files] == names
    for file in files[1:-1]:
        plot = imread(file)
        assert plot[..., :3].std() > 0.02


def test_the_page_needs_nothing_else_and_escapes_what_it_is_given(mixed: optuna.Study, tmp_path: Path) -> None:
    write_report(mixed, tmp_path, ["<u>val"])
    html = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "b", "i", "u"}
    assert not re.search(r"https?:|url\(|@import", html)
    for name in ("<i>mine", "<b>all</b>", "$x_{", "収益", "<u>val"):
        assert name in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(str(image["src"]).startswith("data:image/png") and image["alt"] for image in images)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("value", [1.0, [1.0, 2.0]], ids=["one", "several"])
def test_few_trials_have_a_page(count: int, value: Any, tmp_path: Path) -> None:
    several = isinstance(value, list)
    directions: list[Direction] = ["minimize"] * (1 + several)
    study = study_of(*(trial(value, seed=k) for k in range(count)), directions=directions)
    write_report(study, tmp_path, ["val_loss", "parameters"][: 1 + several])
    text = Page((tmp_path / "sweep.html").read_text(encoding="utf-8")).text
    assert ("No trial was completed" in text) == (count == 0)
    assert f"COMPLETE {count}" in text


@pytest.mark.parametrize("state", ["FAIL", "PRUNED", "RUNNING"])
def test_without_a_completed_trial_there_is_a_page(state: str, tmp_path: Path) -> None:
    write_report(study_of(*(trial(None, state, seed=k) for k in range(3))), tmp_path)
    text = Page((tmp_path / "sweep.html").read_text(encoding="utf-8")).text
    assert "No trial was completed" in text
    assert f"{state} 3" in text


def test_a_study_that_maximises_has_its_largest_value_first(tmp_path: Path) -> None:
    study = study_of(*(trial(0.1 * k, seed=k) for k in range(5)), directions=("maximize",))
    write_report(study, tmp_path, ["val_accuracy"])
    assert "best trial: 4 val_accuracy 0.4" in Page((tmp_path / "sweep.html").read_text(encoding="utf-8")).text


def test_several_objectives_have_a_front_and_no_history(tmp_path: Path) -> None:
    values = [[1.0, 9.0], [2.0, 3.0], [3.0, 4.0], [4.0, 1.0]]
    study = study_of(*(trial(pair, seed=k) for k, pair in enumerate(values)), directions=("minimize", "minimize"))
    files = write_report(study, tmp_path, ["val_loss", "latency_ms"])
    text = Page((tmp_path / "sweep.html").read_text(encoding="utf-8")).text
    assert "best trade-offs of val_loss, latency_ms 3 trials" in text
    listed = re.findall(r"Trial (\d) ?: val_loss (\d) ?, latency_ms (\d)", text)
    assert listed == [("0", "1", "9"), ("1", "2", "3"), ("3", "4", "1")]
    assert {file.name for file in files} >= {"sweep_front.png"}
    assert not (tmp_path / "sweep_history.png").exists()


def test_the_parameter_that_makes_the_value_is_the_most_important_one_whatever_diverged() -> None:
    trials = [trial(0.0, seed=k) for k in range(40)]
    for made in trials:
        made.values = [abs(np.log10(made.params["model.optimizer.lr"]) + 4)]
    trials[3].values = [1e6]
    shares = parameter_importances(study_of(*trials))
    assert next(iter(shares)) == "model.optimizer.lr"
    assert shares["model.optimizer.lr"] > 0.6
    assert parameter_importances(study_of(*trials)) == shares
    assert parameter_importances(study_of(*(trial(1.0, seed=k) for k in range(5)))) in ({}, dict.fromkeys(shares, 0.0))
