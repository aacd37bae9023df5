"""Several checkpoints as one file: its averages against numpy, and the safety of every checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cnn_lstm.data.targets import Direction, ForwardReturn, RealizedVolatility
from cnn_lstm.errors import CheckpointError, DataError, ResourceError
from cnn_lstm.inference.ensemble import Ensemble, combine, ensemble_from, model_from, write_ensemble
from cnn_lstm.inference.ensemble_module import for_trainer
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.checkpoints import forecaster_from, read_checkpoint, require_single
from cnn_lstm.model.contract import CHECKPOINT_KEY, state_digest
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import Classes, Gaussian, Mixture, Objective, Point, Qlike, Quantiles, SkewStudentT
from tests.fits import FEATURES, small_checkpoint, small_data, small_network, small_trainer
from tests.markets import market

MEMBERS = 3
X = torch.randn(70, 6, len(FEATURES), generator=torch.Generator().manual_seed(2))
OBJECTIVES: dict[str, tuple[Callable[[], Objective], dict[str, Any]]] = {
    "point": (Point, {}),
    "gaussian": (Gaussian, {"targets": [ForwardReturn(1), ForwardReturn(2)]}),
    "quantiles": (lambda: Quantiles([0.1, 0.5, 0.9]), {}),
    "QLIKE": (Qlike, {"targets": [RealizedVolatility(5), RealizedVolatility(3, log=True)]}),
    "skewed t": (SkewStudentT, {}),
    "classes": (lambda: Classes(3), {"targets": [Direction([-0.005, 0.005])]}),
}


def checkpoint(folder: Path, seed: int, objective: Objective | None = None, **data: Any) -> Path:
    """The checkpoint of a small fit of one epoch."""
    torch.manual_seed(seed)
    targets = len(data.get("targets", [0]))
    forecaster = Forecaster(small_network(), objective, n_targets=targets)
    return small_checkpoint(folder, forecaster, **data).rename(folder / f"seed_{seed}.ckpt")


@pytest.fixture(scope="module", params=OBJECTIVES.values(), ids=list(OBJECTIVES))
def members(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    objective, data = request.param
    folder = tmp_path_factory.mktemp("members")
    return [checkpoint(folder, seed, objective(), **data) for seed in range(MEMBERS)]


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("points")
    return [checkpoint(folder, seed) for seed in range(MEMBERS)]


@pytest.fixture(scope="module")
def written(points: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ensemble") / "ensemble.ckpt"
    write_ensemble(points, path)
    return path


def load(path: Path) -> ForecastModel | Ensemble:
    return model_from(read_checkpoint(path))


def loaded(paths: list[Path], folder: Path) -> Ensemble:
    write_ensemble(paths, folder / "ensemble.ckpt")
    return ensemble_from(read_checkpoint(folder / "ensemble.ckpt"))


# -- the average ---------------------------------------------------------------------------------------------------


def oracle(parts: list[dict[str, Any]], classes: int) -> dict[str, Any]:
    """The combined columns in numpy's double precision."""
    stacked = {name: np.stack([part[name].numpy().astype(np.float64) for part in parts]) for name in parts[0]}
    found = {name: values.mean(axis=0) for name, values in stacked.items()}
    if "df" in stacked:
        found["df"] = len(parts) / (1 / stacked["df"]).sum(axis=0)
    if classes:
        shares = np.stack([found[f"p{k}"] for k in range(classes)])
        found["y_pred"] = shares.argmax(axis=0)
        each = np.stack([stacked[f"p{k}"] for k in range(classes)], axis=1)  # (M, C, B, H)
        found["ensemble_std"] = np.take_along_axis(each, found["y_pred"][None, None], axis=1)[:, 0].std(axis=0)
        return found
    found["ensemble_std"] = stacked["y_pred"].std(axis=0)
    if "std" in stacked:
        second = (stacked["std"] ** 2 + stacked["y_pred"] ** 2).mean(axis=0)  # second moment of the mixture
        found["std"] = np.sqrt(second - stacked["y_pred"].mean(axis=0) ** 2)
    return found


def test_columns_are_the_averages_of_the_members(members: list[Path], tmp_path: Path) -> None:
    forecasters = [forecaster_from(read_checkpoint(path)) for path in members]
    with torch.inference_mode():
        parts = [forecaster.forecast(X).columns for forecaster in forecasters]
        found = loaded(members, tmp_path).forecast(X).columns
    wanted = oracle(parts, forecasters[0].objective.classes)
    assert list(found) == [*parts[0], "ensemble_std"]
    for name, values in found.items():
        assert values.dtype == torch.float32
        np.testing.assert_allclose(values, wanted[name], rtol=2e-4, atol=1e-6, err_msg=name)
    assert float(found["ensemble_std"].min()) > 0


def test_standard_deviation_is_that_of_the_mixture() -> None:
    """Draws from both members together have the combined mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    means, deviations = (1.0, -2.0), (0.5, 1.5)
    draws = torch.cat(
        [m + s * torch.randn(200_000, generator=generator) for m, s in zip(means, deviations, strict=True)]
    )
    parts = [
        {"y_pred": torch.full((1, 1), m), "std": torch.full((1, 1), s)} for m, s in zip(means, deviations, strict=True)
    ]
    found = combine(parts)
    assert float(found["y_pred"]) == pytest.approx(-0.5)
    assert float(found["std"]) == pytest.approx(float(draws.std()), rel=0.01)
    assert float(found["ensemble_std"]) == pytest.approx(1.5)


def test_a_mixture_of_mixtures_has_the_components_of_all_members(tmp_path: Path) -> None:
    """Its density is the mean of the members' densities, though component 0 of one member is not that of another."""
    paths = [checkpoint(tmp_path, seed, Mixture(2)) for seed in range(3)]
    members = [forecaster_from(read_checkpoint(path)).forecast(X).columns for path in paths]
    found = loaded(paths, tmp_path).forecast(X).columns
    numbers = range(6)
    names = [f"{name}_{k}" for name in ("weight", "mean", "std") for k in numbers]
    assert list(found) == ["y_pred", "std", "y_linear", *names, "ensemble_std"]

    def density(columns: dict[str, Tensor], components: int) -> Tensor:
        normals = (torch.distributions.Normal(columns[f"mean_{k}"], columns[f"std_{k}"]) for k in range(components))
        at = torch.full((len(X), 1), 0.004)
        return sum((columns[f"weight_{k}"] * n.log_prob(at).exp() for k, n in enumerate(normals)), start=0 * at)

    wanted = sum((density(part, 2) for part in members), start=torch.zeros(len(X), 1)) / 3
    torch.testing.assert_close(density(found, 6), wanted, rtol=1e-4, atol=1e-6)
    weights, means, spreads = (
        torch.stack([found[f"{name}_{k}"] for k in numbers]) for name in ("weight", "mean", "std")
    )
    mean = (weights * means).sum(dim=0)
    torch.testing.assert_close(found["y_pred"], mean, rtol=1e-4, atol=1e-6)
    variance = (weights * (spreads**2 + (means - mean) ** 2)).sum(dim=0)
    torch.testing.assert_close(found["std"], variance.sqrt(), rtol=1e-3, atol=1e-6)


def test_class_is_that_of_the_averaged_probabilities_not_of_a_vote() -> None:
    shares = [[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]]
    parts = [
        {"y_pred": torch.tensor([[float(p1 > p0)]]), "p0": torch.tensor([[p0]]), "p1": torch.tensor([[p1]])}
        for p0, p1 in shares
    ]
    found = combine(parts, classes=2)
    assert float(found["y_pred"]) == 1
    assert float(found["ensemble_std"]) == pytest.approx(np.std([0.4, 0.4, 0.9]))


def test_quantiles_stay_in_order(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path, seed, Quantiles([0.1, 0.5, 0.9])) for seed in range(2)]
    found = loaded(paths, tmp_path).forecast(X).columns
    assert bool(((found["q10"] <= found["q50"]) & (found["q50"] <= found["q90"])).all())
    assert torch.equal(found["y_pred"], found["q50"])


def test_one_checkpoint_twice_is_that_checkpoint(points: list[Path], tmp_path: Path) -> None:
    found = loaded([points[0], points[0]], tmp_path).forecast(X).columns
    assert torch.equal(found["y_pred"], forecaster_from(read_checkpoint(points[0])).forecast(X).columns["y_pred"])
    assert not found["ensemble_std"].any()


def test_embeddings_stand_side_by_side(points: list[Path], written: Path) -> None:
    members = [forecaster_from(read_checkpoint(path)) for path in points]
    assert torch.equal(load(written).encode(X), torch.cat([member.encode(X) for member in members], dim=1))
    forecast = load(written).forecast(X)
    assert torch.equal(forecast.embedding, torch.cat([member.forecast(X).embedding for member in members], dim=1))


def test_dropout_of_the_members_is_drawn_apart(points: list[Path], tmp_path: Path) -> None:
    ensemble = loaded([points[0], points[0]], tmp_path)
    single = forecaster_from(read_checkpoint(points[0]))
    found = ensemble.forecast(X, samples=4, seed=1).columns
    draws = [single.forecast(X, samples=4, seed=seed).columns for seed in (2, 3)]
    assert torch.equal(found["y_pred"], (draws[0]["y_pred"] + draws[1]["y_pred"]) / 2)
    wanted = ((draws[0]["mc_std"] ** 2 + draws[1]["mc_std"] ** 2) / 2).sqrt()
    torch.testing.assert_close(found["mc_std"], wanted)
    assert torch.equal(ensemble.forecast(X, samples=4, seed=1).columns["mc_std"], found["mc_std"])


# -- as one model --------------------------------------------------------------------------------------------------


def prices() -> pd.DataFrame:
    return market(60, symbols=("AAA", "CCC"))


def test_predictor_takes_it_like_one_model(points: list[Path], written: Path) -> None:
    found = Predictor.from_checkpoint(written).predict(prices())
    tables = [Predictor.from_checkpoint(path).predict(prices()) for path in points]
    assert [name for name in found.columns if name not in tables[0].columns] == ["ensemble_std"]
    np.testing.assert_allclose(found["y_pred"], np.mean([table["y_pred"] for table in tables], axis=0), rtol=1e-5)
    same = ["symbol", "as_of", "target_end", "target", "y_true", "y_last", "y_mean", "volatility", "scale"]
    pd.testing.assert_frame_equal(found[same], tables[0][same])
    width = MEMBERS * small_network().embedding_dim
    assert Predictor.from_checkpoint(written).encode(prices()).columns[-1] == f"e{width - 1}"


def test_bits_of_a_row_do_not_depend_on_the_others(written: Path) -> None:
    ensemble = load(written)
    with torch.inference_mode():
        whole = ensemble.forecast(X).columns
        single = [ensemble.forecast(X[k : k + 1]).columns for k in range(len(X))]
        empty = ensemble.forecast(X[:0]).columns
    for name, values in whole.items():
        assert torch.equal(torch.cat([part[name] for part in single]), values), name
        assert empty[name].shape == (0, 1)


def test_rows_of_a_data_module_are_those_of_its_table(written: Path, points: list[Path]) -> None:
    data = small_data(points[0].parent)
    data.setup()
    predictor = Predictor.from_checkpoint(written)
    table = predictor.predict_rows(data.panel, data.parts.test)
    whole = predictor.predict(data.source.load(None, None, None))
    kept = whole.merge(table[["symbol", "as_of"]], on=["symbol", "as_of"])
    assert len(table) == len(data.parts.test) > 0
    assert kept["y_pred"].tolist() == table["y_pred"].tolist()


def test_it_says_what_one_model_says(points: list[Path], written: Path) -> None:
    ensemble, single = load(written), load(points[0])
    assert ensemble.contract == replace(single.contract, calibration=None, members=ensemble.contract.members)
    digests = [read_checkpoint(path)[CHECKPOINT_KEY]["digest"] for path in points]
    assert ensemble.contract.members == digests
    assert ensemble.device == torch.device("cpu")
    assert not any(part.training for part in ensemble.modules())


def test_calibration_is_the_ensembles_own(points: list[Path], tmp_path: Path) -> None:
    content = torch.load(points[0], weights_only=True)
    assert content[CHECKPOINT_KEY]["calibration"]["scores"]
    write_ensemble(points, tmp_path / "none.ckpt")
    assert load(tmp_path / "none.ckpt").contract.calibration is None
    assert "lower_90" not in Predictor.from_checkpoint(tmp_path / "none.ckpt").predict(prices())
    own = Calibration(scores=[[-1.0, 0.0, 1.0]], typical_scale=[0.5])
    write_ensemble(points, tmp_path / "own.ckpt", own)
    assert load(tmp_path / "own.ckpt").contract.calibration == own
    assert "lower_90" in Predictor.from_checkpoint(tmp_path / "own.ckpt").predict(prices())


# -- in the hands of a trainer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_trainer_forecasts_the_bits_of_predictor(command: str, members: list[Path], tmp_path: Path) -> None:
    ensemble = for_trainer(loaded(members, tmp_path))
    predictor = Predictor(loaded(members, tmp_path))
    data, trainer = small_data(members[0].parent, targets=predictor.targets), small_trainer()
    options: dict[str, Any] = {"return_predictions": False} if command == "predict" else {"verbose": False}
    getattr(trainer, command)(ensemble, datamodule=data, **options)
    parts = {"validate": data.parts.validation, "test": data.parts.test, "predict": data.rows_to_predict()}
    rows = np.sort(parts[command])
    wanted = predictor.forecast_rows(data.panel, rows)
    assert ensemble.forecasts["row"].tolist() == rows.tolist()
    for name, values in wanted.items():
        assert torch.equal(ensemble.forecasts[name], values), name
    errors = (wanted["y_pred"] - data.panel.labels[torch.from_numpy(rows)]).double()
    logged = trainer.callback_metrics
    assert not any(name.endswith("loss") for name in logged)
    if command == "test" and not predictor.targets[0].classes:
        each = errors.square().mean(dim=0).sqrt()
        assert float(logged["test_rmse"]) == pytest.approx(float(each.mean()), rel=1e-5)
    assert ensemble.contract.members == predictor.forecaster.contract.members


def test_a_trainer_refuses_other_data(points: list[Path], tmp_path: Path) -> None:
    ensemble = for_trainer(loaded(points, tmp_path))
    with pytest.raises(CheckpointError, match=r"E436.*window: 6 -> 7"):
        small_trainer().test(ensemble, datamodule=small_data(points[0].parent, window=7), verbose=False)
    with pytest.raises(CheckpointError, match=r"E436.*is not untouched"):
        small_trainer().test(ensemble, datamodule=small_data(points[0].parent, end="2020-05-01"), verbose=False)
    changed = pd.read_csv(points[0].parent / "prices.csv")
    changed.assign(volume=changed["volume"] + 1).to_csv(tmp_path / "prices.csv", index=False)
    ensemble.refuse_other_prices = True
    with pytest.raises(DataError, match="E337"):
        small_trainer().test(ensemble, datamodule=small_data(tmp_path), verbose=False)


def test_called_it_gives_the_combined_columns(written: Path) -> None:
    ensemble = load(written)
    with torch.inference_mode():
        found, wanted = ensemble(X), ensemble.forecast(X).columns
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(found, wanted)


# -- what does not belong together ---------------------------------------------------------------------------------

STRANGERS: dict[str, tuple[dict[str, Any], str]] = {
    "recipe": ({"window": 7}, "recipe"),
    "targets": ({"targets": [ForwardReturn(2)]}, "target_names"),
    "objective": ({"objective": Gaussian()}, "objective"),
    "loss": ({"objective": Point("mae")}, "objective"),
    "data": ({"end": "2020-05-15"}, "fingerprint"),
}


@pytest.mark.parametrize(("change", "message"), STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers_are_refused(change: dict[str, Any], message: str, points: list[Path], tmp_path: Path) -> None:
    other = checkpoint(tmp_path, 9, **change)
    with pytest.raises(CheckpointError, match=rf"error\[E438\].*{message}") as caught:
        write_ensemble([points[0], points[1], other], tmp_path / "ensemble.ckpt")
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ensemble.ckpt").exists()


def test_members_may_differ_in_their_network(points: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = small_checkpoint(tmp_path, Forecaster(small_network(lstm_hidden=6, attention_heads=0)))
    found = loaded([points[0], other], tmp_path).forecast(X).columns["y_pred"]
    wanted = (
        sum(forecaster_from(read_checkpoint(path)).forecast(X).columns["y_pred"] for path in (points[0], other)) / 2
    )
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_are_refused(count: int, points: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="E438"):
        write_ensemble(points[:count], tmp_path / "ensemble.ckpt")


def test_an_ensemble_is_no_member(points: list[Path], written: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="E439"):
        write_ensemble([points[0], written], tmp_path / "ensemble.ckpt")


# -- safety --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"), [("https://example.org/a.ckpt", 416), ("missing.ckpt", 437), ("cut.ckpt", 414)]
)
def test_members_are_read_safely(name: str, code: int, points: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cut.ckpt").write_bytes(points[0].read_bytes()[:-100])
    path = name if "://" in name else tmp_path / name
    with pytest.raises(CheckpointError) as caught:
        write_ensemble([points[0], path], tmp_path / "ensemble.ckpt")
    assert caught.value.code == code


@pytest.mark.parametrize("share", [0.1, 0.9, 0.999])
def test_cut_ensemble_is_refused(share: float, written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError) as caught:
        Predictor.from_checkpoint(tmp_path / "cut.ckpt")
    assert caught.value.code == 414


def first_weight(content: dict[str, Any]) -> Tensor:
    weight: Tensor = content["state_dict"]["members.1.head.bias"]
    return weight


def renewed(content: dict[str, Any]) -> None:
    """Signs changed weights as an ensemble, but not as the member."""
    first_weight(content).add_(1e-3)
    content[CHECKPOINT_KEY]["digest"] = state_digest(content["state_dict"])


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], int]] = {
    "weight": (lambda c: first_weight(c).add_(1e-6), 414),
    "weight, digest renewed": (renewed, 414),
    "no member's digest": (lambda c: c[CHECKPOINT_KEY]["members"].pop(), 417),
    "no digests": (lambda c: c[CHECKPOINT_KEY].pop("members"), 417),
    "no members": (lambda c: c["hyper_parameters"].update(members=[]), 417),
    "members no list": (lambda c: c["hyper_parameters"].update(members={"0": {}}), 417),
    "member no mapping": (lambda c: c["hyper_parameters"].update(members=[None] * MEMBERS), 417),
    "member without network": (lambda c: c["hyper_parameters"]["members"][1].pop("network"), 417),
    "member of another width": (
        lambda c: c["hyper_parameters"]["members"][1]["network"]["init_args"].update(lstm_hidden=8),
        423,
    ),
    "untrusted class": (
        lambda c: c["hyper_parameters"]["members"][1]["network"].update(class_path="antigravity.Evil"),
        416,
    ),
    "format": (lambda c: c[CHECKPOINT_KEY].update(format=99), 417),
    "foreign": (lambda c: c.pop(CHECKPOINT_KEY), 415),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES.keys())
def test_inconsistent_ensemble_is_refused(
    change: Callable[[dict[str, Any]], Any], code: int, written: Path, tmp_path: Path
) -> None:
    content = torch.load(written, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "edited.ckpt")
    with pytest.raises(CheckpointError) as caught:
        Predictor.from_checkpoint(tmp_path / "edited.ckpt")
    assert caught.value.code == code


def test_pickled_code_is_refused(written: Path, tmp_path: Path) -> None:
    torch.save(torch.load(written, weights_only=True) | {"extra": Path("x")}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="pickled objects"):
        Predictor.from_checkpoint(tmp_path / "evil.ckpt")


def test_a_single_forecaster_is_not_made_of_it(written: Path) -> None:
    with pytest.raises(CheckpointError, match="E439"):
        forecaster_from(read_checkpoint(written))
    with pytest.raises(CheckpointError, match=r"ensemble\.ckpt"):
        require_single(read_checkpoint(written), written)


def test_old_file_stays_when_the_new_one_cannot_be_written(
    points: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ensemble.ckpt"
    write_ensemble(points[:2], path)
    before = path.read_bytes()

    def full(content: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ResourceError):
        write_ensemble(points, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ensemble.ckpt"]
