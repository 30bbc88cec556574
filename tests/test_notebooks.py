"""The notebooks as files: both halves of a pair agree, and what is committed was executed, in order, without errors."""

import re

import jupytext
import pytest
from readme_picture import PICTURE, ROOT, film_strip

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
def test_executed_on_the_real_mnist(path):
    printed = "".join(output.get("text", "") for cell in code_cells(path) for output in cell.outputs)
    if "load_mnist()" in "".join(cell.source for cell in code_cells(path)):
        assert "MNIST (" in printed and "scikit-learn digits" not in printed


@each_notebook
def test_every_control_has_a_picture_for_viewers_without_widgets(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" in data:
                assert {"image/png", "text/plain"} <= set(data)


@each_notebook
def test_no_path_of_a_machine_in_the_outputs(path):
    assert not re.search(r'"[^"]*/(home|root|work|tmp|Users)/', str([cell.outputs for cell in code_cells(path)]))


@each_notebook
def test_solutions_are_collapsed_and_come_last(path):
    cells = jupytext.read(path).cells
    heading = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Solutions"))
    for i, cell in enumerate(cells):
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        if i > heading:
            assert hidden == (cell.cell_type == "code")
        elif hidden:  # what only draws is folded, for Colab too; what is claimed stays to be seen
            assert cell.metadata.get("cellView") == "form" and "assert " not in cell.source


def test_the_picture_of_the_readme_is_the_one_in_notebook_04():
    assert PICTURE.read_bytes() == film_strip()


def test_the_readme_lists_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\(notebooks/(\w+)\.ipynb\)", readme) == [path.stem for path in NOTEBOOKS]


def test_conda_installs_what_pyproject_names():
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    (installed,) = re.findall(r"- -e \.\[(\w+)\]", environment)
    assert re.search(rf"^{installed} = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
