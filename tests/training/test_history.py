"""The history of a run and its plot: what is read, what is drawn."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from cnn_lstm.errors import ConfigError, DataError, ResourceError
from cnn_lstm.training.history import read_history
from cnn_lstm.training.history_plot import draw_history, history_figure

STEPS = 10
VAL = [0.9, 0.7, 0.5, 0.6, 0.65]
LOSS, FIRST, SECOND, RATE, NORM, RATIO = range(6)


def rows_of(epoch: int, val: float, names: tuple[str, str] = ("mae", "rmse")) -> list[dict[str, float]]:
    """What Lightning writes of an epoch: the rate, gradient norms at two steps, validation, training."""
    begin, end = epoch * STEPS, epoch * STEPS + STEPS - 1
    return [
        {"step": begin, "lr-AdamW": 1e-3 * 0.5**epoch},
        {"step": begin + 4, "grad_norm": 1.0 + epoch},
        {"step": end, "grad_norm": 3.0 + epoch},
        {"epoch": epoch, "step": begin + 4, "train_loss_step": 9.0},
        {"epoch": epoch, "step": end, "val_loss": val, **{f"val_{name}": val / 2 for name in names}},
        {"epoch": epoch, "step": end, "train_loss": 0.5, **{f"train_{name}": 0.25 for name in names}},
    ]


def write(folder: Path, rows: Sequence[dict[str, float]], max_epochs: int = 5, **stopping: Any) -> Path:
    """A run folder with metrics.csv and config.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    stopping = {"monitor": "val_loss", "patience": 15, "mode": "min", "min_delta": 0.0, **stopping}
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"trainer": {"max_epochs": max_epochs}, "early_stopping": stopping})
    )
    return folder


def whole(
    folder: Path, losses: Sequence[float] = VAL, names: tuple[str, str] = ("mae", "rmse"), **options: Any
) -> Path:
    rows = [row for epoch, val in enumerate(losses) for row in rows_of(epoch, val, names)]
    return write(folder, rows, **options)


def figure_of(*runs: Path) -> Figure:
    return history_figure([read_history(run) for run in runs])


def curve(panel: Axes, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in panel.lines if line.get_label() == label]
    return list(np.asarray(line.get_xdata())), list(np.asarray(line.get_ydata()))


def curves(panel: Axes) -> list[list[float]]:
    """Values of all curves but the marks."""
    return [list(np.asarray(line.get_ydata())) for line in panel.lines if line.get_gid() is None]


def marks(panel: Axes, kind: str) -> list[float]:
    return [float(np.asarray(line.get_xdata())[0]) for line in panel.lines if line.get_gid() == kind]


def texts(figure: Figure) -> str:
    in_panels = [text.get_text() for panel in figure.axes for text in panel.texts]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    return "\n".join([figure.get_suptitle(), *in_panels, *legend])


# -- one run ---------------------------------------------------------------------------------------------------------


def test_panels_hold_the_metrics(tmp_path: Path) -> None:
    panels = figure_of(whole(tmp_path / "run")).axes
    epochs = [0, 1, 2, 3, 4]
    assert curve(panels[LOSS], "validation") == (epochs, VAL)
    assert curve(panels[LOSS], "training") == (epochs, [0.5] * 5)
    for panel in (panels[FIRST], panels[SECOND]):
        assert curve(panel, "validation") == (epochs, [value / 2 for value in VAL])
        assert curve(panel, "training") == (epochs, [0.25] * 5)
    (ratio,) = curves(panels[RATIO])
    assert ratio == pytest.approx([value / 0.5 for value in VAL])
    assert all(panel.get_title(loc="left") and panel.get_ylabel() for panel in panels)


def test_steps_lie_within_their_epochs(tmp_path: Path) -> None:
    history = read_history(whole(tmp_path / "run"))
    x, y = history.norms
    assert list(x) == pytest.approx([k + offset for k in range(5) for offset in (0.0, 0.5)])
    assert list(y) == [k + norm for k in range(5) for norm in (1.0, 3.0)]
    panels = history_figure([history]).axes
    assert curves(panels[NORM])[1] == [2.0, 3.0, 4.0, 5.0, 6.0]  # medians of the epochs
    assert panels[RATE].get_yscale() == "log"
    rates = [1e-3 * 0.5**k for k in range(5)]
    assert curves(panels[RATE]) == [pytest.approx([*rates, rates[-1]])]  # held until the end


def test_best_epoch_is_marked_in_each_panel(tmp_path: Path) -> None:
    figure = figure_of(whole(tmp_path / "run"))
    for panel in figure.axes:
        assert marks(panel, "best") == [2.0]
        assert marks(panel, "stop") == []
        assert "best: 2" in [text.get_text() for text in panel.texts]
    assert figure.get_suptitle() == "run: 5 of 5 epochs, lowest validation loss 0.5 in epoch 2"


@pytest.mark.parametrize(
    ("options", "stopped"),
    [
        ({"max_epochs": 30, "patience": 2}, True),
        ({"max_epochs": 30, "patience": 3}, False),  # killed, or still running
        ({"max_epochs": 5, "patience": 2}, False),
        ({"max_epochs": 30, "patience": 4, "min_delta": 0.5}, True),
        ({"max_epochs": 30, "patience": 3, "mode": "max"}, True),
        ({"max_epochs": 30, "patience": 2, "smoothing": 0.9}, False),
        ({"max_epochs": 30, "patience": 2, "monitor": "val_r2"}, False),
    ],
)
def test_early_stop_is_marked(tmp_path: Path, options: dict[str, Any], stopped: bool) -> None:
    figure = figure_of(whole(tmp_path / "run", **options))
    for panel in figure.axes:
        assert marks(panel, "stop") == ([4.5] if stopped else [])
    assert ("early stop" in texts(figure)) == stopped


def test_classes_show_accuracy(tmp_path: Path) -> None:
    panels = figure_of(whole(tmp_path / "run", names=("accuracy", "balanced_accuracy"))).axes
    assert [panel.get_title(loc="left") for panel in panels[1:3]] == ["Accuracy", "Balanced accuracy"]
    assert curve(panels[FIRST], "validation")[1] == [value / 2 for value in VAL]


def test_losses_below_zero_are_compared_by_their_difference(tmp_path: Path) -> None:
    panel = figure_of(whole(tmp_path / "run", losses=[0.2, -0.4])).axes[RATIO]
    assert panel.get_title(loc="left") == "Validation loss - training loss"
    assert curves(panel) == [pytest.approx([-0.3, -0.9])]


def test_resumed_run_counts_an_epoch_once(tmp_path: Path) -> None:
    rows = [*rows_of(0, 0.9), *rows_of(1, 0.1)[:5], *rows_of(1, 0.7), *rows_of(2, 0.8)]
    history = read_history(write(tmp_path / "run", rows))
    assert list(history.epochs) == [0, 1, 2]
    assert list(history.metrics["val_loss"]) == [0.9, 0.7, 0.8]
    assert history.best == 1
    assert len(history.norms[0]) == 6


def test_a_single_epoch_is_drawn(tmp_path: Path) -> None:
    target = tmp_path / "one.png"
    run = whole(tmp_path / "run", losses=[0.9])
    draw_history([run], target)
    assert imread(target).shape[:2] == (700, 1200)
    assert curve(figure_of(run).axes[LOSS], "validation") == ([0], [0.9])


def test_run_without_validation_or_settings_is_drawn(tmp_path: Path) -> None:
    run = write(
        tmp_path / "run", [{"epoch": 0, "step": 4, "train_loss": 0.5}, {"epoch": 1, "step": 9, "train_loss": 0.4}]
    )
    (run / "config.yaml").write_text("[")
    figure = figure_of(run)
    assert read_history(run).best is None
    assert figure.get_suptitle() == "run: 2 epochs"
    assert texts(figure).count("not logged") == 5


def test_row_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    run = whole(tmp_path / "run")
    with (run / "metrics.csv").open("a") as file:
        file.write("5,")
    assert list(read_history(run).epochs) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("style", ["validation", "training"])
def test_curves_differ_without_colours(tmp_path: Path, style: str) -> None:
    lines = {line.get_label(): line for line in figure_of(whole(tmp_path / "run")).axes[LOSS].lines}
    assert lines["validation"].get_linestyle() != lines["training"].get_linestyle()


# -- several runs ----------------------------------------------------------------------------------------------------


def test_comparison_shows_validation_curves_by_run(tmp_path: Path) -> None:
    first, second = whole(tmp_path / "a"), whole(tmp_path / "b", losses=[0.8, 0.4], max_epochs=9, patience=0)
    figure = figure_of(first, second)
    assert curves(figure.axes[LOSS]) == [VAL, [0.8, 0.4]]
    assert marks(figure.axes[LOSS], "best") == [2.0, 1.0]
    assert "a (best 0.5 in epoch 2)" in texts(figure)
    assert "b (best 0.4 in epoch 1)" in texts(figure)
    looks = {(line.get_color(), str(line.get_linestyle())) for line in figure.axes[LOSS].lines if not line.get_gid()}
    assert len(looks) == 2


def test_runs_of_one_name_are_numbered(tmp_path: Path) -> None:
    figure = figure_of(whole(tmp_path / "x/run"), whole(tmp_path / "y/run"))
    assert "run #1 (best" in texts(figure)
    assert "run #2 (best" in texts(figure)


# -- what cannot be drawn --------------------------------------------------------------------------------------------


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"E240.*no run folder"):
        read_history(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"E340.*no metrics.csv"):
        read_history(tmp_path / "empty")
    with pytest.raises(DataError, match=r"E341.*no epoch"):
        read_history(write(tmp_path / "begun", rows_of(0, 0.9)[:4]))
    run = whole(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"E224.*gif"):
        draw_history([run], tmp_path / "a.gif")
    with pytest.raises(ResourceError, match=r"E606.*cannot write the plot"):
        draw_history([run], tmp_path / "nowhere" / "a.png")


def test_drawing_needs_neither_torch_nor_matplotlib_to_begin() -> None:
    code = "import sys, cnn_lstm.training.history_plot as _; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_style_that_a_notebook_has_set_does_not_change_the_plot(tmp_path: Path) -> None:
    run = whole(tmp_path / "run")
    draw_history([run], tmp_path / "plain.png")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20}):
        draw_history([run], tmp_path / "styled.png")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "styled.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_a_drawing_that_is_interrupted_leaves_the_old_plot_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(figure: Figure, file: Path, **options: Any) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    run, target = whole(tmp_path / "run"), tmp_path / "history.png"
    target.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_history([run], target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.glob(".history*")) == []
