"""Puts configs/ of the checkout into the wheel as cnn_lstm/configs; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Copies the configurations into the package when it is built; an editable install finds them in the checkout."""

    def run(self) -> None:
        """Builds the package, then copies."""
        super().run()
        if self.editable_mode:
            return
        for file in sorted(Path("configs").rglob("*.yaml")):
            target = Path(self.build_lib) / "cnn_lstm" / file
            self.mkpath(str(target.parent))
            self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": WithConfigs})
