"""Sphinx's settings: all Markdown pages of the repository as one site, `make docs`. A link to nothing fails."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project, author = "toconv", "the toconv authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md"]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"] + ["docs/_build"]
html_theme = "furo"
html_title = "toconv"
highlight_language = "text"  # of blocks that name none
myst_heading_anchors = 3
default_role = "code"  # of docstrings, which are Markdown
autoclass_content = "both"  # what __init__ says too
autodoc_typehints = "none"
autodoc_mock_imports = ["transformers"]  # ten seconds
