"""Settings of the documentation site: `make docs`. Nothing here needs the network, and the pages need none either."""

import sys
from pathlib import Path

import upstairs

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "upstairs"
author = "the upstairs contributors"
copyright = author
release = version = upstairs.__version__

extensions = [
    "formulas",
    "pages",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_ext", "tutorials"]
templates_path = ["_templates"]

# Pages
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "upstairs"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "pictures"
smartquotes = False  # quotes in the reference are those of code
pygments_style = "friendly"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Reference
default_role = "py:obj"
add_module_names = False
autosummary_generate = True
autodoc_typehints = "none"  # types stand in the docstrings, with their shapes and units
autodoc_member_order = "groupwise"
autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseEstimator, ClassifierMixin, RegressorMixin, Family",
    "exclude-members": "get_metadata_routing, set_fit_request, set_partial_fit_request, set_predict_request, set_score_request",
}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Tutorials: run by every build
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "_tutorials",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),  # only what is printed or drawn
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}
