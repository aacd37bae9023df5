"""The decision of the benchmark gate, on made-up seconds; nothing is timed."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.__main__ import machine_text, page
from tests.benchmarks.gate import ACCEPTED, BOUND, MEASURES, Acceptance, acceptances, refused, regressed

COMMITS = ["a" * 40, "b" * 40]
ONE = '[[accepted]]\nmeasure = "predict"\ncommit = "bbbbbbb"\nratio = 1.3\nwhy = "intervals"\n'


def seconds(predict: float) -> list[dict[str, float]]:
    return [dict.fromkeys(MEASURES, 1.0) | {"predict": predict * speed} for speed in (1.0, 2.0, 1.5, 1.0)]


@pytest.mark.parametrize(
    ("now", "slower"),
    [
        ([1.2, 1.2, 1.2, 1.2], True),
        ([1.2, 1.2, 1.2, 0.9], True),
        ([1.3, 1.3, 0.99, 0.98], False),  # half of the pairs: noise
        ([BOUND - 0.01] * 4, False),
        ([0.5] * 4, False),
    ],
)
def test_a_regression_is_large_and_in_most_pairs(now: list[float], slower: bool) -> None:
    assert regressed(now, [1.0] * 4)[1] is slower


def test_pairs_are_compared_and_not_means() -> None:
    """A machine that is four times slower for a while tells nothing."""
    assert regressed([1.0, 4.0, 1.0], [1.0, 4.0, 1.0]) == (1.0, False)


def test_a_slower_measure_is_refused_unless_it_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    before, accepted = seconds(1.0), acceptances(ONE)
    assert refused(before, before, [], COMMITS) == []
    assert refused(seconds(1.25), before, [], COMMITS) == ["predict"]
    assert refused(seconds(1.25), before, accepted, COMMITS) == []
    assert "accepted: intervals" in capsys.readouterr().out
    assert refused(seconds(1.4), before, accepted, COMMITS) == ["predict"]  # more than what was accepted
    assert refused(seconds(1.25), before, accepted, COMMITS[:1]) == ["predict"]  # of a commit before the base
    others = [dict(pair, **{MEASURES[0]: 1.25}) for pair in before]
    assert refused(others, before, accepted, COMMITS) == [MEASURES[0]]


@pytest.mark.parametrize(
    ("before", "after"),
    [('"predict"', '"sleep"'), ('"bbbbbbb"', '"b"'), ("1.3", "0.9"), ('"intervals"', '" "'), ("why =", "who =")],
)
def test_an_acceptance_is_complete(before: str, after: str) -> None:
    with pytest.raises(ValueError, match=ACCEPTED.name):
        acceptances(ONE.replace(before, after))


def test_the_file_of_the_repository_can_be_read() -> None:
    assert all(isinstance(one, Acceptance) for one in acceptances(ACCEPTED.read_text(encoding="utf-8")))


def test_the_page_of_a_run_says_where_it_was_and_what_was_missed() -> None:
    written = page(machine_text(), {"network": "9 ms (goal 8): NO\n"}, "missed a goal: network")
    assert "PyTorch" in written
    assert "missed a goal: network" in written
    assert "```text\n9 ms (goal 8): NO\n```" in written
    assert torch.cuda.is_available() or "nothing was run on CUDA" in written
