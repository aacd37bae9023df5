"""The README and the guide: every command and Python block runs, every link, target, path and error code exists."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import yfinance
from _pytest.mark import ParameterSet

import cnn_lstm
from cnn_lstm import specs
from cnn_lstm.data.sources import SampleBars
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.yaml_guard import guard_parser, load_yaml
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.space import options_of
from tests.experiments import fit, run

ROOT = Path(__file__).resolve().parents[1]
# docs/reference/ is written by autodoc, docs/reports/ holds pages of HTML; tests/test_notebooks.py runs the notebooks
PAGES = [
    ROOT / "README.md",
    *sorted(page for part in ("*.md", "notebooks/*.md") for page in (ROOT / "docs").glob(part)),
]
OTHER_PAGES = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
QUIET = ["--mlflow", "false", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
SHORT = ["--trainer.log_every_n_steps", "1", "--trainer.limit_val_batches", "2", "--trainer.max_epochs", "1"]
FAST = [*QUIET, *SHORT, "--history_plot.enabled", "false"]
NEEDED = {  # packages that a page's Python needs and that are not everywhere
    "rl_extractor.md": ("gymnasium", "stable_baselines3"),
    "rl_torchrl.md": ("gymnasium", "stable_baselines3", "torchrl"),
}
AS_THEY_STAND = ("init", "judge", "update", "data", "plot", "sync-tracking", "encode", "export", "rl")
TRAINING = ("fit", "repeat", "walk-forward", "cross-validate", "roll", "sweep")
SMALLER = {"gpu": "cpu", "50": "2", "20": "2", "12": "2", "5": "2", "6": "3"}  # devices, epochs, folds, trials, groups
AGENTS = [
    *("--agent.steps", "16", "--agent.seeds", "[0]", "--agent.n_envs", "1"),
    *("--agent.arguments.n_steps", "16", "--agent.arguments.batch_size", "16"),
]
NO_DEVICES = {"--trainer.strategy", "--trainer.devices"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A line of a bash block, with the exit code that its comment names."""

    place: str
    page: Path
    argv: list[str]
    exit_code: int


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    matches = re.finditer(r"^```([^\s`]*)[^\n`]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]) for match in matches]


def blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def commands() -> Iterator[Command]:
    for block in blocks("bash"):
        for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
            argv = shlex.split(line, comments=True)
            if argv[:3] == ["python", "-m", "cnn_lstm"]:
                argv = argv[2:]
            if argv and argv[0] in ("cnn-lstm", "cnn_lstm"):
                exit_code = re.search(r"# exit code (\d)", line)
                place = f"{name_of(block.page)}:{number}"
                yield Command(place, block.page, argv[1:], int(exit_code[1]) if exit_code else 0)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


# -- what runs -------------------------------------------------------------------------------------------------------


def write_prices(folder: Path) -> None:
    """The files that the pages and the YAML under configs/ name."""
    (folder / "prices").mkdir()
    table = SampleBars().load(["IBM", "MSFT"], "2009-01-01", None)
    for symbol, bars in table.groupby("symbol"):
        bars = bars.assign(Date=bars["timestamp"].dt.strftime("%Y-%m-%d")).rename(columns={"close": "Close"})
        bars.drop(columns=["symbol", "timestamp"]).to_csv(folder / "prices" / f"{symbol}.csv", index=False)
    rates = table.loc[table["symbol"] == "IBM", ["timestamp", "close"]].set_axis(["date", "value"], axis=1)
    rates.assign(symbol="EURUSD").to_csv(folder / "rates.csv", index=False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with configs/, price files, and RUN: a fit of one short epoch."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "configs", folder / "configs")
    write_prices(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        argv = [*FAST, "--trainer.limit_train_batches", "5", "--mlflow", "true"]
        run_dir = fit(folder / "configs" / "quickstart.yaml", folder / "RUN", *argv)
        for command in ("predict", "test"):
            assert run(command, "--config", run_dir / "config.yaml", "--ckpt_path", "best", *QUIET) == 0
    return folder


@pytest.fixture
def workplace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the trained folder, as the current one; what a page trusts or imports is forgotten afterwards."""
    folder = tmp_path / "work"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(specs, "_trusted", set(specs.trusted_packages()))
    monkeypatch.setattr(yfinance, "Ticker", StubTicker)
    yield folder
    sys.modules.pop("my_features", None)


class StubTicker:
    """Yahoo without a network: random walks on business days."""

    def __init__(self, symbol: str) -> None:
        self.seed = sum(map(ord, symbol))

    def history(self, start: str, end: str, **options: Any) -> pd.DataFrame:
        days = pd.bdate_range(start, end, tz="America/New_York", inclusive="left")
        random = np.random.default_rng(self.seed)
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, len(days))))
        bars = {"Open": close, "High": close * 1.01, "Low": close * 0.99, "Close": close}
        return pd.DataFrame({**bars, "Volume": random.integers(1000, 2000, len(days))}, index=days)


def write_walk(folder: Path) -> None:
    """What a walk-forward leaves behind, of a single fold."""
    walk = folder / "runs" / "walk"
    walk.mkdir(parents=True)
    table = pd.read_parquet(folder / "RUN" / "predictions.parquet").assign(fold=0)
    table.to_parquet(walk / "predictions.parquet")
    kept = ["symbol", "as_of", "fold", "train_first", "train_last"]
    table[kept].assign(e0=0.0, a0=0.0).to_parquet(walk / "embeddings.parquet")


def write_modules(page: Path, folder: Path) -> None:
    """Files that a page tells the reader to write: Python blocks that begin with their name."""
    for block in blocks_of(page):
        named = re.match(r"# (\w+\.py)\n", block.text)
        if named:
            (folder / named[1]).write_text(block.text)


def runnable(argv: list[str]) -> list[str]:
    """A command of a page, made small: one device, and a few batches for a fit."""
    if argv[:2] in (["rl", "train"], ["rl", "sweep"]):
        return [*(SMALLER.get(word, word) for word in argv), *AGENTS]
    if argv[0] in AS_THEY_STAND or argv[0].startswith("--") or "--help" in argv:
        return argv
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    skipped = {k for k, (word, _) in enumerate(pairs) if word in NO_DEVICES}
    kept = [word for k, word in enumerate(argv) if not {k, k - 1} & skipped]
    small = [SMALLER.get(word, word) for word in kept]
    return [*small, *(FAST if argv[0] in TRAINING else QUIET), *batches(argv[0])]


def batches(command: str) -> list[str]:
    return ["--trainer.limit_train_batches", "2"] if command in TRAINING else []


# a sweep in Python has a test of its own
SLOW_PAGES = ("sweep.md",)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if page.name in SLOW_PAGES else [])
        for page in PAGES
        if blocks_of(page)
    ],
)
def test_python_blocks_run(page: Path, request: pytest.FixtureRequest) -> None:
    for package in NEEDED.get(page.name, ()):
        pytest.importorskip(package)
    workplace: Path = request.getfixturevalue("workplace")
    write_walk(workplace)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.language == "python":
            lines = "\n" * block.line + block.text  # so that a traceback names the line of the page
            exec(compile(lines, str(page), "exec"), namespace)


SEVERAL = ("repeat", "walk-forward", "cross-validate", "roll", "sweep", "audit", "explain")


def timed(command: Command) -> ParameterSet:
    """A command; what trains several times is slow where the README shows it too."""
    several = command.argv[0] in SEVERAL or command.argv[:2] == ["rl", "sweep"]
    again = command.page.name != "README.md" and several
    return pytest.param(command, id=command.place, marks=[pytest.mark.slow] if again else [])


def needed_before(command: Command) -> Iterator[list[str]]:
    """Commands that make what another one uses: the agents to evaluate, or the run folder that the page has named."""
    if command.argv[:2] == ["rl", "evaluate"]:
        yield next(other.argv for other in commands() if other.argv[:2] == ["rl", "train"])
    for other in commands():
        if other.page == command.page and other.argv[0] == "fit" and "--run_dir" in other.argv:
            folder = other.argv[other.argv.index("--run_dir") + 1]
            if any(word.startswith(f"{folder}/") for word in command.argv):
                yield other.argv


@pytest.mark.parametrize("command", [timed(command) for command in commands()])
def test_commands_run(command: Command, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_modules(command.page, workplace)
    for before in needed_before(command):
        assert run(*runnable(before)) == 0

    code = run(*runnable(command.argv))

    assert code == command.exit_code, capsys.readouterr().err


@pytest.mark.parametrize(
    "block", [b for b in blocks("yaml") if b.page.name != "features.md"], ids=lambda b: f"{name_of(b.page)}:{b.line}"
)
def test_yaml_blocks_are_accepted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "block.yaml"
    file.write_text(block.text)
    guard_parser()
    tree = load_yaml(block.text)
    if "space" in tree:  # a file of a sweep
        for settings in Definition.from_plain(tree).space.examples():
            argv = ["--config", str(ROOT / "configs" / "quickstart.yaml"), *options_of(settings)]
            ForecastCLI(["fit", *argv], run=False)
        return

    assert ForecastCLI(["fit", "--config", str(file)], run=False).config.subcommand == "fit"


def test_each_command_is_shown() -> None:
    named = {command.argv[0] for command in commands()}

    assert {"fit", "validate", "test", "predict", "repeat", "walk-forward", "sweep", "data", "plot"} <= named
    assert "sync-tracking" in named


# -- what is named ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    named = re.findall(r"(?:^|`)make (?:[A-Z]+=\S+ )?([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert set(named) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings give."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=name_of)
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_site_shows_each_page_once() -> None:
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown = re.findall(r"^(\w[\w/]*)$", "".join(trees), re.MULTILINE)
    shown.remove("reference/index")
    pages = [page.relative_to(ROOT / "docs").with_suffix("") for page in PAGES if page.is_relative_to(ROOT / "docs")]

    assert sorted(shown) == sorted(page.as_posix() for page in pages if page.name != "index")


def test_list_of_the_guide_counts_each_page_once() -> None:
    text = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    items = "".join(re.findall(r"^\d+\. .*(?:\n {3,}.*)*", text, re.MULTILINE))
    named = re.findall(r"\]\(([\w/]+\.md)\)", items)
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]

    assert numbers == list(range(1, len(numbers) + 1))
    assert sorted(named) == sorted(set(pages) - {"README.md", "index.md"})


def test_first_page_leads_from_the_installation_to_a_forecast() -> None:
    page = ROOT / "docs/index.md"
    installed = [block.text for block in blocks_of(page) if block.language == "sh"]
    first = [command.argv[0] for command in commands() if command.page == page]

    assert "pip install ." in "".join(installed)  # the name is nobody's on the package index
    assert first == ["init", "fit", "test", "predict"]


def test_reference_shows_each_public_name() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    homes = {name: getattr(cnn_lstm, name).__name__ for name in cnn_lstm.__all__}

    assert [name for name, home in homes.items() if f"cnn_lstm.{name}\n" not in pages and home not in pages] == []


def codes_in(tree: ast.AST) -> Iterator[int]:
    """Numbers of the messages of a module: `code=301`, `Defect(301, ...)`, `_CODE = 225`, `error[E608]`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if getattr(node.func, "id", "") in ("Defect", "_out_of_range"):
                values += node.args
        elif isinstance(node, ast.Assign) and "CODE" in ast.unparse(node.targets[0]):
            values = [node.value]
        else:
            values = []
        yield from (v.value for v in values if isinstance(v, ast.Constant) and type(v.value) is int)
        if isinstance(node, ast.JoinedStr):
            yield from map(int, re.findall(r"error\[E(\d{3})\]", ast.unparse(node)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # a warning that is logged as it is
            yield from map(int, re.findall(r"\[W(\d{3})\]", node.value))


def test_error_codes_of_code_and_guide_are_the_same() -> None:
    in_code: set[int] = set()
    for file in (ROOT / "cnn_lstm").rglob("*.py"):
        in_code |= {code for code in codes_in(ast.parse(file.read_text(encoding="utf-8"))) if 100 <= code < 900}
    guide = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

    in_guide = [int(code) for code in re.findall(r"^\| E(\d{3}) \|", guide, re.MULTILINE)]

    assert len(in_guide) == len(set(in_guide))
    assert set(in_guide) == in_code


def tree_paths(text: str) -> Iterator[str]:
    """Paths of a captioned tree: two blanks of indentation a level, then the name, blanks and the caption."""
    above: list[str] = []
    for indentation, name in re.findall(r"^( *)(\S+)  +\S", text, re.MULTILINE):
        above = [*above[: len(indentation) // 2], name]
        yield "".join(above)


def test_tree_of_the_readme_exists() -> None:
    (tree,) = [block.text for block in blocks("text") if block.text.startswith("cnn_lstm/")]
    paths = list(tree_paths(tree))

    assert len(paths) == len(tree.splitlines())
    assert [path for path in paths if not (ROOT / path).exists()] == []
