"""Install PyTorch into the environment of this interpreter, without gigabytes of CUDA where no GPU could use them.

python tools/install_torch.py --constraint constraints.txt [--build auto|cpu|default]

PyTorch's default build for Linux brings CUDA. Where no NVIDIA driver is found, uv picks the build for CPUs. If uv or
its index cannot be reached, pip takes what the index of the user has. The last line says which build was installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "install", "--quiet"]
# of an index that cannot be reached, we want to hear soon
PATIENCE = {"UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"}


def main() -> None:
    """Installs PyTorch unless it is there, and says which build there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constraint", required=True, metavar="FILE", help="versions, as for pip")
    parser.add_argument(
        "--build", choices=["auto", "cpu", "default"], default="auto", help="auto: what fits the machine"
    )
    options = parser.parse_args()
    wanted = ["--constraint", options.constraint, "torch"]
    small = options.build == "cpu" or (options.build == "auto" and cuda_is_needless())
    if version() is None:
        print("installing PyTorch, then the other packages: pip is silent for some minutes", flush=True)
        if not (small and by_uv(wanted)):
            subprocess.run([*PIP, *wanted], check=True)
    print(f"torch {version()}: {build()}")


def version() -> str | None:
    """The version that is installed; None if there is none."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def cuda_is_needless() -> bool:
    """Whether the default build would bring CUDA for nothing: on Linux without an NVIDIA driver."""
    return sys.platform == "linux" and not has_driver()


def has_driver() -> bool:
    """Whether an NVIDIA driver is installed."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def by_uv(wanted: list[str]) -> bool:
    """Installs the build for CPUs by uv; False where that cannot be done."""
    if subprocess.run([*PIP, "uv"], capture_output=True, check=False).returncode:
        return False
    argv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    done = subprocess.run(
        [*argv, "--torch-backend=cpu", *wanted], capture_output=True, env=os.environ | PATIENCE, check=False
    )
    return done.returncode == 0


def build() -> str:
    """What the installed version is built for, in words."""
    found = "an NVIDIA driver was found" if has_driver() else "no NVIDIA driver was found"
    if (version() or "").endswith("+cpu"):
        return f"the build for CPUs ({found})"
    if sys.platform != "linux":
        return "the default build"
    remedy = "" if has_driver() else "; docs/install.md says how to take the smaller build for CPUs"
    return f"the default build, which brings CUDA ({found}{remedy})"


if __name__ == "__main__":
    main()
