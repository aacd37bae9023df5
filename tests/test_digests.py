"""What a run wrote is kept apart from what was changed later; an edited file goes on to work."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
import yaml

from cnn_lstm.bounded import has_its_digest, with_digest, without_digest
from cnn_lstm.errors import DataError
from cnn_lstm.training.history import read_history
from cnn_lstm.training.loggers import AppendingCSVLogger
from cnn_lstm.training.row_checksums import RowChecksums
from tests.experiments import experiment, fit, run
from tests.markets import market

TEXT = "# lightning.pytorch==2.6.6\nseed_everything: 7\ndata:\n  window: 60\n  targets:\n  - horizon: 5\n"
CONFIG, METRICS = "[W383]", "[W384]"

# -- a text with its digest --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TEXT, "window: 60", "", "# alone\n", "---\nwindow: 60\n", "a: é\n"])
def test_a_text_keeps_its_values_its_first_line_and_its_digest(text: str) -> None:
    signed = with_digest(text)
    assert has_its_digest(signed)
    assert yaml.safe_load(signed) == yaml.safe_load(text)
    assert without_digest(signed) == text
    assert with_digest(signed) == signed
    assert without_digest(text) == text
    if text.startswith("#"):
        assert signed.splitlines()[0] == text.splitlines()[0]


def test_each_flip_and_cut_that_changes_a_value_is_seen_or_no_yaml() -> None:
    whole = with_digest(TEXT).encode()
    flips = [
        whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at in range(len(whole)) for bit in range(8)
    ]
    for content in flips + [whole[:at] for at in range(len(whole))]:
        try:
            text = content.decode().replace("\r", "\n")
            values = yaml.safe_load(text)
        except (UnicodeDecodeError, yaml.YAMLError):
            continue
        same = values == yaml.safe_load(TEXT)
        # a damaged `#` makes a key of the line, which no configuration has; nothing at all is none either
        refused = values is None or any("sha256" in str(key) or "lightning" in str(key) for key in values)
        assert same or refused or not has_its_digest(text), content


def test_line_ends_of_another_system_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(with_digest(TEXT).replace("\n", "\r\n").encode())
    assert has_its_digest((tmp_path / "config.yaml").read_text())


# -- config.yaml of a run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return fit(experiment(folder, market(150)), folder / "run", "--mlflow", "true")  # the record writes the file too


def count(caplog: pytest.LogCaptureFixture, code: str) -> int:
    return sum(record.getMessage().startswith(code) for record in caplog.records)


def test_a_config_of_a_run_that_was_edited_is_named_once_and_works(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = made / "config.yaml"
    whole = config.read_text()
    assert whole.startswith("# lightning.pytorch==")
    assert has_its_digest(whole)
    argv = ["predict", "--ckpt_path", "best", "--run_dir", str(tmp_path), "--config"]
    assert run(*argv, config) == 0
    assert count(caplog, CONFIG) == 0
    config.write_text(whole.replace("batch_size: 32", "batch_size: 16"))
    assert config.read_text() != whole
    assert run(*argv, config) == 0
    assert count(caplog, CONFIG) == 1
    assert str(config) in caplog.text
    without_line = "".join(line for line in config.read_text().splitlines(keepends=True) if "sha256" not in line)
    config.write_text(without_line)  # as the message says
    assert run(*argv, config) == 0
    assert count(caplog, CONFIG) == 1
    config.write_text(whole)


def test_a_run_that_goes_on_writes_the_digest_of_what_it_was_given(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = made / "config.yaml"
    config.write_text(config.read_text().replace("batch_size: 32", "batch_size: 16"))
    last = ["fit", "--config", config, "--ckpt_path", "last", "--trainer.max_epochs", 3]
    assert run(*last) == 0
    assert count(caplog, CONFIG) == 1
    assert has_its_digest(config.read_text())
    assert "batch_size: 16" in config.read_text()
    assert run("plot", made) == 0
    assert (count(caplog, CONFIG), count(caplog, METRICS)) == (1, 0)


# -- metrics.csv -------------------------------------------------------------------------------------------------------


def logged(folder: Path, epochs: int = 4) -> Path:
    """The table of a run that logs a metric more from its second epoch on."""
    logger = AppendingCSVLogger(folder, name="", version="")
    for epoch in range(epochs):
        more = {"val_r2": epoch / 7} if epoch else {}
        logger.log_metrics({"epoch": epoch, "train_loss": 1 / (epoch + 3)}, step=10 * epoch + 9)
        logger.log_metrics({"epoch": epoch, "val_loss": 0.1 + epoch / 3, **more}, step=10 * epoch + 9)
        logger.save()
    return folder / "metrics.csv"


def test_the_table_is_that_of_lightning_and_each_row_has_its_checksum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = logged(tmp_path)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert set(rows[0]) == {"epoch", "step", "train_loss", "val_loss", "val_r2"}
    checksums = RowChecksums(file)
    assert (checksums.changed(rows), checksums.missing(rows)) == ([], 0)
    read_history(tmp_path)
    assert not caplog.records


def test_each_damage_of_the_metrics_is_named_or_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = logged(tmp_path)
    whole, expected, chance = file.read_bytes(), read_history(tmp_path), random.Random(1)
    for number in range(300):
        at = chance.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ 1 << number % 8]) + whole[at + 1 :]
        file.write_bytes(whole[:at] if number % 4 == 0 else flipped)
        caplog.clear()
        try:
            found = read_history(tmp_path)
        except DataError:  # what is left holds no epoch
            continue
        same = {name: list(map(str, values)) for name, values in found.metrics.items()} == {
            name: list(map(str, values)) for name, values in expected.metrics.items()
        }
        assert same or count(caplog, METRICS) == 1, (number, at)


def test_the_lines_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = logged(tmp_path)
    lines = file.read_text().splitlines()
    lines[3] = lines[3].replace("0.", "1.", 1)
    file.write_text("\n".join(lines[:-1]) + "\n")
    read_history(tmp_path)
    assert f"{file}: line 4; 1 rows are missing" in caplog.text


def test_a_resume_names_changed_rows_and_goes_on_with_what_it_keeps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = logged(tmp_path)
    file.write_text(file.read_text().replace("0.25", "0.75", 1) + "3,39,")  # a torn row is not a changed one
    logger = AppendingCSVLogger(tmp_path, name="", version="")
    logger.experiment.forget_from(30)
    assert count(caplog, METRICS) == 1
    logger.log_metrics({"epoch": 3, "val_loss": 0.5}, step=39)
    logger.save()
    read_history(tmp_path)
    assert count(caplog, METRICS) == 1


def test_a_table_of_an_earlier_version_gets_no_checksums(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logged(tmp_path, 2)
    RowChecksums(tmp_path / "metrics.csv").file.unlink()
    logger = AppendingCSVLogger(tmp_path, name="", version="")
    logger.experiment.forget_from(15)
    logger.log_metrics({"epoch": 1, "val_loss": 0.5}, step=19)
    logger.save()
    read_history(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    assert not caplog.records


def test_checksums_after_a_write_that_was_cut_off_are_those_of_the_rows(tmp_path: Path) -> None:
    file = logged(tmp_path)
    checksums = RowChecksums(file)
    checksums.file.write_text(checksums.file.read_text() + "\n1a2b")
    row = {"epoch": "9", "step": "99", "val_loss": "0.5"}
    checksums.add([row], begin=False)
    assert checksums.changed([row]) == []
