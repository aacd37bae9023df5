#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""What a change has to pass, each in an environment of its own: `make ci`, or `make ci ONLY=tests-3.12`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = "CI" in os.environ
nox.options.stop_on_first_error = True

PYTHONS = ["3.11", "3.12", "3.13"]
CONSTRAINED = ["--constraint", "constraints.txt"]
LEAST_COVERED = 97  # %, see CONTRIBUTING.md
OLDEST = "lowest-direct"  # as uv calls the oldest version of everything that pyproject.toml names
# every core; neighbours stay in one process, so that what a module prepares once is prepared once
PARALLEL = ["-n", "auto", "--dist", "worksteal"]


def install(session: nox.Session, *extras: str) -> None:
    """Installs the project with extras, with the build of torch that fits the machine."""
    session.run("python", "tools/install_torch.py", *CONSTRAINED, silent=False)
    session.install(*CONSTRAINED, "--editable", f".[{','.join(extras)}]" if extras else ".")


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install(*CONSTRAINED, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """Mypy, strict, the tests too."""
    install(session, "dev")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite."""
    install(session, "test")
    session.run("python", "-m", "pytest", *PARALLEL, *session.posargs)


@nox.session(python="3.13")
def coverage(session: nox.Session) -> None:
    """How many lines the suite runs in its own process; what subprocesses of tests run does not count."""
    install(session, "test")
    session.install(*CONSTRAINED, "coverage", "pytest-cov")
    argv = [*PARALLEL, "--cov", "--cov-report=term:skip-covered", f"--cov-fail-under={LEAST_COVERED}"]
    session.run("python", "-m", "pytest", *argv, *session.posargs, env={"COVERAGE_CORE": "sysmon"})


@nox.session(python="3.11")
def minimum(session: nox.Session) -> None:
    """The test suite on the oldest versions that pyproject.toml allows; torch stays the tested one."""
    install(session, "test")
    session.install("uv")
    torch = session.run("python", "-c", "import torch; print(torch.__version__)", silent=True)
    pinned = Path(session.create_tmp()) / "torch.txt"
    pinned.write_text(f"torch=={str(torch).strip().split('+')[0]}\n", encoding="utf-8")
    python = str(Path(session.virtualenv.location) / "bin" / "python")
    argv = ["uv", "pip", "install", "--python", python, "--resolution", OLDEST, "--constraint", str(pinned)]
    session.run(*argv, "--editable", ".[test]")
    # the oldest matplotlib calls functions that the newest pyparsing deprecates; that is not a fault of ours
    session.run("python", "-m", "pytest", "-W", "ignore::DeprecationWarning", *PARALLEL, *session.posargs)


@nox.session(python="3.12")
def shuffled(session: nox.Session) -> None:
    """The test suite in another order at each run; the order's seed is printed."""
    install(session, "test")
    session.install("pytest-random-order")
    session.run("python", "-m", "pytest", *PARALLEL, "--random-order", *session.posargs)


@nox.session(python="3.12", default=False)
def mutation(session: nox.Session) -> None:
    """Whether the tests see small faults in the code; more than an hour, so each week and not for each change."""
    install(session, "test")
    session.install("mutmut==3.8.1")
    session.run("python", "-m", "tools.mutation", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python="3.12")
def dist(session: nox.Session) -> None:
    """Source distribution and wheel, each installed and used outside of the checkout."""
    session.install("build", "twine")
    session.run("python", "-m", "build", "--outdir", "dist", ".")
    built = [str(path.resolve()) for path in sorted(Path("dist").iterdir()) if path.suffix in (".whl", ".gz")]
    session.run("twine", "check", "--strict", *built)
    session.run("python", "tools/install_torch.py", *CONSTRAINED)
    script = str(Path("tools/try_installed.py").resolve())
    constraints = str(Path("constraints.txt").resolve())
    for file in built:
        session.install("--constraint", constraints, "--force-reinstall", "--no-deps", file)
        session.install("--constraint", constraints, file)
        with session.chdir(session.create_tmp()):
            session.run("python", script)


@nox.session(python="3.12", default=False)
def benchmarks(session: nox.Session) -> None:
    """The benchmark gate: not slower than the commit in BASE, by default the one before."""
    install(session, "test")
    base = os.environ.get("BASE") or "HEAD^"
    session.run("python", "-m", "tests.benchmarks.gate", "--base", base, *session.posargs)


@nox.session(python="3.12")
def docs(session: nox.Session) -> None:
    """The site; a warning is an error."""
    session.run("make", "docs", f"PYTHON={sys.executable}", external=True)


@nox.session(python="3.12")
def api(session: nox.Session) -> None:
    """The public names, compared with the last tag."""
    session.run("make", "api", f"PYTHON={sys.executable}", external=True)


if __name__ == "__main__":
    nox.main()
