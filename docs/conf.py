"""The documentation site: `python -m sphinx -W docs docs/_build/html`, and `-b man` for the manual page."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from b2d._version import __version__

project = "b2d"
author = "The b2d authors"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "b2d_reference"]
exclude_patterns = ["_build", "_ext"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
highlight_language = "sh"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"b2d {release}"
html_copy_source = False
html_show_sphinx = False

man_pages = [("man", "b2d", "a Docker host with one command", [author], 1)]
man_show_urls = False
