"""Sphinx's settings for `make site`: it reads what tools/site/pages.py wrote, and needs no kernel."""

import shutil
from pathlib import Path

from furo.navigation import get_navigation_tree

project = "Generative adversarial networks, to touch"
author = "the authors of the notebooks"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
exclude_patterns = ["extra"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
html_theme = "furo"
html_title = project
html_copy_source = False
html_static_path = ["static"]
html_css_files, html_js_files = ["site.css"], ["controls.js"]
html_show_sphinx = False


def setup(app):
    app.connect("config-inited", lambda app, config: config.html_extra_path.append(str(Path(app.srcdir) / "extra")))
    app.connect("build-finished", no_mathjax_that_nobody_loads, priority=900)  # after it was copied
    app.connect("html-page-context", complete, priority=600)  # after Furo's own


def complete(app, page, template, context, doctree):
    """Put sections into Furo's side bar, which names pages only, and right what a screen reader would read wrongly."""
    tree = context["toctree"](collapse=False, titles_only=False, maxdepth=2, includehidden=True)
    tree = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    context["furo_navigation_tree"] = get_navigation_tree(tree)
    context["body"] = context.get("body", "").replace(' aria-label="Toggle hidden content"', "")


def no_mathjax_that_nobody_loads(app, error):
    """Of MathJax's 24 MB, keep the program that the pages name and the folders from which it loads more."""
    for path in (Path(app.outdir) / "_static" / "mathjax").glob("*"):
        if path.name not in (Path(app.config.mathjax_path).name, "a11y", "input", "output", "sre", "ui"):
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)
