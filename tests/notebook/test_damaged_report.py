"""A report and a result that were changed after the command that wrote them are not shown."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.errors import DataError
from cnn_lstm.notebook.report import TestReport
from cnn_lstm.notebook.several import Repeat

TEXT = '{"targets": {"return_1": {"skill": 0.5}}}'


def test_a_report_with_another_digit_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "predictions.parquet", pd.DataFrame({"x": [1.0]}), {"report.json": TEXT})
    (tmp_path / "report.json").write_text(TEXT)
    assert dict(TestReport.from_run(tmp_path).report) == {"targets": {"return_1": {"skill": 0.5}}}
    (tmp_path / "report.json").write_text(TEXT.replace("0.5", "0.9"))
    with pytest.raises(DataError, match=r"E339.*report\.json"):
        TestReport.from_run(tmp_path)


def test_a_result_of_seeds_with_another_digit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "repeat.json").write_text('{"seeds": [1, 2], "crc32": 5}')
    with pytest.raises(DataError, match=r"E339"):
        print(Repeat(tmp_path).result)
