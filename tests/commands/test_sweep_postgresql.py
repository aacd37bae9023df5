"""Two sweeps at once on one PostgreSQL server; skipped where the server is not installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.test_sweep import config, share  # noqa: F401 - a fixture

# Debian does not put the server on the PATH
PLACES = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
SERVER, MAKE = (shutil.which(name, path=PLACES) for name in ("postgres", "initdb"))
pytestmark = pytest.mark.skipif(SERVER is None or MAKE is None, reason="PostgreSQL's server is not installed")


def somebody() -> str | None:
    """The server refuses to run as root."""
    if os.getuid():
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@pytest.fixture
def server() -> Iterator[str]:
    """Address of a throw-away server, which is reached by a socket in its own folder only."""
    pytest.importorskip("psycopg")
    folder, user = Path(tempfile.mkdtemp(prefix="pg")), somebody()
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    subprocess.run(
        [str(MAKE), "-D", data, "-U", "sweep", "-A", "trust", "--no-sync"],
        user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(SERVER), "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            user=user, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".s.PGSQL.*")):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)  # the socket comes a moment before the server answers
        yield f"postgresql+psycopg://sweep@/postgres?host={folder}"
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for clients
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_two_sweeps_share_a_fresh_server(server: str, config: Path, tmp_path: Path) -> None:  # noqa: F811
    share(config, tmp_path / "pair", server)
