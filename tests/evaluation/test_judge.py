"""`test` through the command line: verdict first, five files, and every number from the predictions alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.bounded import without_checksum
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.evaluation import judge
from cnn_lstm.evaluation.json_types import CheckRecord
from cnn_lstm.evaluation.ledger import FILE
from cnn_lstm.evaluation.model_info import leakage_checks
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.text import render_report
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from tests import experiments
from tests.experiments import spec
from tests.fits import small_data, small_network
from tests.markets import market

FILES = ("predictions.parquet", "test.txt", "model_info.json", "report.html", "report.json")
VERDICTS = ("EVIDENCE OF SKILL: ", "NO EVIDENCE OF SKILL: ")
QUICK = {"resamples": 100}
Report = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A run folder, and what `test` printed."""

    run: Path
    printed: str

    @property
    def report(self) -> Report:
        target_report: Report = json.loads((self.run / "report.json").read_text())
        return target_report

    @property
    def info(self) -> dict[str, Any]:
        target_report: dict[str, Any] = json.loads((self.run / "model_info.json").read_text())
        return target_report

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.run / "predictions.parquet")


def judged(capsys: pytest.CaptureFixture[str], run: Path, *arguments: object) -> Judged:
    capsys.readouterr()
    assert experiments.run("test", "--config", run / "config.yaml", "--ckpt_path", "best", *arguments) == 0
    return Judged(run, capsys.readouterr().out)


def only(report: Report) -> dict[str, Any]:
    (target_report,) = report["targets"].values()
    return dict(target_report)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit on three symbols with gaps of a return over two days."""
    config = experiments.experiment(tmp_path_factory.mktemp("config"), market(260), evaluation=QUICK)
    return experiments.fit(config, tmp_path_factory.mktemp("runs") / "fitted")


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the run, whose test rows were never used."""
    return Path(shutil.copytree(fitted, tmp_path / "run"))


# -- the files ---------------------------------------------------------------------------------------------------------


def test_five_files_and_the_verdict_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name for path in run.iterdir()}
    done = judged(capsys, run)
    assert {path.name for path in run.iterdir()} - before == {*FILES, "test_metrics.json", "attention_test.png"}
    assert done.printed.startswith(VERDICTS)
    assert done.printed.startswith((run / "test.txt").read_text())
    assert str(run / "report.html") in done.printed
    page = (run / "report.html").read_text()
    assert only(done.report)["verdict"] in page
    assert evaluate(done.table) == done.report
    text = (run / "test.txt").read_text()
    assert text == render_report(done.report) + "\nThe test rows were used once, by this model: an untouched test.\n"
    assert done.table.attrs["trials"] == 1
    assert done.table.attrs["failed_checks"] == []
    assert [check["outcome"] for check in done.info["leakage"]].count("failed") == 0
    assert done.info["test_rows_used"] == {"times": 1, "models": 1}


def test_a_second_test_has_the_same_report_and_says_that_it_is_the_second(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = judged(capsys, run)
    report, table = first.report, first.table
    assert "The test rows were used once, by this model: an untouched test.\n" in first.printed
    second = judged(capsys, run)
    assert "The test rows were used 2 times by 1 model. " in second.printed
    assert second.report == report
    pd.testing.assert_frame_equal(second.table, table)
    assert second.info["test_rows_used"] == {"times": 2, "models": 1}
    assert len((run.parent / FILE).read_text().splitlines()) == 2


def test_other_models_on_the_same_rows_are_trials(run: Path, fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = only(judged(capsys, run).report)["strategy"]
    uses = (run.parent / FILE).read_text()
    use = without_checksum(json.loads(uses))
    others = [json.dumps(use | {"model": name}) + "\n" for name in ("a", "b", "c")]  # as older versions write them
    (run.parent / FILE).write_text(uses + "".join(others))
    done = judged(capsys, run)
    assert "The test rows were used 5 times by 4 models. " in done.printed
    after = only(done.report)["strategy"]
    assert (alone["trials"], after["trials"], done.table.attrs["trials"]) == (1, 4, 4)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_costs_change_the_strategy_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = only(judged(capsys, run).report)
    free = only(judged(capsys, run, "--evaluation.fee_bp", 0, "--evaluation.half_spread_bp", 0).report)
    costly, costless = before.pop("strategy"), free.pop("strategy")
    assert free == before
    assert (costly["cost_bp"], costless["cost_bp"]) == (10.0, 0.0)
    assert costless["net_annual_return"] == costless["gross_annual_return"] == costly["gross_annual_return"]
    assert costly["net_annual_return"] < costless["net_annual_return"]
    assert costly["break_even_cost_bp"] == costless["break_even_cost_bp"]


def test_trials_deflate_the_sharpe_ratio_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = judged(capsys, run)
    few = only(before.report)
    done = judged(capsys, run, "--evaluation.trials", 20)
    many = only(done.report)
    assert (few["strategy"].pop("trials"), many["strategy"].pop("trials")) == (1, 20)
    assert (few["selection"].pop("trials"), many["selection"].pop("trials")) == (1, 20)
    once, deflated = few["strategy"].pop("dsr"), many["strategy"].pop("dsr")
    assert deflated < once == few["strategy"]["psr"]
    assert many == few
    assert (done.report["settings"]["trials"], done.table.attrs["trials"]) == (20, 20)
    assert "for the best of 20\n" in done.printed


def test_the_choice_of_a_sweep_is_printed_and_changes_no_verdict(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = only(judged(capsys, run).report)
    (target,) = judged(capsys, run).report["targets"]
    done = judged(capsys, run, "--evaluation.spa", f"{{{target}: 0.25}}", "--evaluation.trials", 20)
    target_report = only(done.report)
    assert target_report["selection"] == {"trials": 20, "spa_p": 0.25}
    assert (target_report["verdict"], target_report["reason"]) == (before["verdict"], before["reason"])
    assert "best of 20 trials of a sweep" in done.printed
    assert "in about 25 of 100 sweeps (SPA test)" in done.printed


@pytest.mark.parametrize(
    ("name", "value"), [("level", 2), ("resamples", 10), ("season", 0), ("position", "up"), ("fee_bp", -1)]
)
def test_a_wrong_setting_is_refused_in_one_line(
    fitted: Path, capsys: pytest.CaptureFixture[str], name: str, value: object
) -> None:
    capsys.readouterr()
    arguments = ["test", "--config", fitted / "config.yaml", "--ckpt_path", "best", f"--evaluation.{name}", value]
    assert experiments.run(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert f"evaluation.{name}" in line
    assert not (fitted / "report.json").exists()


def test_settings_of_the_configuration_are_kept_in_table_and_report(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--evaluation.level", 0.01, "--evaluation.seed", 3, "--evaluation.season", 7]
    done = judged(capsys, run, *arguments)
    expected = {"level": 0.01, "seed": 3, "season": 7, "resamples": 100}
    assert expected.items() <= done.report["settings"].items()
    assert done.table.attrs["settings"] == done.report["settings"]
    seasonal = done.table["y_seasonal"]
    assert (judged(capsys, run, "--evaluation.season", 3).table["y_seasonal"] != seasonal).any()


# -- objectives and targets --------------------------------------------------------------------------------------------


def objective(name: str, **arguments: Any) -> dict[str, Any]:
    return spec(f"cnn_lstm.model.objectives.{name}", **arguments)


def target(name: str, **arguments: Any) -> dict[str, Any]:
    return spec(f"cnn_lstm.data.targets.{name}", **arguments)


CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], dict[str, str]]] = {
    "classes": (
        [target("Direction", thresholds=[-0.004, 0.004])],
        objective("Classes", classes=3),
        {"direction_1": "log loss"},
    ),
    "quantiles": ([target("ForwardReturn")], objective("Quantiles"), {"return_1": "squared error"}),
    "volatilities": (
        [target("RealizedVolatility", horizon=3), target("RealizedVolatility", horizon=3, log=True)],
        objective("Qlike"),
        {"volatility_3": "QLIKE", "log_volatility_3": "QLIKE"},
    ),
    "skewed_t": ([target("ForwardReturn", horizon=2)], objective("SkewStudentT"), {"return_2": "squared error"}),
    "mixture": (
        [target("ForwardReturn")],
        objective("Mixture", components=2, loss="crps"),
        {"return_1": "squared error"},
    ),
    "two_targets": (
        [target("ForwardReturn"), target("RealizedVolatility", horizon=3, log=True)],
        objective("Gaussian"),
        {"return_1": "squared error", "log_volatility_3": "QLIKE"},
    ),
    "level": ([target("ForwardValue", column="close")], objective("Point"), {"close_1": "squared error"}),
}


@pytest.mark.parametrize("case", list(CASES))
def test_forecasts_of_each_objective_are_judged(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets, aim, losses = CASES[case]
    config = experiments.experiment(
        tmp_path, market(220), data={"targets": targets}, evaluation=QUICK, model={"objective": aim}
    )
    run = experiments.fit(config, tmp_path / "runs" / "run", "--trainer.max_epochs", 1)
    done = judged(capsys, run)
    assert evaluate(done.table) == done.report
    assert {name: target_report["loss"] for name, target_report in done.report["targets"].items()} == losses
    for target_report in done.report["targets"].values():
        assert target_report["left_out"] == 0
        assert target_report["symbols"] == 3
        assert set(target_report["intervals"]) == {"50", "80", "90", "95"}
        assert target_report["best_baseline"] in target_report["comparisons"]
        is_tested = target_report["kind"] == "return" and not case.startswith("level")
        assert list(target_report["tail_risk"]) == (
            [] if not is_tested else ["5"] if case == "quantiles" else ["1", "5"]
        )
        assert ("head" in target_report["distribution"]) == (case in ("skewed_t", "mixture", "two_targets"))
        assert (target_report["strategy"] is None) == (target_report["kind"] not in ("return", "class"))
    assert [check["kind"] for check in done.info["leakage"] if check["outcome"] == "failed"] == []
    assert done.printed.startswith(VERDICTS)
    assert done.printed.count("EVIDENCE OF SKILL: ") == len(losses)


def test_a_checkpoint_without_smearing_gets_it_from_its_own_forecasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"targets": [target("RealizedVolatility", horizon=3, log=True)]}
    config = experiments.experiment(tmp_path, market(260), data=data, evaluation=QUICK)
    run = experiments.fit(config, tmp_path / "runs" / "run", "--trainer.max_epochs", 1)
    wanted = only(judged(capsys, run).report)["forecasts"]["model"]["qlike"]
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    del checkpoint["cnn_lstm"]["calibration"]
    torch.save(checkpoint, run / "checkpoints/best.ckpt")
    target_report = only(judged(capsys, run).report)
    # a fit takes its training forecasts from weights that still change, this the finished ones
    assert target_report["forecasts"]["model"]["qlike"] == pytest.approx(wanted, rel=0.05)
    assert target_report["intervals"] == {}


def test_the_linear_part_has_a_variance_by_its_own_factor(tmp_path: Path) -> None:
    data = small_data(tmp_path, targets=[ForwardReturn(), RealizedVolatility(5, log=True)])
    data.setup()
    model = Forecaster(small_network(), n_targets=2).eval()
    model.contract = Contract.from_plain(data.contract())
    model.learn_statistics(data.statistics)
    table = Predictor(model).plain_rows(data.panel, data.parts.test)
    attrs = table.attrs
    table = table.assign(y_linear=0.9 * table["y_pred"])
    table.attrs = attrs
    scores = Calibration([[0.0], [0.0]], [1.0, 1.0], smearing=[1.0, 1.5], linear_smearing=[1.0, 1.2])
    result = judge.with_baselines(table, data, replace(model.contract, calibration=scores), Evaluation())
    volatilities = result[result["target"] == "log_volatility_5"]
    np.testing.assert_allclose(volatilities["variance_pred"], 1.5 * np.exp(2 * volatilities["y_pred"]))
    np.testing.assert_allclose(volatilities["variance_linear"], 1.2 * np.exp(2 * volatilities["y_linear"]))
    assert result.loc[result["target"] == "return_1", ["variance_pred", "variance_linear"]].isna().all(axis=None)


def test_few_dates_are_no_evidence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = judged(capsys, run, "--data.end", "2010-12-20")  # the checkpoint's dates decide where the test part begins
    target_report = only(done.report)
    assert target_report["dates"] < 30
    assert target_report["reason"].startswith(f"too few dates: {target_report['dates']}, at least 30 are needed; ")
    assert not target_report["evidence"]


# -- leakage and failure -----------------------------------------------------------------------------------------------


def test_a_failed_check_denies_evidence(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaks(*given: Any) -> list[CheckRecord]:
        checks = leakage_checks(*given)
        return [{**check, "outcome": "failed"} if check["kind"].startswith("L2") else check for check in checks]

    def skilful(table: pd.DataFrame, *_: Any) -> pd.DataFrame:
        known = baselines(table, *_)
        noise = np.random.default_rng(0).normal(0, 0.002, len(known))
        attrs = known.attrs
        known["y_pred"] = known["y_true"] + noise
        known.attrs = attrs
        return known

    baselines = judge.with_baselines
    monkeypatch.setattr(judge, "with_baselines", skilful)
    assert only(judged(capsys, run).report)["evidence"]
    monkeypatch.setattr("cnn_lstm.evaluation.model_info.leakage_checks", leaks)
    done = judged(capsys, run)
    assert done.printed.startswith("NO EVIDENCE OF SKILL: return_2\n  leakage found: L2 features that are not legit")
    assert not only(done.report)["evidence"]
    assert done.table.attrs["failed_checks"] == ["L2 features that are not legitimate"]
    assert evaluate(done.table) == done.report
    assert "NO EVIDENCE OF SKILL" in (run / "report.html").read_text()


@pytest.mark.parametrize("file", [1, 2, 3, 4, 5])
def test_an_end_between_files_leaves_each_whole_or_as_it_was(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: int
) -> None:
    """`repeat` takes report.json for the end of a test, so it has to be the last."""
    if file == 1:
        judged(capsys, run)
    whole = Path.replace
    count = 0

    def interrupted(partial: Path, path: Path) -> Path:
        nonlocal count
        if path.name in FILES:
            count += 1
            if count == file:
                raise KeyboardInterrupt
        return whole(partial, path)

    before = {name: (run / name).read_bytes() for name in FILES if (run / name).exists()}
    monkeypatch.setattr(Path, "replace", interrupted)
    assert experiments.run("test", "--config", run / "config.yaml", "--ckpt_path", "best") == 130
    monkeypatch.undo()
    assert not list(run.glob(".*partial"))
    there = [name for name in FILES if (run / name).exists()]
    if file == 1:
        assert {name: (run / name).read_bytes() for name in there} == before
    else:
        assert there == list(FILES[: file - 1])
        pd.read_parquet(run / "predictions.parquet")


# -- where a forecast comes from ---------------------------------------------------------------------------------------


def test_each_row_says_what_its_model_was_trained_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = judged(capsys, run)
    table = done.table
    split = done.info["split"]["train"]
    assert {f"{day:%Y-%m-%d}" for day in table["train_first"]} == {split["first"]}
    assert {f"{day:%Y-%m-%d}" for day in table["train_last"]} == {split["last"]}
    assert set(table["data_sha256"]) == {done.info["data"]["sha256"]}
    dates = ["--data.split.validation", "2010-09-20", "--data.split.test", "2010-11-25"]
    later = judged(capsys, run, "--data.split", "cnn_lstm.data.splits.DateSplit", *dates)  # of the same checkpoint
    assert later.table["as_of"].min() > table["as_of"].min()
    assert set(later.table["train_last"]) == set(table["train_last"])


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_changed_prices_are_a_warning_and_with_strict_an_error(
    command: str, run: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = market(260)
    table.loc[[5], "volume"] += 1.0
    table.to_parquet(tmp_path / "prices.parquet")
    arguments = [command, "--config", run / "config.yaml", "--ckpt_path", "best", "--same_prices"]
    source = ["--data.source.init_args.paths", tmp_path / "prices.parquet"]
    assert experiments.run(*arguments, "true") == 0
    capsys.readouterr()
    assert experiments.run(*arguments, "false", *source) == 0
    assert "warning: the prices are not those that the checkpoint was trained on" in capsys.readouterr().err
    assert experiments.run(*arguments, "true", *source) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith("error[E337]")
