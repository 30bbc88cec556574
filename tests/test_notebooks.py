"""The notebooks as files: both halves of a pair agree, and what is committed was executed, in order, without errors."""

import ast
import re

import jupytext
import pytest
from notebook_parts import is_control
from PIL import Image, ImageChops, ImageSequence
from readme_picture import PICTURE, ROOT, film_of_notebook_04

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
TEXTS = sorted((ROOT / "notebooks" / "text").glob("[0-9]*.md"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "code" and cell.source.strip()]


def test_every_notebook_has_its_text_and_every_text_its_notebook():
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in TEXTS] != []


@each_notebook
def test_the_pair_agrees(path):
    def content(half):
        return [(cell.cell_type, cell.source, cell.metadata.get("tags"), cell.metadata.get("jupyter"))
                for cell in jupytext.read(half).cells]

    assert content(path) == content(path.parent / "text" / f"{path.stem}.md")


@each_notebook
def test_executed_in_order_without_errors_or_logs(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


@each_notebook
def test_opening_it_in_jupyterlab_changes_nothing(path):
    """JupyterLab writes the kernel's name as the kernel gives it."""
    assert jupytext.read(path).metadata.kernelspec.display_name == "Python 3 (ipykernel)"


@each_notebook
def test_executed_on_the_real_mnist(path):
    printed = "".join(output.get("text", "") for cell in code_cells(path) for output in cell.outputs)
    if "load_mnist()" in "".join(cell.source for cell in code_cells(path)):
        assert "MNIST (" in printed and "scikit-learn digits" not in printed


@each_notebook
def test_a_picture_and_its_sentence_stand_for_each_control(path):
    notebook = jupytext.read(path)
    assert "widgets" not in notebook.metadata and "widget-view" not in str([cell.outputs for cell in code_cells(path)])
    for cell in code_cells(path):
        if any(map(is_control, ast.parse(cell.source).body)):
            stills = [output.data for output in cell.outputs if output.output_type == "execute_result"]
            assert len(stills) == 1 and {"image/png", "text/plain"} == set(stills[0])


@each_notebook
def test_no_path_of_a_machine_in_the_outputs(path):
    assert not re.search(r'"[^"]*/(home|root|work|tmp|Users)/', str([cell.outputs for cell in code_cells(path)]))


@each_notebook
def test_cells_are_few_and_their_lines_need_no_scrolling(path):
    cells = code_cells(path)
    assert len(cells) <= 46
    assert [line for cell in cells for line in cell.source.splitlines() if len(line) > 88] == []


@each_notebook
def test_solutions_are_collapsed_and_come_last(path):
    cells = jupytext.read(path).cells
    heading = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Solutions"))
    for i, cell in enumerate(cells):
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        plumbing = cell.source.startswith("#@title ")  # folded, too, under a title that says what it does
        assert hidden == (cell.cell_type == "code" and (i > heading or plumbing))
        assert not plumbing or cell.metadata.get("cellView") == "form"


def test_the_picture_of_the_readme_is_the_film_of_notebook_04():
    shown = [frame.convert("L") for frame in ImageSequence.Iterator(Image.open(PICTURE))]
    film = [frame.convert("L") for frame, _ in film_of_notebook_04()]
    assert len(shown) == len(film) > 20 and PICTURE.stat().st_size < 2e6
    assert not any(ImageChops.difference(*frames).getbbox() for frames in zip(shown, film))


@pytest.mark.parametrize("table", sorted((ROOT / "benchmarks").glob("*.csv")), ids=lambda path: path.name)
def test_what_a_benchmark_wrote_stands_in_a_notebook_unchanged(table):
    assert any(table.read_text("utf-8").strip() in text.read_text("utf-8") for text in TEXTS)


def test_the_readme_lists_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\(notebooks/(\w+)\.ipynb\)", readme) == [path.stem for path in NOTEBOOKS]


def test_conda_installs_what_pyproject_names():
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    (installed,) = re.findall(r"- -e \.\[(\w+)\]", environment)
    assert re.search(rf"^{installed} = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
