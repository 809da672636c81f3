"""How the documentation is built: `tox run -e docs`."""

import sys
from pathlib import Path

import genkit

sys.path.insert(0, str(Path(__file__).parent))

project = "genkit"
author = "the authors of genkit"
version = release = genkit.__version__
extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design", "generated", "reference"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `python docs/notebook.py` executes it
html_theme = "furo"
html_static_path = ["_static"]
html_extra_path = ["pages"]  # of studies, as genkit wrote them
html_css_files = ["genkit.css"]
copybutton_prompt_text = "$ "  # what stands behind it is copied; output is not
html_title = f"genkit {release}"
html_show_copyright = False
html_copy_source = False
