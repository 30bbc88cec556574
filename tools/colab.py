"""Write one self-contained notebook for each of ours into dist/colab: to upload to Colab, with nothing beside it.

The first cell, collapsed, writes gan_lib.py into the folder where the notebook runs.
"""

from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]


def helper_cell():
    source = (ROOT / "gan_lib.py").read_text(encoding="utf-8")
    assert "'''" not in source, "gan_lib.py has to fit between triple single quotes"
    return nbformat.v4.new_code_cell(
        "#@title Run this first: it writes the helpers, gan_lib.py, beside the notebook\n"
        "from pathlib import Path\n"
        f"_ = Path('gan_lib.py').write_text(r'''{source}''', encoding='utf-8')",
        id="gan-lib", metadata={"cellView": "form", "jupyter": {"source_hidden": True}})


def self_contained(notebook):
    """The notebook with the helpers in front, and collapsed in Colab's way what is collapsed in Jupyter's."""
    for cell in notebook.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.source = f"#@title Solution (double-click to see the code)\n{cell.source}"
            cell.metadata["cellView"] = "form"
    notebook.cells.insert(1, helper_cell())
    return notebook


def main():
    folder = ROOT / "dist" / "colab"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        nbformat.write(self_contained(nbformat.read(path, as_version=4)), folder / path.name)
        print(folder.relative_to(ROOT) / path.name)


if __name__ == "__main__":
    main()
