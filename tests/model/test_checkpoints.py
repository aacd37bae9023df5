"""A checkpoint alone is enough; a damaged, foreign or unsafe one is refused without running it."""

from __future__ import annotations

import importlib
import pickle
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnn_lstm.data.targets import Direction
from cnn_lstm.errors import CheckpointError
from cnn_lstm.inference.ensemble import model_from, write_ensemble
from cnn_lstm.model.checkpoints import candidates, forecaster_from, read_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY, Contract
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.model.objectives import Classes
from tests.fits import FEATURES, small_checkpoint, small_data, small_network, small_trainer

X = torch.randn(5, 6, len(FEATURES), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(small_network(norm="batch", dilations=[2]))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, fitted: Forecaster) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("fit"), fitted)


@pytest.fixture
def edited(written: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], Any]], Path]:
    """Writes the checkpoint with its content changed."""

    def edit(change: Callable[[dict[str, Any]], Any]) -> Path:
        content = torch.load(written, weights_only=True)
        change(content)
        torch.save(content, tmp_path / "edited.ckpt")
        return tmp_path / "edited.ckpt"

    return edit


def load(path: Path) -> ForecastModel:
    return forecaster_from(read_checkpoint(path))


# -- a whole one ---------------------------------------------------------------------------------------------------


def test_three_ways_of_loading_are_equal(written: Path, fitted: Forecaster) -> None:
    expected = fitted.eval()(X)["y_pred"]
    plain = torch.load(written, weights_only=True)
    assert set(plain["state_dict"]) == set(fitted.state_dict())
    for loaded in (Forecaster.load_from_checkpoint(written).eval(), load(written)):
        assert torch.equal(loaded(X)["y_pred"], expected)
        assert loaded.contract == fitted.contract


def test_loaded_forecaster_is_in_evaluation_mode(written: Path) -> None:
    assert not any(part.training for part in load(written).modules())


def test_checkpoint_says_what_it_needs(written: Path) -> None:
    ours = read_checkpoint(written)[CHECKPOINT_KEY]
    assert ours["recipe"]["features"] == FEATURES
    assert ours["recipe"]["window"] == 6
    assert ours["target_names"] == ["return_1"]
    assert ours["symbols"] == ["AAA", "BBB"]


def test_statistics_travel(written: Path, fitted: Forecaster) -> None:
    loaded = load(written)
    assert torch.equal(loaded.network.standardize.scale, fitted.network.standardize.scale)
    assert not torch.equal(loaded.network.standardize.scale, torch.ones(len(FEATURES)))
    assert torch.equal(loaded.y_scale, fitted.y_scale)


def test_class_weights_travel(tmp_path: Path) -> None:
    forecaster = Forecaster(small_network(), Classes(2, weighted=True))
    path = small_checkpoint(tmp_path, forecaster, targets=[Direction([0.005])])
    weights = load(path).objective.get_buffer("weights")
    assert torch.equal(weights, forecaster.objective.get_buffer("weights"))
    assert weights.shape == (1, 2)
    assert float(weights[0, 0]) != float(weights[0, 1])


@pytest.mark.parametrize("weighted", [True, False])
def test_sets_of_weighted_probabilities_are_warned_of(
    weighted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only those of earlier versions, whose checkpoints do not say their scaling; once, also of several members."""
    objective = Classes(2, weighted=weighted)
    path = small_checkpoint(tmp_path, Forecaster(small_network(), objective), targets=[Direction([0.005])])
    load(path)
    assert "W379" not in caplog.text
    content = torch.load(path, weights_only=True)
    del content[CHECKPOINT_KEY]["scaling"], content[CHECKPOINT_KEY]["per_symbol"]
    torch.save(content, path)
    for load_old in (load, Forecaster.load_from_checkpoint):
        caplog.clear()
        load_old(path)
        assert caplog.text.count("[W379]") == int(weighted)
    scores = Contract.of(content).calibration
    write_ensemble([path, path], tmp_path / "old.ckpt", calibration=scores)
    caplog.clear()
    model_from(read_checkpoint(tmp_path / "old.ckpt"))
    assert caplog.text.count("[W379]") == int(weighted)


def test_network_of_a_subclass_without_constructor_travels() -> None:
    """A subclass that overrides `forward` alone still knows how it was built."""

    class Louder(CNNLSTM):
        pass

    assert Louder(n_features=3, attention_heads=0).spec()["init_args"]["attention_heads"] == 0


def test_another_recipe_is_refused_on_resume(written: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="window: 6 -> 7") as caught:
        small_trainer(max_epochs=2).fit(
            Forecaster(small_network(dilations=[2])), datamodule=small_data(tmp_path, window=7), ckpt_path=written
        )
    assert caught.value.exit_code == 4


# -- missing ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://example.org/a.ckpt", "s3://bucket/a.ckpt", "file:///a.ckpt"])
def test_url_is_refused(url: str) -> None:
    with pytest.raises(CheckpointError, match="URL") as caught:
        read_checkpoint(url)
    assert caught.value.exit_code == 4


def test_missing_file_and_folder_list_candidates(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    for path in (tmp_path / "nothing.ckpt", tmp_path, tmp_path / "checkpoints"):
        with pytest.raises(CheckpointError, match=r"candidates: .*best\.ckpt") as caught:
            read_checkpoint(path)
        assert caught.value.exit_code == 4


def test_no_candidates(tmp_path: Path) -> None:
    (tmp_path / "only.ckpt").touch()
    assert candidates(tmp_path / "only.ckpt") == candidates(tmp_path / "no" / "where") == "train one with fit"


# -- damaged ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("filled", [False, True], ids=["truncated", "zero-filled"])
def test_cut_file_is_refused(written: Path, tmp_path: Path, share: float, filled: bool) -> None:
    whole = written.read_bytes()
    kept = int(share * len(whole))
    (tmp_path / "cut.ckpt").write_bytes(whole[:kept] + bytes(len(whole) - kept) * filled)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "cut.ckpt")
    assert caught.value.exit_code == 4


def _content(path: Path, name: str) -> range:
    """Where the bytes of a member of the archive lie in the file."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        info = next(info for info in archive.infolist() if info.filename.endswith(name))
        file.seek(info.header_offset + 26)
        names, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        start = info.header_offset + 30 + names + extra
        return range(start, start + info.file_size)


@pytest.mark.parametrize("part", ["whole file", "data.pkl", "data/0", "data/5"])
def test_flipped_bit_is_noticed_or_harmless(written: Path, tmp_path: Path, part: str) -> None:
    """Weights, hyperparameters and the recipe: a flip in any of them would forecast something else."""
    whole, whence = written.read_bytes(), random.Random(7)
    area = range(len(whole)) if part == "whole file" else _content(written, part)
    original = read_checkpoint(written)
    expected = forecaster_from(original)(X)["y_pred"]
    noticed = 0
    for _ in range(50):
        place = whence.choice(area)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << whence.randrange(8)
        (tmp_path / "flipped.ckpt").write_bytes(damaged)
        try:
            content = read_checkpoint(tmp_path / "flipped.ckpt")
        except CheckpointError:
            noticed += 1
            continue
        assert content["hyper_parameters"] == original["hyper_parameters"], place
        assert content[CHECKPOINT_KEY] == original[CHECKPOINT_KEY], place
        assert torch.equal(forecaster_from(content)(X)["y_pred"], expected), place
    assert noticed > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["state_dict"]["head.bias"].add_(1e-6),
        lambda c: c["state_dict"].pop("head.bias"),
        lambda c: c["state_dict"].update(extra=torch.zeros(1)),
        lambda c: c[CHECKPOINT_KEY].update(digest="0" * 64),
        lambda c: c[CHECKPOINT_KEY].pop("digest"),
        lambda c: c.pop("state_dict"),
        lambda c: c.pop("hyper_parameters"),
        lambda c: c["hyper_parameters"].pop("n_targets"),
        lambda c: c["hyper_parameters"]["network"].pop("init_args"),
        lambda c: c["hyper_parameters"]["network"]["init_args"].update(activation="velu"),
        lambda c: c["hyper_parameters"]["network"]["init_args"].update(lstm_hidden=8),
        lambda c: c["hyper_parameters"]["network"]["init_args"].update(lstm_hidden="8"),
        lambda c: c["hyper_parameters"]["network"]["init_args"].update(unknown=1),
        lambda c: c["hyper_parameters"].update(objective=c["hyper_parameters"]["network"]),
        lambda c: c[CHECKPOINT_KEY].update(format=99),
        lambda c: c.pop(CHECKPOINT_KEY),
    ],
    ids=range(16),
)
def test_inconsistent_content_is_refused(edited: Any, change: Callable[[dict[str, Any]], Any]) -> None:
    path = edited(change)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert caught.value.exit_code == 4


def test_lightning_refuses_changed_weights_too(edited: Any) -> None:
    path = edited(lambda c: c["state_dict"]["head.bias"].add_(1e-3))
    with pytest.raises(CheckpointError):
        Forecaster.load_from_checkpoint(path)


# -- foreign and unsafe ones ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"weights": torch.ones(2)}, [1, 2], torch.ones(3), {}])
def test_foreign_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not written by cnn_lstm") as caught:
        read_checkpoint(tmp_path / "foreign.ckpt")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"\x80\x04", b"PK\x03\x04" + bytes(100)])
def test_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rubbish.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "rubbish.ckpt")


class Touching:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("archive", [True, False])
def test_pickled_code_is_refused_and_not_run(written: Path, tmp_path: Path, archive: bool) -> None:
    content = torch.load(written, weights_only=True) | {"extra": Touching(tmp_path / "touched")}
    path = tmp_path / "evil.ckpt"
    if archive:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content["extra"]))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "touched").exists()
    torch.load(path, weights_only=False) if archive else pickle.loads(path.read_bytes())
    assert (tmp_path / "touched").exists()  # the trap was armed


@pytest.fixture
def foreign_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an importable module outside the trusted packages."""
    name = f"untrusted_{abs(hash(tmp_path))}"
    text = "from cnn_lstm.model.network import CNNLSTM\n\n\nclass Evil(CNNLSTM):\n    pass\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return name


@pytest.mark.parametrize("way", [load, Forecaster.load_from_checkpoint], ids=["ours", "lightning"])
def test_class_outside_the_trusted_packages_is_not_imported(edited: Any, foreign_module: str, way: Any) -> None:
    path = edited(lambda c: c["hyper_parameters"]["network"].update(class_path=f"{foreign_module}.Evil"))
    with pytest.raises(CheckpointError, match="trusted") as caught:
        way(path)
    assert caught.value.exit_code == 4
    assert foreign_module not in sys.modules
