"""The site of the guide: make docs."""

from __future__ import annotations

import os
from importlib.metadata import version as version_of

project = "cnn_lstm"
author = "The cnn_lstm developers"
release = version = version_of("cnn-lstm")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
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
