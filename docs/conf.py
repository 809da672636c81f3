"""How the documentation is built: `tox run -e docs`."""

import sys
from pathlib import Path

import genkit

sys.path.insert(0, str(Path(__file__).parent))

project = "genkit"
author = "the authors of genkit"
version = release = genkit.__version__
extensions = ["myst_parser", "generated"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"genkit {release}"
html_show_copyright = False
html_copy_source = False
