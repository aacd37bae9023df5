"""What a shell completes: every command and option, and nothing else; it answers without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnn_lstm.cli import COMMANDS, main
from cnn_lstm.commands import completion
from cnn_lstm.commands.completion import FILE, LIKE_FIT, SHELLS, VERBS, options

ROOT = Path(__file__).parents[2]
MEANINGS = {name: text for name, (_, text) in COMMANDS.items()}
PROGRAM = """
import sys
from cnn_lstm.cli import main
main(["--print_completion", "zsh"])
assert not {"torch", "pandas", "lightning", "jsonargparse"} & set(sys.modules)
"""


def writer() -> tuple[Callable[[list[str]], list[str]], Callable[[], dict[str, list[str]]]]:
    spec = importlib.util.spec_from_file_location("options", ROOT / "tools" / "options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.options_of, module.every_option


def test_the_options_of_a_fit_are_those_that_are_kept() -> None:
    known = json.loads(FILE.read_text())
    assert known["fit"] == writer()[0](["fit"]), "run: python tools/options.py"
    assert {"--data.window", "--trainer.max_epochs", "--quiet"} <= set(known["fit"])


@pytest.mark.slow
def test_the_options_of_every_command_are_those_that_are_kept() -> None:
    options_of, every_option = writer()
    assert json.loads(FILE.read_text()) == every_option(), "run: python tools/options.py"
    for name in LIKE_FIT:
        assert options_of([name]) == options_of(["fit"])


def test_every_command_has_its_options() -> None:
    known = options(MEANINGS)
    assert list(known) == list(COMMANDS)
    assert {"--space", "--n_trials", "--data.window"} <= set(known["sweep"])
    assert "--data.window" in known["test"]
    assert "--data.window" not in known["encode"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    for words in (["--print_completion", shell], [f"--print_completion={shell}"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert all(name in text for name in COMMANDS)
        assert "data.window" in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["sw"], ["sweep"]),
        (["fit", "--data.wi"], ["--data.window"]),
        (["data", ""], list(VERBS["data"])),
        (["sweep", "--n_tr"], ["--n_trials"]),
        (["nonsense"], []),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], completed: list[str]) -> None:
    pytest.importorskip("shtab")
    (tmp_path / "completion.sh").write_text(completion.completion("bash", MEANINGS))
    before = (["cnn-lstm", *words])[-2]
    line = " ".join(f"'{word}'" for word in ["cnn-lstm", *words])
    code = f"source ./completion.sh; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
    code += f"_shtab_cnn_lstm cnn-lstm '{words[-1]}' {before}; echo \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == completed


def test_other_shells_and_a_missing_library_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--print_completion", "fish"]) == 2
    assert "one of bash, zsh, tcsh" in capsys.readouterr().err
    monkeypatch.setattr(completion, "shtab", None)
    assert main(["--print_completion"]) == 2
    assert "error[E299]: shtab is not installed" in capsys.readouterr().err


@pytest.mark.slow
def test_it_answers_without_pytorch() -> None:
    pytest.importorskip("shtab")
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True)
