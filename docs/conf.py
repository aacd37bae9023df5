"""The site of the guide: make docs."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

project = "cnn_lstm"
author = copyright = "The cnn_lstm developers"  # the footer of each page shows it
release = version = version_of("cnn-lstm")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["recompute", "tuning/*.py", "reports/*.md", "site"]
root_doc = "index"
nitpicky = False

# -- pages -------------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# a notebook runs when its code has changed, in an empty folder; a cell that fails ends the build
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 600  # seconds for a cell
nb_execution_raise_on_error = True
nb_merge_streams = True
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm's, of a kernel without ipywidgets
copybutton_prompt_text = ">>> "

# -- a list of the pages for language models ---------------------------------------------------------------------------


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("build-finished", write_llms)


def write_llms(app: Sphinx, error: Exception | None) -> None:
    """Writes llms.txt out of the list of the guide: each page with what it is about, and its text as Markdown."""
    guide = (Path(app.srcdir) / "README.md").read_text(encoding="utf-8")
    items = re.findall(r"^\d+\. (.*(?:\n {3,}.*)*)", guide, re.MULTILINE)
    lines = [re.sub(r"\s+", " ", item).replace(".md)", ".md.txt)").replace("](", "](_sources/") for item in items]
    summary = "Forecasts of market series with PyTorch Lightning, and whether they beat simple ones."
    text = "\n".join([f"# {project}", "", f"> {summary}", "", "## Guide", "", *(f"- {line}" for line in lines), ""])
    (Path(app.outdir) / "llms.txt").write_text(text, encoding="utf-8")


# -- reference ---------------------------------------------------------------------------------------------------------

default_role = "code"  # docstrings write `name` as Markdown does
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "undoc-members": False, "exclude-members": "training"}
napoleon_numpy_docstring = False
napoleon_use_admonition_for_examples = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# -- look --------------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"cnn_lstm {release}"
html_static_path = ["_static"]
html_css_files = ["notebooks.css"]
html_extra_path = ["reports"]
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#1f4e9d", "color-brand-content": "#1f4e9d"},
    "dark_css_variables": {"color-brand-primary": "#8db4f5", "color-brand-content": "#8db4f5"},
}
