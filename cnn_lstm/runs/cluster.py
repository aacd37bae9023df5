"""The processes of a command on the machines of a Ray cluster.

Each command runs as one Ray task, which starts it on its machine as this one would: warm, in a process of its own, with
the same arguments, in the same folder. So the machines have to share that folder, and the one that we were called in;
what lies in the folder afterwards does not say where it was made. Ray chooses the machines, and says which were lost;
who asked goes on from the files that a lost one has left, so Ray itself repeats nothing.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

from cnn_lstm.errors import ResourceError, require
from cnn_lstm.locks import LOCK
from cnn_lstm.runs.processes import PATIENCE, POLL, Command, Ended, Engine, LocalProcesses, Running, end_all

CLIENT = "ray://"
# what a command has of the environment that it was asked for in; all else is its machine's own
PREFIXES = ("CNN_LSTM_", "MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "CUBLAS_")
NAMES = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONPATH", "PYTHONHASHSEED"}
THREADS = "OMP_NUM_THREADS"
ACCELERATORS = {"cpu": False, "gpu": True, "cuda": True}


class Needs(NamedTuple):
    """What one run takes of a machine.

    Attributes:
        cpus: Processor cores.
        gpus: GPUs.
    """

    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what each run takes of it.

    Attributes:
        address: `auto`, or `ray://HOST:PORT`.
        trainer: What the configuration says of the trainer: `accelerator`, `devices`, `num_nodes`.
    """

    address: str
    trainer: Mapping[str, Any]

    @classmethod
    def of(cls, address: str | None, trainer: Mapping[str, Any]) -> Cluster | None:
        """The cluster that a command line names; None where it names none.

        Args:
            address: Value of `--cluster`.
            trainer: The section `trainer` of the configuration.

        Raises:
            ConfigError: E224, if it is not an address, or the configuration needs what a task cannot have.
            ResourceError: E650, if Ray is not installed.
        """
        if address is None:
            return None
        known = address == "auto" or (address.startswith(CLIENT) and address.removeprefix(CLIENT))
        require(bool(known), f"--cluster {address}", "the command line", "give auto, or ray://HOST:PORT")
        cluster = cls(address, {name: trainer[name] for name in ("accelerator", "devices", "num_nodes")})
        cluster.needs(gpus=False)
        if importlib.util.find_spec("ray") is None:
            raise ResourceError("--cluster needs Ray", fix="pip install 'cnn-lstm[cluster]'", code=650)
        return cluster

    def needs(self, gpus: bool) -> Needs:
        """What one run takes.

        Args:
            gpus: Whether the cluster has GPUs, which `accelerator: auto` takes.

        Raises:
            ConfigError: E224.

        Example:
            >>> settings = {"accelerator": "auto", "devices": "auto", "num_nodes": 1}
            >>> Cluster("auto", settings).needs(gpus=True)
            Needs(cpus=1, gpus=1)
            >>> Cluster("auto", settings | {"accelerator": "cpu", "devices": 2}).needs(gpus=True)
            Needs(cpus=2, gpus=0)
        """
        accelerator, nodes = self.trainer["accelerator"], self.trainer["num_nodes"]
        what, fix = f"--cluster with trainer.accelerator={accelerator}", "set it to auto, cpu or gpu"
        require(accelerator == "auto" or accelerator in ACCELERATORS, what, "trainer.accelerator", fix)
        what, fix = f"--cluster with trainer.num_nodes={nodes}", "a run stays on one machine: set it to 1"
        require(nodes == 1, what, "trainer.num_nodes", fix)
        count = _count(self.trainer["devices"])
        with_gpus = gpus if accelerator == "auto" else ACCELERATORS[accelerator]
        return Needs(count * _threads(), count if with_gpus else 0)

    def engine(self, folder: Path) -> Engine:
        """What starts the processes; connects to the cluster.

        Args:
            folder: The folder of all runs, which the machines share.

        Raises:
            ResourceError: E651, if the cluster does not answer; E652, if none of its machines can take a run.
        """
        return Ray(self, folder)


def _count(devices: object) -> int:
    """How many devices a run uses: Ray gives it that many, so they cannot be chosen."""
    if devices == "auto":
        return 1
    count = int(devices) if isinstance(devices, str) and devices.isdigit() else devices
    usable = isinstance(count, int) and not isinstance(count, bool) and count > 0
    what = f"--cluster with trainer.devices={devices}"
    require(usable, what, "trainer.devices", "give a number: Ray chooses which")
    assert isinstance(count, int)
    return count


def _threads() -> int:
    """Threads of each process, as far as the environment says it."""
    given = os.environ.get(THREADS, "1")
    return max(1, int(given)) if given.isdigit() else 1


def _environment() -> dict[str, str]:
    """Variables that the commands have of this process."""
    kept = {name: value for name, value in os.environ.items() if name in NAMES or name.startswith(PREFIXES)}
    return {THREADS: str(_threads())} | kept


# -- where the command was called ------------------------------------------------------------------------------------


@final
class Ray(Engine):
    """Commands as tasks of a Ray cluster.

    Args:
        cluster: The cluster, and what each command takes.
        folder: The folder of all runs.

    Raises:
        ResourceError: E651 or E652, see `Cluster.engine`.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._folder, self._started = folder.resolve(), 0
        with _same_signals():
            self._ray = _connected(cluster.address)
            machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        needs = cluster.needs(gpus=any(machine.get("GPU", 0) > 0 for machine in machines))
        self.room = sum(_room(machine, needs) for machine in machines)
        if not self.room:
            self.close()
            what = f"no machine of the cluster has {needs.cpus} CPU and {needs.gpus} GPU for a run"
            fix = f"set trainer.accelerator, trainer.devices or {THREADS} to what one has"
            raise ResourceError(what, f"{len(machines)} machines", fix, code=652)
        options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "scheduling_strategy": "SPREAD"}
        # a worker of Ray stays when its task is over: its child that held the GPU has ended, and the next start is warm
        self._task = self._ray.remote(max_retries=0, max_calls=0, **options)(on_machine)

    def start(self, command: Command) -> Running:
        """Starts a command on a machine that has room, now or later.

        Args:
            command: The command; without an output of its own it is printed here, from a file in the folder.
        """
        self._started += 1
        followed = None if command.output else self._folder / f"worker_{self._started}.log"
        output = (command.output or self._folder / f"worker_{self._started}.log").resolve()
        place = Place(str(Path.cwd()), str(self._folder), _environment())
        task = self._task.remote(asdict(replace(command, output=output)), place)
        return _Task(self._ray, task, followed)

    def close(self) -> None:
        """Leaves the cluster, which goes on."""
        with suppress(Exception):  # it may be gone
            self._ray.shutdown()


class Place(NamedTuple):
    """Where a command runs.

    Attributes:
        current: The folder that it is called in.
        folder: The folder of all runs.
        environment: Variables of its environment.
    """

    current: str
    folder: str
    environment: Mapping[str, str]


@final
class _Task(Running):
    """A command on some machine; what it prints is printed here if it is followed."""

    def __init__(self, ray: Any, task: Any, followed: Path | None) -> None:
        self._ray, self._task, self._followed = ray, task, followed
        self._read = followed.stat().st_size if followed is not None and followed.exists() else 0
        self._end: Ended | None = None

    def ended(self) -> Ended | None:
        try:
            if self._end is None and self._ray.wait([self._task], timeout=0)[0]:
                self._end = self._result()
        except (ConnectionError, RuntimeError) as error:
            why = " ".join(str(error).split())
            fix = "once it is there again, run the same command with --resume"
            raise ResourceError("the cluster does not answer any more", why, fix, code=651) from None
        self._print_new()
        return self._end

    def ask_to_end(self) -> None:
        self._cancel(force=False)

    def kill(self) -> None:
        self._cancel(force=True)

    def _cancel(self, force: bool) -> None:
        if self.ended() is None:
            with suppress(Exception):  # it has ended meanwhile, or the cluster is gone
                self._ray.cancel(self._task, force=force)

    def _result(self) -> Ended:
        errors = self._ray.exceptions
        try:
            code: int | str = self._ray.get(self._task)
        except errors.TaskCancelledError:
            return Ended(128 + signal.SIGTERM)
        except errors.RayTaskError as error:
            raise _unable(str(error).strip().splitlines()[-1]) from None
        except errors.RayError:
            return Ended(1, lost=True)
        if isinstance(code, str):
            raise _unable(code)
        return Ended(code)

    def _print_new(self) -> None:
        if self._followed is None or not self._followed.exists():
            return
        with self._followed.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        sys.stdout.write(whole.decode(errors="replace"))
        sys.stdout.flush()


def _unable(why: str) -> ResourceError:
    fix = "install cnn-lstm on each, and share the folder of the runs and the one that you start in"
    return ResourceError("a machine of the cluster cannot run the command", why, fix, code=653)


def _room(machine: Mapping[str, float], needs: Needs) -> int:
    """How many runs a machine can take."""
    free = [int(machine.get("CPU", 0) // needs.cpus)]
    if needs.gpus:
        free.append(int(machine.get("GPU", 0) // needs.gpus))
    return min(free)


def _connected(address: str) -> Any:
    """The module of Ray, connected."""
    import ray

    # a task is found by its name, so that a machine needs our package; credentials are not among what Ray shows
    variables = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 2.52 tells what a later version will do with GPUs that nobody asked for
            ray.init(
                address=address,
                logging_level="ERROR",
                log_to_driver=False,
                runtime_env={"env_vars": variables} if variables else None,
            )
    except Exception as error:  # each way of connecting raises its own
        why = " ".join(str(error).split()) or type(error).__name__
        fix = "start it with ray start, or give its address; the versions of Python and Ray have to be equal"
        raise ResourceError("the cluster does not answer", f"--cluster {address}: {why}", fix, code=651) from None
    return ray


@contextmanager
def _same_signals() -> Iterator[None]:
    """Keeps our handler of SIGTERM; Ray sets one of its own when it is imported."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


# -- on a machine of the cluster -------------------------------------------------------------------------------------


@functools.cache
def _processes() -> LocalProcesses:
    """Those of this worker of Ray; they die with it, since another machine goes on with their work."""
    return LocalProcesses(tied=True)


def on_machine(command: Mapping[str, Any], place: Place) -> int | str:
    """Runs a command on this machine.

    Args:
        command: Fields of the `Command`.
        place: Where it runs.

    Returns:
        Its exit code; or why it cannot run here, for people.
    """
    machine = socket.gethostname()
    for path in (Path(place.current), Path(place.folder)):
        if not path.is_dir():
            return f"{machine} has no {path}"
    if not (Path(place.folder) / LOCK).exists():
        return f"{machine} has another {place.folder}"
    os.environ.update(place.environment)
    os.chdir(place.current)
    running = _processes().start(Command(**command))
    try:
        while (ended := running.ended()) is None:
            time.sleep(POLL)
    except KeyboardInterrupt:  # the task was cancelled
        end_all([running], PATIENCE)
        raise
    return ended.code
