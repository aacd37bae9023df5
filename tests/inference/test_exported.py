"""An export is opened whole, with its own description, or not at all."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import pytest

from cnn_lstm.bounded import CHECKSUM, with_checksum, without_checksum
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.inference.export import export
from cnn_lstm.inference.exported import described_by, read_export
from cnn_lstm.locks import take_file
from tests.fits import small_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def written(checkpoint: Path) -> tuple[bytes, bytes]:
    """A file and its description."""
    path = export(checkpoint, format="pt2").path
    return path.read_bytes(), described_by(path).read_bytes()


@pytest.fixture
def path(written: tuple[bytes, bytes], tmp_path: Path) -> Path:
    """An export of its own."""
    file = tmp_path / "model.pt2"
    file.write_bytes(written[0])
    described_by(file).write_bytes(written[1])
    return file


def test_an_export_is_read_with_its_description(path: Path) -> None:
    read = read_export(path)
    assert read.content == path.read_bytes()
    assert read.description == {
        name: value for name, value in json.loads(described_by(path).read_text()).items() if name != CHECKSUM
    }


@pytest.mark.parametrize("kind", ["file", "description"])
def test_every_flip_and_cut_is_refused_or_changes_nothing(kind: str, path: Path) -> None:
    """A flip of a blank between two values changes nothing."""
    file = path if kind == "file" else described_by(path)
    whole, expected, chance = file.read_bytes(), read_export(path), random.Random(kind)
    refused = 0
    for number in range(300):
        at = chance.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ 1 << number % 8]) + whole[at + 1 :]
        file.write_bytes(whole[:at] if number % 4 == 0 else flipped)
        try:
            found = read_export(path)
        except CheckpointError as error:
            refused += error.code == 414
        else:
            assert found == expected
    assert refused > 200


def test_the_description_of_another_export_is_refused(checkpoint: Path, path: Path) -> None:
    """As after a kill between the two files."""
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(CheckpointError, match=r"E414.*its description is of another file"):
        read_export(path)
    export(checkpoint, path, "pt2")  # as the message says
    assert read_export(path).content == path.read_bytes()


@pytest.mark.parametrize("missing", ["model.pt2", "model.pt2.json"])
def test_a_missing_file_is_named(missing: str, path: Path) -> None:
    path.with_name(missing).unlink()
    with pytest.raises(CheckpointError, match=f"E437.*{missing} "):
        read_export(path)


def test_an_export_of_an_older_version_is_read_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields = json.loads(described_by(path).read_text())
    described_by(path).write_text(json.dumps({name: fields[name] for name in ("features", "window")}))
    assert set(read_export(path).description) == {"features", "window"}
    assert "[W382] an export without a digest" in caplog.text


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "", "\0", " " * (11 << 20)])
def test_a_strange_description_is_one_line(text: str, path: Path) -> None:
    described_by(path).write_text(text)
    with pytest.raises(CheckpointError, match="E414"):
        read_export(path)


def test_a_name_of_the_checksum_that_is_damaged_is_no_older_version(path: Path) -> None:
    text = described_by(path).read_text()
    described_by(path).write_text(text.replace(CHECKSUM, "crc33"))
    with pytest.raises(CheckpointError, match=r"E414.*checksum"):
        read_export(path)


def test_an_export_holds_no_pickled_objects(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        configs = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith("config.json")]
    entries = [entry for config in configs for entry in config.get("config", {}).values()]
    assert entries
    assert not any(entry["use_pickle"] for entry in entries)


def test_a_second_writer_is_refused_and_the_pair_stays(checkpoint: Path, path: Path) -> None:
    before = read_export(path)
    with take_file(path, "export", "export"), pytest.raises(ConfigError, match=r"E288.*writes this export"):
        export(checkpoint, path, "pt2")
    assert read_export(path) == before


def test_a_checksum_under_another_name_is_not_that_of_an_older_version() -> None:
    fields = with_checksum({"kind": "resume", "at": 3})
    renamed = {name.replace("crc32", "crb32"): value for name, value in fields.items()}
    with pytest.raises(ValueError, match="name of the checksum"):
        without_checksum(renamed)
    assert without_checksum({"kind": "resume", "at": 3}) == {"kind": "resume", "at": 3}
    assert without_checksum({}) == {}
