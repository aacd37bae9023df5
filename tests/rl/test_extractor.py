"""The encoder inside five agents: its weights, its features, and what is left of both after training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from cnn_lstm.data.windows import complete_windows, cut_windows
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecast_model import INFERENCE_BATCH
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.rl.extractor import CNNLSTMExtractor
from tests.fits import price_file, small_checkpoint, small_network
from tests.rl.small_env import ALGORITHMS, Windows, agent, extractors

STEPS = 500


class Trained(NamedTuple):
    """A checkpoint, windows as its predictor cuts them, and what it makes of them."""

    checkpoint: Path
    windows: Windows
    embeddings: Windows
    state: dict[str, Tensor]


def cut(predictor: Predictor, prices: pd.DataFrame) -> Windows:
    recipe = predictor.recipe
    bound = recipe.bind_to(prices, predictor.targets)
    panel = bound.panel(bound.check(prices).table)
    rows = torch.from_numpy(complete_windows(panel, recipe.window))
    return cut_windows(panel.values, rows, recipe.window).numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("extractor")
    network = small_network(conv_dropout=0.5, lstm_dropout=0.5, attention_dropout=0.5, pooling="attention")
    checkpoint = small_checkpoint(folder, Forecaster(network))
    predictor, prices = Predictor.from_checkpoint(checkpoint), pd.read_csv(price_file(folder))
    prices = prices.rename(columns={"date": "timestamp"})
    prices["timestamp"] = pd.to_datetime(prices["timestamp"], utc=True)
    embeddings = predictor.encode(prices).filter(regex=r"^e\d").to_numpy()
    content = read_checkpoint(checkpoint)["state_dict"]
    state = {name: values for name, values in content.items() if name.startswith("network.")}
    return Trained(checkpoint, cut(predictor, prices), embeddings, state)


def weights(extractor: CNNLSTMExtractor) -> dict[str, Tensor]:
    """The network's tensors by the names of the checkpoint."""
    state, prefix = extractor.encoder.state_dict(), "members.0."
    return {name.removeprefix(prefix): v.clone() for name, v in state.items() if name.startswith(prefix)}


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def features(made: BaseAlgorithm, windows: Windows) -> dict[str, Windows]:
    with torch.no_grad():
        return {name: part(torch.from_numpy(windows)).numpy() for name, part in extractors(made).items()}


SHARED = [(name, share) for name in ALGORITHMS for share in ((True, False) if name != "DQN" else (None,))]


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "tuned"])
@pytest.mark.parametrize(("name", "share"), SHARED, ids=[f"{name}-{share}" for name, share in SHARED])
def test_weights_and_embeddings_equal_the_checkpoints(
    trained: Trained, name: str, share: bool | None, frozen: bool
) -> None:
    policy = {} if share is None else {"share_features_extractor": share}

    made = agent(name, trained.windows, policy=policy, checkpoint=str(trained.checkpoint), frozen=frozen)

    for extractor in extractors(made).values():
        assert_equal(weights(extractor), trained.state)
    made.policy.set_training_mode(True)  # as agents do for each update: neither dropout nor batch norm is switched on
    for actual in features(made, trained.windows).values():
        np.testing.assert_allclose(actual, trained.embeddings, rtol=0, atol=1e-6)
    # a batch of the predictor's size has its bits: they are the same kernels
    for actual in features(made, trained.windows[:INFERENCE_BATCH]).values():
        np.testing.assert_array_equal(actual, trained.embeddings[:INFERENCE_BATCH])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_training_leaves_frozen_weights_equal_to_the_bit(trained: Trained, name: str) -> None:
    made = agent(name, trained.windows, account=True, checkpoint=str(trained.checkpoint))
    before = {key: values.clone() for key, values in made.policy.state_dict().items()}

    made.learn(STEPS)

    assert made._n_updates > 5
    for extractor in extractors(made).values():
        assert_equal(weights(extractor), trained.state)
    after = made.policy.state_dict()
    assert [key for key in after if not torch.equal(after[key], before[key])], "the agent itself has not learnt"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_training_moves_tuned_weights_and_leaves_statistics(trained: Trained, name: str) -> None:
    made = agent(name, trained.windows, checkpoint=str(trained.checkpoint), frozen=False)

    made.learn(STEPS)

    parameters = {key for key, _ in extractors(made).popitem()[1].encoder.members[0].named_parameters()}
    for extractor in extractors(made).values():
        actual = weights(extractor)
        moved = {key for key in actual if not torch.equal(actual[key], trained.state[key])}
        # a bias in front of batch norm's fixed statistics, and the score of the pooling, may have no gradient
        assert parameters - {"network.pooling.score.bias"} <= moved
        assert moved <= parameters


def test_the_rest_of_a_dictionary_follows_the_embedding(trained: Trained) -> None:
    made = agent("PPO", trained.windows, account=True, checkpoint=str(trained.checkpoint))
    (extractor,) = {id(part): part for part in extractors(made).values()}.values()
    env, policy = made.get_env(), made.policy
    assert env is not None
    assert isinstance(policy, ActorCriticPolicy)
    start = env.reset()
    assert not isinstance(start, tuple)
    observation, _ = policy.obs_to_tensor(start)

    actual = policy.extract_features(observation)
    assert isinstance(actual, Tensor)

    assert extractor.features_dim == trained.embeddings.shape[1] + 2 + 3
    expected = np.concatenate([trained.embeddings[0], [0.25, -0.5], [1, 0, 0]]).astype(np.float32)
    np.testing.assert_allclose(actual.numpy()[0], expected, rtol=0, atol=1e-6)


def test_one_encoder_reads_the_windows_of_all_symbols(trained: Trained) -> None:
    pairs = np.stack([trained.windows[:10], trained.windows[10:20]], axis=1)  # (N, S, T, F)
    space = spaces.Box(-np.inf, np.inf, pairs.shape[1:], dtype=np.float32)

    actual = CNNLSTMExtractor(space, trained.checkpoint)(torch.from_numpy(pairs))

    expected = np.concatenate([trained.embeddings[:10], trained.embeddings[10:20]], axis=1)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-6)


def box(trained: Trained) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, trained.windows.shape[1:], dtype=np.float32)


def test_a_tuned_encoder_has_the_gradients_of_its_network(trained: Trained) -> None:
    extractor = CNNLSTMExtractor(box(trained), trained.checkpoint, frozen=False)
    network = Predictor.from_checkpoint(trained.checkpoint).forecaster.get_submodule("network")
    windows = torch.from_numpy(trained.windows[:5])

    extractor.train()(windows).square().sum().backward()
    network.eval()(windows).square().sum().backward()

    actual = dict(extractor.encoder.members[0].get_submodule("network").named_parameters())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(actual[name].grad, parameter.grad)


def test_recurrent_layers_train_without_their_dropout(tmp_path: Path, trained: Trained) -> None:
    checkpoint = small_checkpoint(tmp_path, Forecaster(small_network(lstm_layers=2, lstm_dropout=0.5)))
    tuned = CNNLSTMExtractor(box(trained), checkpoint, frozen=False).train()
    frozen = CNNLSTMExtractor(box(trained), checkpoint).train()
    windows = torch.from_numpy(trained.windows[:4])

    torch.testing.assert_close(tuned(windows), frozen(windows))
    # cuDNN has gradients only of a recurrent layer in training mode
    assert [part.training for part in tuned.modules() if isinstance(part, nn.RNNBase)] == [True]
    assert not any(part.training for part in frozen.modules() if part is not frozen)


def test_untrained_weights_keep_the_scaling(trained: Trained) -> None:
    extractor = CNNLSTMExtractor(box(trained), trained.checkpoint, frozen=False, pretrained=False)
    actual = weights(extractor)

    same = {name for name in actual if torch.equal(actual[name], trained.state[name])}

    assert {name for name in same if "standardize" in name} == {name for name in actual if "standardize" in name}
    assert not {"network.lstm.weight_ih_l0", "network.attention.project.weight"} & same


def test_a_frozen_encoder_follows_a_loaded_state(trained: Trained) -> None:
    one = CNNLSTMExtractor(box(trained), trained.checkpoint, pretrained=False)
    windows = torch.from_numpy(trained.windows)
    assert not np.allclose(one(windows).numpy(), trained.embeddings)

    one.load_state_dict(CNNLSTMExtractor(box(trained), trained.checkpoint).state_dict())

    np.testing.assert_allclose(one(windows).numpy(), trained.embeddings, rtol=0, atol=1e-6)
    assert list(one.parameters()) == []


def test_the_observation_space_stays_equal(trained: Trained) -> None:
    space = box(trained)

    CNNLSTMExtractor(space, trained.checkpoint)

    assert space == box(trained)
    assert gymnasium.spaces.utils.flatdim(space) == trained.windows[0].size
