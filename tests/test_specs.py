"""Objects that remember how they were built."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from cnn_lstm import specs
from cnn_lstm.errors import CheckpointError
from cnn_lstm.model.network import CNNLSTM, Backbone
from cnn_lstm.specs import Serializable, build, class_path, imported, is_trusted, plain, trust, trusted_packages


class Base(Serializable):
    def __init__(self, size: int, names: tuple[str, ...] = ("a",)) -> None:
        self.size, self.names = size, names


class Wider(Base):
    def __init__(self, extra: float = 2.0) -> None:
        super().__init__(size=int(extra))
        self.extra = extra


class Same(Base):
    pass


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "_trusted", {"cnn_lstm", "tests"})


def test_spec_holds_given_and_default_arguments_as_plain_values() -> None:
    assert Base(3).spec() == {"class_path": "tests.test_specs.Base", "init_args": {"size": 3, "names": ["a"]}}
    assert Base(3, ("b", "c")).spec()["init_args"]["names"] == ["b", "c"]


def test_subclass_records_its_own_arguments() -> None:
    assert Wider(extra=4.0).spec() == {"class_path": "tests.test_specs.Wider", "init_args": {"extra": 4.0}}


def test_subclass_without_a_constructor_records_the_inherited_one() -> None:
    assert Same(5).spec() == {"class_path": "tests.test_specs.Same", "init_args": {"size": 5, "names": ["a"]}}


def test_class_without_any_constructor_has_no_arguments() -> None:
    class Bare(Serializable):
        pass

    assert Bare().spec()["init_args"] == {}


def test_a_class_path_says_where_the_class_is_defined() -> None:
    assert class_path(imported("cnn_lstm.model.regressor.CNNLSTM")) == "cnn_lstm.model.network.CNNLSTM"
    assert imported("tests.test_specs.Base") is Base


def test_build_gives_an_equal_object() -> None:
    again = build(Wider(7.0).spec(), Base)
    assert type(again) is Wider
    assert (again.size, again.extra) == (7, 7.0)


def test_network_spec_names_every_argument() -> None:
    network = CNNLSTM(3, channels=[8], kernel_sizes=[2], pooling="mean")
    again = build(network.spec(), Backbone)
    assert again.spec() == network.spec()
    assert len(network.spec()["init_args"]) == 16


def test_wrong_arguments_fail_as_without_recording() -> None:
    with pytest.raises(TypeError, match="size"):
        Base(sizes=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"class_path": "os.system", "init_args": {"command": "true"}}, 416),
        ({"class_path": "cnn_lstm_evil.Thing", "init_args": {}}, 416),
        ({"class_path": "cnn_lstm.model.nowhere.Thing", "init_args": {}}, 417),
        ({"class_path": "cnn_lstm.model.network.Nothing", "init_args": {}}, 417),
        ({"class_path": "cnn_lstm.model.network.initialize", "init_args": {}}, 417),
        ({"class_path": "cnn_lstm.model.network.CNNLSTM", "init_args": {"n_features": 3}}, 417),
        ({"class_path": "tests.test_specs.Base", "init_args": {"sizes": 3}}, 417),
        ({"class_path": "tests.test_specs.Base", "init_args": {}}, 417),
        ({"class_path": "tests", "init_args": {}}, 417),
        ({"class_path": "tests.test_specs.Base"}, 417),
    ],
)
def test_a_spec_that_cannot_be_built_is_refused(spec: dict[str, Any], code: int) -> None:
    with pytest.raises(CheckpointError) as caught:
        build(spec, Base)
    assert (caught.value.exit_code, caught.value.code) == (4, code)


def test_spec_without_a_class_is_refused() -> None:
    with pytest.raises(CheckpointError):
        build({}, Base)


def test_untrusted_module_is_not_imported() -> None:
    assert "antigravity" not in sys.modules
    with pytest.raises(CheckpointError, match="--trust-imports antigravity"):
        build({"class_path": "antigravity.fly", "init_args": {}}, Base)
    assert "antigravity" not in sys.modules


def test_trust_is_by_whole_package_name() -> None:
    assert not is_trusted("mine.sub.Thing")
    trust("mine")
    assert is_trusted("mine.sub.Thing")
    assert not is_trusted("mine_too.Thing")
    assert trusted_packages() == {"cnn_lstm", "tests", "mine"}


def test_plain_keeps_kinds() -> None:
    value = {"a": (1, 2.5), "b": [True, None, "x"], "c": {"d": ()}}
    assert plain(value) == {"a": [1, 2.5], "b": [True, None, "x"], "c": {"d": []}}
    assert plain(True) is True


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", [lambda: 0], 1j])
def test_plain_refuses_anything_else(value: Any) -> None:
    with pytest.raises(TypeError, match="plain values only"):
        plain(value)
