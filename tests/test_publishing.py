"""What is made from the notebooks for Colab, and what leads there; for the web pages see test_site.py."""

import subprocess
import sys

import nbformat
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


def test_colabs_notebooks_carry_the_helpers_and_all_else_unchanged(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "tools/colab.py"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for path in NOTEBOOKS:
        ours = nbformat.read(path, as_version=4)
        colabs = nbformat.read(ROOT / "dist" / "colab" / path.name, as_version=4)
        nbformat.validate(colabs)
        title, helper, *rest = colabs.cells
        assert title.source == ours.cells[0].source and helper.metadata.cellView == "form"
        monkeypatch.chdir(tmp_path)
        exec(helper.source, {})
        assert (tmp_path / "gan_lib.py").read_bytes() == (ROOT / "gan_lib.py").read_bytes()
        for mine, its in zip(ours.cells[1:], rest, strict=True):
            assert its.source.removeprefix("#@title Solution (double-click to see the code)\n") == mine.source
            assert WIDGET not in str(its.get("outputs", ""))


def test_badges_stand_where_a_public_repository_is_named_and_only_there():
    has_urls = "[project.urls]" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *(ROOT / "notebooks" / "text").glob("[0-9]*.md")]:
        assert ("colab-badge" in path.read_text(encoding="utf-8")) == has_urls
