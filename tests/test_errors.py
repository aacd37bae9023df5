"""One line an error, one exit code a kind."""

from __future__ import annotations

import inspect
import pickle

import pytest

from cnn_lstm import errors
from cnn_lstm.errors import MAX_LINES, CheckpointError, CnnLstmError, ConfigError, DataError, Defect, DefectsError


def test_exit_codes_are_those_of_the_help() -> None:
    codes = {
        name: cls.exit_code
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, CnnLstmError)
    }
    assert codes == {
        "CnnLstmError": 1,
        "ConfigError": 2,
        "DataError": 3,
        "DefectsError": 3,
        "CheckpointError": 4,
        "DivergedError": 5,
        "ResourceError": 6,
        "TrackingError": 7,
        "ValidityError": 8,
    }


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DataError("what", "where", "fix", code=312), "error[E312]: what — where — fix"),
        (DataError("what", fix="fix", code=312), "error[E312]: what — fix"),
        (CheckpointError("what"), "error[E400]: what"),
    ],
)
def test_text_is_one_line(error: CnnLstmError, text: str) -> None:
    assert str(error) == text


def test_parts_stay_at_hand() -> None:
    error = ConfigError("what", "where", "fix", code=224)
    assert (error.what, error.where, error.fix, error.code) == ("what", "where", "fix", 224)
    assert isinstance(error, ValueError)  # parsers turn a ValueError of a constructor into a usage message


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("what", "where", "fix", code=224),
        DefectsError([Defect(310, "one", "here", "fix"), Defect(311, "two", "there", "fix")]),
        errors.error_of_line("error[E302]: 0 rows", 3, "repeat"),
        *(kind("what", "where") for kind in (DataError, CheckpointError, errors.ResourceError, errors.TrackingError)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_another_process_says_the_same(error: CnnLstmError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert again.exit_code == error.exit_code


def test_defects_are_reported_one_per_line() -> None:
    defects = [Defect(310 + k, f"what {k}", f"where {k}", "fix") for k in range(3)]
    error = DefectsError(defects)
    assert str(error).splitlines() == [f"error[E31{k}]: what {k} — where {k} — fix" for k in range(3)]
    assert (error.code, error.exit_code, error.defects) == (310, 3, tuple(defects))


@pytest.mark.parametrize("extra", [0, 1, 30])
def test_many_defects_are_counted(extra: int) -> None:
    lines = str(DefectsError([Defect(314, "w", "h", "f")] * (MAX_LINES + extra))).splitlines()
    if extra:
        assert lines[-1] == f"... {extra} more, {MAX_LINES + extra} in all"
    assert len(lines) == MAX_LINES + (extra > 0)
