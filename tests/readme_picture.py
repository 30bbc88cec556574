"""The README's picture is the output of the cell tagged `film` in notebook 04; run as a program, write it anew."""

import base64
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "noise_to_digits.png"


def film_strip():
    """The PNG that the tagged cell put out, as bytes."""
    notebook = nbformat.read(ROOT / "notebooks" / "04_training.ipynb", as_version=4)
    cell, = (cell for cell in notebook.cells if "film" in cell.metadata.get("tags", []))
    png, = (output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
    return base64.b64decode(png)


if __name__ == "__main__":
    PICTURE.write_bytes(film_strip())
