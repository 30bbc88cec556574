"""Sphinx's settings for `make site`: the README and the executed notebooks as web pages, rendered without a kernel."""

project = "Generative adversarial networks, to touch"
author = "the authors of the notebooks"
root_doc = "README"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
include_patterns = ["README.md", "CONTRIBUTING.md", "LICENSE", "notebooks/*.ipynb"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
suppress_warnings = ["myst.header", "myst.xref_missing", "mystnb.unknown_mime_type"]
html_theme = "furo"
html_title = project
html_extra_path = ["../../LICENSE"]
html_copy_source = False


def setup(app):
    """No page stands in a table of contents: the README's own table leads to the notebooks."""
    app.connect("doctree-read", lambda app, _: app.env.metadata[app.env.docname].update(orphan=True))
