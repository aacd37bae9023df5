"""Splits what `uv pip compile` resolved into requirements.lock and requirements-cuda.lock: `make lock`.

The libraries of CUDA, of which torch's build for Linux needs 3 GB, are in a file of their own. The hashes of builds of
torch for CPUs alone, which lie in an index of their own, are those that requirements.lock has already.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CUDA = re.compile(r"(nvidia-(?!ml-py)|cuda-|triton)")
HEADS = {
    "requirements.lock": """\
# Every file of the versions in constraints.txt and of what they need, with its SHA-256; `make locked` installs it.
# The libraries of CUDA are in requirements-cuda.lock. The first hash of torch is that of its build for CPUs alone
# (Python 3.11, Linux x86-64).
""",
    "requirements-cuda.lock": """\
# The libraries of CUDA that torch's build for Linux needs, with their SHA-256; not for its build for CPUs alone.
""",
}


def entries(text: str) -> list[str]:
    """The requirements of a lock, each with its lines of hashes."""
    return [f"{entry.strip()}\n" for entry in re.split(r"\n(?=[^\s#])", f"\n{text}") if "==" in entry.split("\n")[0]]


def hash_of_cpu_build(lock: str) -> str:
    """The first hash of torch in requirements.lock."""
    (torch,) = [entry for entry in entries(lock) if entry.startswith("torch==")]
    return torch.split("\n")[1].strip(" \\")


def main() -> None:
    """Writes both files from the one that is named."""
    folder = Path(__file__).resolve().parents[1]
    cpu = hash_of_cpu_build((folder / "requirements.lock").read_text())
    found = entries(Path(sys.argv[1]).read_text())
    cuda = [entry for entry in found if CUDA.match(entry)]
    rest = [entry for entry in found if not CUDA.match(entry)]
    rest = [re.sub(r"^(torch==\S+ \\\n)", rf"\1    {cpu} \\\n", entry) if cpu not in entry else entry for entry in rest]
    for (name, head), part in zip(HEADS.items(), (rest, cuda), strict=True):
        (folder / name).write_text(head + "".join(part))


if __name__ == "__main__":
    main()
