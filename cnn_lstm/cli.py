"""`cnn-lstm`: chooses the command, and turns every expected error into one line and an exit code.

Nothing heavy is imported here, so that `--help` and `--version` answer at once; a command's module is imported when
it is called.
"""

from __future__ import annotations

import errno
import gc
import importlib
import io
import os
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType, ModuleType

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.credentials import keep_out_of_logs, without_credentials
from cnn_lstm.documents import one_document
from cnn_lstm.errors import CnnLstmError, ConfigError, TerminatedError, interruption, shortened
from cnn_lstm.files import room_text
from cnn_lstm.hints import one_of
from cnn_lstm.shipped import with_shipped
from cnn_lstm.specs import trust

COMMANDS = {
    "init": ("cnn_lstm.commands.init", "write the configurations that the package carries to a folder of yours"),
    "fit": (
        "cnn_lstm.commands.fit",
        "train a forecaster from a YAML file; with --ensemble N, N seeds and their average",
    ),
    "validate": ("cnn_lstm.commands.fit", "metrics of a checkpoint on the validation part"),
    "test": ("cnn_lstm.commands.fit", "judge a checkpoint on the untouched test part: verdict, baselines, report"),
    "judge": ("cnn_lstm.commands.judge", "judge forecasts that any program made, against prices and simple forecasts"),
    "predict": ("cnn_lstm.commands.predict", "write the forecasts of a checkpoint to forecasts.parquet"),
    "update": (
        "cnn_lstm.commands.update",
        "every evening: forecast the new bars, appended to live.parquet of a run",
    ),
    "monitor": ("cnn_lstm.commands.monitor", "say whether a model in service still works: fine, watch or stale"),
    "repeat": (
        "cnn_lstm.commands.repeat",
        "train several seeds: mean, spread, what may be claimed, and their ensemble",
    ),
    "walk-forward": (
        "cnn_lstm.commands.walk_forward",
        "retrain fold by fold, and judge the forecasts of all test parts as one",
    ),
    "cross-validate": (
        "cnn_lstm.commands.cross_validate",
        "train on every choice of test groups, and judge the paths that their forecasts make",
    ),
    "roll": (
        "cnn_lstm.commands.roll",
        "refit as time goes on; a new model takes over where it is better on unseen dates",
    ),
    "sweep": ("cnn_lstm.commands.sweep", "search for better settings with Optuna, on the validation part"),
    "rl": ("cnn_lstm.commands.rl", "train agents on a forecaster's encoder, and judge them on its test dates"),
    "audit": ("cnn_lstm.commands.audit", "check on your data, features and checkpoint that nothing looks ahead"),
    "explain": ("cnn_lstm.commands.explain", "say which features and bars the forecasts depend on"),
    "plot": ("cnn_lstm.commands.plot", "draw the history of a run, or compare runs"),
    "sync-tracking": ("cnn_lstm.commands.sync_tracking", "send to MLflow what a server that was down has not taken"),
    "encode": ("cnn_lstm.commands.encode", "write the embeddings and forecasts of a whole table to one file"),
    "export": ("cnn_lstm.commands.export", "write a checkpoint for other programs: ONNX, torch.export, safetensors"),
    "data": ("cnn_lstm.commands.data", "describe or check the data of a YAML file, without training"),
}
# processes that our own commands start
INTERNAL = {
    "sweep-worker": "cnn_lstm.commands.sweep_worker",
    "sweep-trial": "cnn_lstm.commands.sweep_worker",
    "rl-sweep-worker": "cnn_lstm.commands.rl_sweep_worker",
}
# commands that start several others on this machine, and options with which they start none here
STARTERS = {"repeat", "walk-forward", "cross-validate", "roll", "sweep"}
ELSEWHERE = ("--cluster", "--help", "-h")
# forks itself for each command that ours start; the command goes on here, in `main`
FORK_SERVER = "fork-server"
PRINT_COMPLETION = "--print_completion"
# commands whose result is one JSON document with --json
WITH_JSON = (
    *(("data", verb) for verb in ("describe", "check")),
    *((name,) for name in ("validate", "test", "repeat", "walk-forward", "cross-validate", "sweep")),
    *((name,) for name in ("audit", "judge", "update", "monitor", "roll")),
)
# what a shell reports of a program that SIGPIPE ended
UNREAD = 141
INTERRUPTED = (130, 143)

HELP = """usage: cnn-lstm [--version] [--debug] [--json] [--trust-imports PKG[,PKG]] COMMAND ...

CNN+LSTM+attention forecasting of market sequences, judged honestly.

commands:
{commands}

options of every command:
  --help                     what the command takes
  --debug                    show the traceback of an error
  --json                     print the result as one JSON document: data describe|check, validate, test, repeat,
                             walk-forward, cross-validate, sweep, audit, judge, update, monitor, roll
  --trust-imports PKG[,PKG]  packages of yours that a YAML file or a checkpoint may name

cnn-lstm --print_completion bash|zsh|tcsh prints what completes commands and options in a shell.

exit codes: 0 ok, 1 a bug in cnn-lstm, 2 usage or config, 3 data, 4 checkpoint, 5 diverged, 6 resources,
7 tracking, 8 validity, 10 watch and 11 stale of monitor, 130 and 143 interrupted, 141 the output was closed
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: Arguments of the command line; those of this process by default.

    Returns:
        The exit code.

    Example:
        >>> main(["--version"])
        cnn-lstm 0.2.0
        0
    """
    try:
        debug, as_json, argv = _shared_options(sys.argv[1:] if args is None else args)
    except ConfigError as error:
        return _fail(error)
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:<14} {text}" for name, (_, text) in COMMANDS.items())))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"cnn-lstm {version('cnn-lstm')}")
        return 0
    if argv[0].partition("=")[0] == PRINT_COMPLETION:
        return _print_completion((argv[0].partition("=")[2] or " ".join(argv[1:2])) or "bash")
    if argv[0] == FORK_SERVER and _has_socket():
        forked: list[str] | None = importlib.import_module("cnn_lstm.commands.fork_server").next_command()
        return 0 if forked is None else main(forked)
    if as_json:
        with one_document():
            return _guarded(argv, debug)
    return _guarded(argv, debug)


def _print_completion(shell: str) -> int:
    """Prints the completion of a shell; returns the exit code."""
    try:
        meanings = {name: text for name, (_, text) in COMMANDS.items()}
        print(importlib.import_module("cnn_lstm.commands.completion").completion(shell, meanings))
    except ConfigError as error:
        return _fail(error)
    return 0


def _shared_options(args: Sequence[str]) -> tuple[bool, bool, list[str]]:
    """Takes out `--debug`, `--json` and `--trust-imports`, which only the command line may give."""
    parser = CommandParser("cnn-lstm", add_help=False)
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trust-imports", nargs="?", const="", action="append", default=[])
    options, argv = parser.split(args)
    for value in options.trust_imports:
        packages = [package for package in value.split(",") if package]
        if not packages or not all(package.isidentifier() for package in packages):
            raise ConfigError(f"--trust-imports {value!r}", fix="name packages, separated by commas", code=228)
        trust(*packages)
        if (here := str(Path.cwd())) not in sys.path:  # the user's own module often lies in the current folder
            sys.path.append(here)  # behind all others, so that a stray yaml.py there does not replace a library
    if options.json and not any(argv[: len(words)] == list(words) for words in WITH_JSON):
        which = ", ".join(" ".join(words) for words in WITH_JSON)
        raise ConfigError("--json of this command", "cnn-lstm", f"these have it: {which}", code=225)
    return options.debug, options.json, argv


def _has_socket() -> bool:
    """Whether our input is a socket, as that of the server is; what a user calls by its name is unknown."""
    try:
        return stat.S_ISSOCK(os.fstat(0).st_mode)
    except OSError:  # it is closed
        return False


def _guarded(argv: list[str], debug: bool) -> int:
    """Runs a command; returns the exit code."""
    keep_out_of_logs()
    modules = INTERNAL | {name: module for name, (module, _) in COMMANDS.items()}
    try:
        if argv[0] not in modules:
            raise ConfigError(f"unknown command {argv[0]!r}", fix=one_of(argv[0], COMMANDS), code=225)
        with _terminated_in_order(), _server_ahead(argv):
            _imported(modules[argv[0]]).run(with_shipped(argv))
        return 0
    except BaseException as error:
        code = interruption(error)
        if code is None:
            return _failure(error, debug)
        if debug:
            _print_trace()
        how = "interrupted" if code == 130 else "terminated"
        hint = next(
            iter(getattr(error, "__notes__", ())), "continue with --ckpt_path last"
        )  # of `interruption_with_advice`
        return _fail(f"{how}: {hint}" if argv[0] == "fit" else how, code)


def _server_ahead(argv: list[str]) -> AbstractContextManager[None]:
    """Starts the fork server first, so that its imports and those of this process, seconds each, run side by side."""
    if argv[0] not in STARTERS or any(word.startswith(ELSEWHERE) for word in argv):
        return nullcontext()
    ahead: AbstractContextManager[None] = importlib.import_module("cnn_lstm.commands.server_ahead").server_ahead()
    return ahead


def _imported(name: str) -> ModuleType:
    """A command's module; in a process of ours, what it made stays to the end, so no collection looks through it."""
    module = importlib.import_module(name)
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    return module


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Makes SIGTERM an orderly end from the first import on; what trains takes it over while it runs."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise TerminatedError

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _failure(error: BaseException, debug: bool) -> int:
    """Reports what ended a command; returns the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 2
    if isinstance(error, CnnLstmError):
        if debug:
            _print_trace()
        return _fail(error, error.exit_code)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("cnn_lstm"):
        if debug:
            _print_trace()
        fix = "install the whole package: pip install cnn-lstm; see docs/install.md for what works without it"
        return _fail(ConfigError(f"{error.name} is not installed", "this environment", fix, code=298))
    if isinstance(error, MemoryError):
        return _fail(f"error[E608]: out of memory — {error} — use a smaller data.batch_size or data.window", 6)
    if isinstance(error, BrokenPipeError):
        raise error  # to `script`
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        name = shortened(str(error.filename), 100)
        return _fail(ConfigError("the name of a file is too long", name, "give a shorter one", code=285))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = str(error.filename or "")
        where = ": ".join(filter(None, (shortened(place, 100), room_text(Path(place or ".")))))
        return _fail(f"error[E610]: {error.strerror} — {where} — free disk space, then repeat the command", 6)
    _print_trace()  # anything that comes here is a bug of ours
    return _fail(f"error[E100]: {type(error).__name__}: {error} — this is a bug: please report it", 1)


def _print_trace() -> None:
    print(without_credentials(traceback.format_exc()), end="", file=sys.stderr)


def _fail(error: object, code: int = 2) -> int:
    with suppress(BrokenPipeError):  # a Ctrl-C ends what reads us too
        print(without_credentials(str(error)), file=sys.stderr, flush=True)
    return code


def script() -> None:
    """Entry point of the console script: leaves with the exit code of `main`."""
    # an import makes no garbage; to look for it in the objects of 4,000 modules is a fifth of its time
    gc.disable()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a code page of Windows lacks letters that we, or symbols, have
        sys.stdout.reconfigure(errors="backslashreplace")
    code = UNREAD
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as behind `| head`; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code if code in INTERRUPTED else UNREAD
    if code in INTERRUPTED:
        os._exit(code)
    sys.stderr.flush()
    sys.exit(code)
