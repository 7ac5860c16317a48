"""Sphinx settings."""

import mambattn

project = "mambattn"
author = "The mambattn developers"
release = version = mambattn.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
numpydoc_show_class_members = False
autosummary_generate = True
autodoc_typehints = "none"
default_role = "code"
html_theme = "furo"
html_title = f"mambattn {release}"
exclude_patterns = ["_build"]
suppress_warnings = ["ref.ref"]  # inherited scikit-learn docstrings point into its own manual
