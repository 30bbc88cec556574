"""Leave out of the executed notebooks what takes a running kernel: a picture stands for each control until it is run.

Without this, JupyterLab, nbconvert and others look for a control that is not there, in place of its picture.
"""

from pathlib import Path

import nbformat

WIDGET = "application/vnd.jupyter.widget-view+json"


def main():
    for path in sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                output.get("data", {}).pop(WIDGET, None)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
