"""Sphinx settings: `make docs` builds the pages into docs/build with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fastseq import __version__  # noqa: E402

project = "fastseq"
author = "the fastseq maintainers"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
]
exclude_patterns = ["build"]
suppress_warnings = ["ref.python"]  # attribute names in docstrings that several classes have
html_theme = "furo"
html_title = f"fastseq {release}"
html_static_path = ["_static"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give types, shapes and dtypes
autodoc_default_options = {"members": True, "inherited-members": "object"}
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def examples_as_code(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Show the examples below a command's help as console code."""
    stripped = [line.lstrip("| ") for line in lines]  # sphinx-click makes it a line block
    commands = [line for line in stripped if line.startswith("$ ")]
    if commands:
        lines[:] = ["Examples:", "", ".. code-block:: console", ""]
        lines += [f"   {command}" for command in commands] + [""]


_UNDERLINE = "----------"  # of the headings Parameters and Attributes


def end_of_parameters(
    app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]
) -> None:
    """A second empty line before a paragraph after the parameters, which ends their section for
    napoleon: it would take the words of "Raises …" as parameters."""
    for i in range(len(lines) - 1, 0, -1):
        is_first = lines[i][:1].strip() and not lines[i - 1]
        is_heading = lines[i + 1 : i + 2] == [_UNDERLINE]
        if is_first and not is_heading and " : " not in lines[i] and _UNDERLINE in lines[:i]:
            lines.insert(i, "")


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", end_of_parameters, priority=400)
    app.connect("sphinx-click-process-epilog", examples_as_code)
