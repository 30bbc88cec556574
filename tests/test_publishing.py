"""What is made from the notebooks for others: files for Colab, and web pages."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest
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


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of `make site`, made from a copy of what git knows."""
    source, pages = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("pages")
    for name in "README.md", "CONTRIBUTING.md", "LICENSE", "noise_to_digits.png", "notebooks", "tools":
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, source / name)
    settings = source / "tools" / "site"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "-c", settings, source, pages]
    subprocess.run(command, check=True)
    return pages


def test_the_site_shows_a_picture_where_a_control_would_be(site):
    for path in NOTEBOOKS:
        page = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        expected = sum("image/png" in output.get("data", {})
                       for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", ()))
        assert page.count("<img") >= expected > 0 and WIDGET not in page


def test_the_film_plays_on_the_site_and_the_readme_leads_to_every_notebook(site):
    film = (site / "notebooks" / "04_training.html").read_text(encoding="utf-8")
    assert "▶ Play" in film and len(re.findall(r'\["iVBOR', film)) > 20
    readme = (site / "README.html").read_text(encoding="utf-8")
    assert re.findall(r'href="notebooks/(\w+)\.html"', readme) == [path.stem for path in NOTEBOOKS]


def test_badges_stand_where_a_public_repository_is_named_and_only_there():
    has_urls = "[project.urls]" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *(ROOT / "notebooks" / "text").glob("[0-9]*.md")]:
        assert ("colab-badge" in path.read_text(encoding="utf-8")) == has_urls
