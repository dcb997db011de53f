"""How the documentation site is built: ``make docs``."""

from pathlib import Path
from typing import get_origin

import biosegment

project = "BioSegment"
author = "The BioSegment developers"
project_copyright = author
version = release = biosegment.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_copybutton",
]
exclude_patterns = ["results/*", "reference/*/modules.rst"]
# Modules name their sources at the end, without a mark in the text.
suppress_warnings = ["ref.citation"]
# Links to headings, as other programs that show Markdown make them.
myst_heading_anchors = 4

ROOT = Path(__file__).parent.parent
# Commands have their own help, errors are shown with their package, and the rest does something
# when it is imported.
UNDOCUMENTED = (
    "biosegment/cli/*",
    "biosegment/errors/[a-z]*",
    "biosegment/label_studio_settings.py",
    "ml_backend/wsgi.py",
    "*/testing.py",
)
apidoc_modules = [
    {
        "path": str(ROOT / package),
        "destination": f"reference/{package}",
        "exclude_patterns": [str(ROOT / each) for each in UNDOCUMENTED],
        "max_depth": 3,
        "automodule_options": {"members", "show-inheritance"},
    }
    for package in ("biosegment", "importers", "exporters", "ml_backend")
]
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "BioSegment"
html_copy_source = False


def _skip(app, what, name, obj, skip, options):  # noqa: ANN001, ANN202
    """Leave out names of types: numpydoc takes them for classes, and fails."""
    return True if get_origin(obj) else None


def setup(app):  # noqa: ANN001, ANN201, D103
    app.connect("autodoc-skip-member", _skip)
