"""The rules of a roll, without any training: its dates, who wins, when a champion is stale, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.predictions import TargetInfo, set_target_infos
from cnn_lstm.data.splits import Boundaries
from cnn_lstm.data.targets import Floats, ForwardReturn
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.service.champion_health import REFERENCE_DATES, champion_health
from cnn_lstm.service.contest import Contest, Decision, contests, decide, known_by
from cnn_lstm.service.health import Health
from cnn_lstm.service.roll_plan import Plan, Words, expiry_of, next_date, steps_due
from tests.markets import days

GRID = days(700).tz_localize(None).to_numpy().astype("datetime64[us]")
PLAN = Plan("3mo", "2mo", "1mo", "2011-01-15", None, 60, warm_start=False)
SETTINGS = Evaluation(resamples=200)
HORIZON = 2
FINE, STALE = Health("fine", []), Health("stale", ["it is"])


# -- dates -----------------------------------------------------------------------------------------------------------


def test_each_step_trains_before_what_it_is_judged_on_and_serves_after_it() -> None:
    steps = steps_due(PLAN, GRID)
    assert [str(step.date)[:10] for step in steps[:3]] == ["2011-01-15", "2011-04-15", "2011-07-15"]
    for step, following in pairwise(steps):
        assert step.validation < step.judged_from < step.date < step.stop == following.date
        edges = step.split_until_date().boundaries(GRID)
        assert (edges.test, edges.end) == (step.judged_from, step.date)
        # what the next challenger is judged on, no model before it knew
        assert following.judged_from >= step.judged_from
    assert steps[-1].stop > GRID[-1]


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, every="40 bars", judge_on="35bars", grace="20bars")])
def test_more_prices_move_no_step(plan: Plan) -> None:
    whole = steps_due(plan, GRID)
    for last in (330, 400, 555):
        some = steps_due(plan, GRID[:last])
        assert some[:-1] == whole[: len(some) - 1]
        assert replace(some[-1], stop=whole[len(some) - 1].stop) == whole[len(some) - 1]
        for step in some:
            assert step.date <= GRID[last - 1]
            assert expiry_of(plan, step, GRID[:last]) == expiry_of(plan, step, GRID)


def test_a_champion_lives_until_the_next_step_and_its_grace() -> None:
    step = steps_due(PLAN, GRID)[0]
    assert str(expiry_of(PLAN, step, GRID))[:10] == "2011-05-15"
    assert str(next_date(PLAN, step, GRID))[:10] == "2011-04-15"


def test_the_walk_ends_where_the_user_says() -> None:
    steps = steps_due(PLAN, GRID, np.datetime64("2011-05-01"))
    assert len(steps) == 2
    assert str(steps[-1].stop)[:10] == "2011-05-01"


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (replace(PLAN, first="2019-01-01"), "no step is due"),
        (replace(PLAN, first="2010-03-01"), "no date is left to train on"),
        (replace(PLAN, validation_dates=500), "500 dates of validation"),
    ],
)
def test_dates_that_cannot_be(plan: Plan, message: str) -> None:
    with pytest.raises(ConfigError, match=f"E237.*{message}"):
        steps_due(plan, GRID)


def test_words_become_a_plan_that_other_words_do_not_fit(tmp_path: Path) -> None:
    edges = Boundaries(GRID[0], GRID[100], GRID[160], GRID[-1])
    plan = Plan.of(Words(every="3mo"), edges, GRID)
    assert (plan.judge_on, plan.grace, plan.validation_dates, plan.train) == ("3 months", "3 months", 60, None)
    assert plan.first == str(GRID[160])
    plan.require_same(Words(), tmp_path)
    plan.require_same(Words(every="3 months", judge_on="3mo"), tmp_path)
    for words in (Words(every="4mo"), Words(first="2012-01-01"), Words(warm_start=True), Words(grace="1d")):
        with pytest.raises(ConfigError, match=r"E242.*begun with another"):
            plan.require_same(words, tmp_path)
    with pytest.raises(ConfigError, match=r"E236.*how often"):
        Plan.of(Words(), edges, GRID)


# -- who wins --------------------------------------------------------------------------------------------------------


def table(error: Callable[[Floats], Floats], dates: int = 80, **columns: float) -> pd.DataFrame:
    """Forecasts of one symbol whose errors are a function of noise, with their outcomes."""
    random = np.random.default_rng(0)
    truth, noise = random.normal(0, 0.01, dates), random.normal(0, 0.01, dates)
    about = TargetInfo.of(ForwardReturn(HORIZON, delay=0))
    frame = pd.DataFrame(
        {
            "symbol": "AAA",
            "as_of": days(dates),
            "target_end": [*days(dates)[HORIZON:], *[pd.NaT] * HORIZON],
            "target": "return_2",
            "y_true": truth,
            "y_pred": truth + error(noise),
            "volatility": 0.01 + 0.001 * random.random(dates),
            **columns,
        }
    )
    frame.loc[frame["target_end"].isna(), "y_true"] = np.nan
    set_target_infos(frame, {"return_2": about})
    return frame


LATE = np.datetime64("2030-01-01")
GOOD, BAD = table(lambda noise: 0.5 * noise), table(lambda noise: noise)
ODD = table(lambda noise: np.roll(noise, 7))


def test_the_better_one_wins_and_luck_does_not() -> None:
    won, lost, tied = (contests(*pair, LATE, SETTINGS)["return_2"] for pair in ((GOOD, BAD), (BAD, GOOD), (ODD, BAD)))
    assert (won.wins, won.loses) == (True, False)
    assert (lost.wins, lost.loses) == (False, True)
    assert (tied.wins, tied.loses) == (False, False)
    assert (won.rows, won.dates) == (78, 78)
    assert won.challenger == pytest.approx(((GOOD["y_pred"] - GOOD["y_true"]) ** 2).mean())
    assert won.skill == pytest.approx(1 - won.challenger / won.champion)


def test_what_was_not_known_yet_does_not_count() -> None:
    """Outcomes at or after the date of the step are changed beyond recognition: the contest is the same."""
    date = np.datetime64("2010-03-15")
    before = contests(GOOD, BAD, date, SETTINGS)
    later = []
    for one in (GOOD, BAD):
        changed = one.copy()
        changed.loc[changed["target_end"] >= pd.Timestamp(date, tz="UTC"), ["y_true", "y_pred"]] = [1e3, -1e3]
        later.append(changed)
    assert contests(later[0], later[1], date, SETTINGS) == before
    assert known_by(GOOD, date)["target_end"].max() < pd.Timestamp(date, tz="UTC")
    assert contests(later[0], later[1], LATE, SETTINGS) != before


def test_too_few_dates_are_no_evidence() -> None:
    pair = [table(of, dates=25) for of in (lambda noise: 0.1 * noise, lambda noise: 3 * noise)]
    contest = contests(pair[0], pair[1], LATE, SETTINGS)["return_2"]
    assert contest.dm_p < 0.05
    assert (contest.wins, contest.loses) == (False, False)


def contest(wins: bool = False, loses: bool = False) -> Contest:
    return Contest("squared error", 100, 50, 1.0, 0.9, 0.1, 0.5, 0.5, wins, loses)


@pytest.mark.parametrize(
    ("targets", "health", "promoted"),
    [
        ([contest()], FINE, False),
        ([contest()], STALE, True),
        ([contest(wins=True)], FINE, True),
        ([contest(loses=True)], STALE, False),
        ([contest(wins=True), contest(loses=True)], STALE, False),
        ([contest(wins=True), contest()], FINE, True),
    ],
)
def test_who_is_promoted(targets: list[Contest], health: Health, promoted: bool) -> None:
    named = {f"t{k}": one for k, one in enumerate(targets)}
    decision = decide(4, LATE, GRID[0], 2, named, health)
    assert decision.promoted == promoted
    assert decision.champion == (4 if promoted else 2)


def test_a_decision_is_read_as_it_was_written_and_damage_is_named(tmp_path: Path) -> None:
    decision = decide(4, LATE, GRID[0], 2, contests(GOOD, BAD, LATE, SETTINGS), STALE)
    decision.write(tmp_path)
    assert Decision.read(tmp_path, 4) == decision
    assert Decision.read(tmp_path, 3) is None
    file = tmp_path / "decisions/step_4.json"
    text = file.read_text()
    for damaged in (text.replace("true", "false", 1), text[:50], "{}", "[]"):
        file.write_text(damaged)
        with pytest.raises(DataError, match="E339"):
            Decision.read(tmp_path, 4)


# -- its health ------------------------------------------------------------------------------------------------------


def in_service(broken_from: int | None, dates: int = 260) -> pd.DataFrame:
    """A model with a lead over `zero`, which turns at a date."""
    error = np.full(dates, 0.4)
    if broken_from is not None:
        error[broken_from:] = 2.0
    return table(lambda noise: error * noise, dates, y_zero=0.0)


def test_a_champion_that_broke_is_stale_and_the_future_does_not_say_so() -> None:
    begin, broken = GRID[0], REFERENCE_DATES + 40
    frame = in_service(broken)
    assert champion_health(frame, begin, GRID[broken + 60]).verdict == "stale"
    assert champion_health(frame, begin, GRID[broken]).verdict == "fine"
    assert champion_health(in_service(None), begin, LATE).verdict == "fine"
    assert champion_health(frame, begin, GRID[1]).verdict == "watch"  # nothing is known yet


def test_dates_that_chose_it_are_left_out() -> None:
    frame = in_service(None)
    flattering = frame.copy()
    early = flattering["as_of"] < pd.Timestamp(GRID[60], tz="UTC")
    flattering.loc[early, "y_pred"] = flattering.loc[early, "y_true"]
    flattering.attrs = frame.attrs
    found, wanted = (champion_health(one, GRID[60], LATE).reasons for one in (flattering, frame))
    assert found == wanted != champion_health(flattering, GRID[0], LATE).reasons
