"""Commands that are started warm are as those of a new process: arguments, environment, signals, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cnn_lstm.errors import ResourceError
from cnn_lstm.locks import take_folder
from cnn_lstm.runs import fork_server, processes
from cnn_lstm.runs.fork_server import ForkServer
from cnn_lstm.runs.processes import Command, Ended, LocalProcesses, Running, end_all
from tests.experiments import experiment, run
from tests.markets import market

# a server that has nothing to import, and commands that print what they have become
SERVER = """
import json, os, sys, time
from cnn_lstm.runs.fork_server import served
argv = served(["json"])
if argv is None:
    sys.exit(0)
print(json.dumps([argv, sys.argv[1:], os.environ.get("OF_TEST"), os.getsid(0) == os.getpid()]), flush=True)
if argv[0] == "read":
    print(repr(sys.stdin.read()), flush=True)
elif argv[0] == "sleep":
    time.sleep(600)
sys.exit(int(argv[1]) if argv[0] == "exit" else 0)
"""


def waited(running: Running, seconds: float = 60) -> Ended:
    until = time.monotonic() + seconds
    while (ended := running.ended()) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return ended


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(params=["cold", "warm"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalProcesses]:
    """Both ways to start a command; that of the server where there is one."""
    if request.param == "warm" and not fork_server.AVAILABLE:
        pytest.skip("this system has no fork")
    program = SERVER if request.param == "warm" else SERVER.replace('served(["json"])', "sys.argv[1:]")
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", program])
    if request.param == "warm":
        monkeypatch.setattr(processes, "OURS", (sys.executable, "-c", program))
    with LocalProcesses() as made:
        yield made


def test_a_command_has_its_arguments_and_the_environment_of_now(
    engine: LocalProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("one", "two"):  # as of its start, not of the server's
        monkeypatch.setenv("OF_TEST", value)
        assert waited(engine.start(Command(["print", "a b", "é"], tmp_path / "log"))) == (0, False)
    lines = (tmp_path / "log").read_text().splitlines()
    argv = '["print", "a b", "\\u00e9"]'
    assert lines == [f'[{argv}, {argv}, "{value}", false]' for value in ("one", "two")]


def test_exit_codes_are_those_of_a_shell(engine: LocalProcesses, tmp_path: Path) -> None:
    started = [engine.start(Command(["exit", str(code)], tmp_path / "log")) for code in (0, 3, 6)]
    assert [waited(one).code for one in started] == [0, 3, 6]
    sleeping = engine.start(Command(["sleep"], tmp_path / "sleep.log"))
    wait_for(lambda: "sleep" in (tmp_path / "sleep.log").read_text())
    sleeping.kill()
    assert sleeping.ended() == (137, False)


def test_a_plan_is_read_and_its_pipe_closes(engine: LocalProcesses, tmp_path: Path) -> None:
    worker = engine.start(Command(["read"], tmp_path / "log", plan="the plan"))
    wait_for(lambda: "read" in (tmp_path / "log").read_text())
    assert worker.ended() is None
    worker.ask_to_end()
    assert waited(worker).code == 0
    head, text = (tmp_path / "log").read_text().splitlines()
    assert head.endswith("true]")  # a session of its own, which a Ctrl-C of the terminal does not reach
    assert text == repr("the plan\n")


def test_one_that_does_not_obey_is_killed(engine: LocalProcesses, tmp_path: Path) -> None:
    sleeping = engine.start(Command(["sleep"], tmp_path / "log"))
    worker = engine.start(Command(["sleep"], tmp_path / "log", plan="ignored"))
    wait_for(lambda: (tmp_path / "log").read_text().count("sleep") == 4)
    since = time.monotonic()
    end_all([sleeping, worker], patience=1)
    assert time.monotonic() - since < 5
    assert sleeping.ended() == (143, False)
    assert worker.ended() == (137, False)


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="this system has no fork")
def test_commands_of_a_server_that_is_killed_are_reported() -> None:
    server = ForkServer([sys.executable, "-c", SERVER])
    request = fork_server.Request(["sleep"], dict(os.environ))
    pid = server.fork(request, [0, 1, 2])
    server._process.kill()
    server._process.wait()
    assert server.code(pid) is None  # it lives
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.code(pid) == -signal.SIGKILL)
    with pytest.raises(ResourceError, match=r"E657.*has died"):
        server.fork(request, [0, 1, 2])
    assert not server.alive
    server.close()


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="this system has no fork")
def test_another_server_takes_the_place_of_one_that_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", SERVER])
    monkeypatch.setattr(processes, "OURS", (sys.executable, "-c", SERVER))
    with LocalProcesses() as engine:
        first = engine.start(Command(["sleep"], tmp_path / "log"))
        engine._servers[-1]._end()
        assert waited(engine.start(Command(["exit", "3"], tmp_path / "log"))).code == 3
        first.kill()
        assert first.ended() == (137, False)


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="this system has no fork")
@pytest.mark.parametrize("cores", [1, 2])
def test_a_server_that_began_ahead_is_that_of_the_first_engine(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", SERVER])
    monkeypatch.setattr(processes, "OURS", (sys.executable, "-c", SERVER))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    with processes.server_ahead():
        ahead = list(processes._AHEAD)
        assert len(ahead) == cores - 1
        with LocalProcesses() as engine:
            assert waited(engine.start(Command(["exit", "3"], tmp_path / "log"))).code == 3
            assert engine._servers == ahead or cores == 1
    assert not any(server.alive for server in ahead)


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="this system has no fork")
def test_a_server_that_nobody_has_asked_ends_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    started: list[ForkServer] = []

    class Noted(ForkServer):
        def __init__(self, program: list[str]) -> None:
            super().__init__(program)
            started.append(self)

    monkeypatch.setattr(processes, "ForkServer", Noted)
    assert run("repeat", "--config", tmp_path / "none.yaml") == 2
    assert "none.yaml" in capsys.readouterr().err
    assert [server.alive for server in started] == [False]
    assert run("repeat", "--help") == 0
    assert len(started) == 1


TIED = """
import sys, time
from pathlib import Path
from cnn_lstm.runs import processes
from cnn_lstm.runs.processes import Command, LocalProcesses
processes.PROGRAM = [sys.executable, "-c", sys.argv[1]]
processes.OURS = tuple(processes.PROGRAM)
engine = LocalProcesses(tied=sys.argv[3] == "True")
running = engine.start(Command(["sleep"], Path(sys.argv[2])))
print(running._pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="this system has no fork")
@pytest.mark.parametrize("tied", [True, False])
def test_only_a_tied_command_dies_with_who_started_it(tied: bool, tmp_path: Path) -> None:
    """Another machine takes the work of a tied one over; any other goes on, and keeps its folder locked."""
    with subprocess.Popen(
        [sys.executable, "-c", TIED, SERVER, str(tmp_path / "log"), str(tied)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for(lambda: "sleep" in (tmp_path / "log").read_text())
        parent.kill()
    if tied:
        wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    else:
        time.sleep(1)
        assert psutil.pid_exists(pid)
        os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="this system has no fork")
def test_a_command_keeps_the_lock_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", SERVER])
    monkeypatch.setattr(processes, "OURS", (sys.executable, "-c", SERVER))
    with take_folder(tmp_path, "repeat", "repeat") as lock, LocalProcesses(lock.descriptor) as engine:
        sleeping = engine.start(Command(["sleep"], tmp_path / "log"))
        wait_for(lambda: "sleep" in (tmp_path / "log").read_text())
        assert isinstance(sleeping, processes._Warm)
        held = [file.path for file in psutil.Process(sleeping._pid).open_files()]
        assert str(lock.path) in held
        server = psutil.Process(engine._servers[-1]._process.pid)
        assert str(lock.path) not in [file.path for file in server.open_files()]
        sleeping.kill()


@pytest.mark.slow
@pytest.mark.skipif(not fork_server.AVAILABLE, reason="this system has no fork")
def test_a_warm_fit_is_a_cold_one_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path, market(150))
    for name, available in (("warm", True), ("cold", False)):
        monkeypatch.setattr(fork_server, "AVAILABLE", available)
        with LocalProcesses() as engine:
            for argv in (
                ["fit", "--config", str(config), "--run_dir", str(tmp_path / name)],
                ["test", "--config", str(tmp_path / name / "config.yaml"), "--ckpt_path", "best"],
            ):
                assert waited(engine.start(Command(argv, tmp_path / "log")), 300).code == 0
    files = [(tmp_path / name / "predictions.parquet").read_bytes() for name in ("warm", "cold")]
    assert files[0] == files[1]
