"""What docs/service.md gives to schedulers is taken by them."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cnn_lstm import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "service.md"
TEXT = PAGE.read_text(encoding="utf-8")
CALL = re.compile(r"\.venv/bin/cnn-lstm ([a-z]+) runs/mine")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = []
    for text in blocks("ini"):
        name = re.findall(r"^# /etc/systemd/system/(\S+)$", text, re.MULTILINE)[0]
        text = re.sub(
            r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE
        )  # the folder of the example does not exist here
        (tmp_path / name).write_text(re.sub(r"^WorkingDirectory=.*$", "WorkingDirectory=/", text, flags=re.MULTILINE))
        units.append(str(tmp_path / name))
    assert len(units) == 2
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "cnn-lstm" in line or str(tmp_path) in line]
    assert (done.returncode, said) == (0, [])


def test_airflow_calls_the_commands_in_order() -> None:
    (text,) = blocks("py")
    tree = ast.parse(text)
    tasks = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "BashOperator" in ast.unparse(node.func)]
    given = [{word.arg: ast.unparse(word.value) for word in task.keywords} for task in tasks]
    assert [CALL.findall(words["bash_command"]) for words in given] == [["update"], ["monitor"]]
    assert ast.unparse(tree).endswith("update >> monitor")


def test_cron_calls_the_commands_in_order() -> None:
    (line,) = [line for line in "".join(blocks("text")).splitlines() if re.match(r"\d+ \d+ \* \* ", line)]
    assert CALL.findall(line) == ["update", "monitor"]
    assert line.count(" && ") == 2


def test_each_exit_code_of_an_update_is_explained() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE)
    named = {int(code) for row in rows for code in row.split(", ")}
    of_training = {errors.DivergedError.exit_code, errors.ValidityError.exit_code, errors.TrackingError.exit_code}
    kinds = {kind.exit_code for kind in errors.CnnLstmError.__subclasses__()} - of_training
    assert named == kinds | {0, 1, 130, 143}
