"""The README's picture is the film of notebook 04, as an animated WebP; run as a program, write it anew."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "noise_to_digits.webp"


def scenes(output):
    """(picture, title) for each frame of the film that an output of a cell shows; none where it shows no film."""
    found = re.search(r"scenes = (\[\[.*?\]\]), last", output.get("data", {}).get("text/html", ""))
    frames = json.loads(found[1]) if found else []
    return [(Image.open(io.BytesIO(base64.b64decode(png))), title) for png, title in frames]


def film_of_notebook_04():
    """(picture, title) for each of its frames."""
    notebook = nbformat.read(ROOT / "notebooks" / "04_training.ipynb", as_version=4)
    film, = filter(None, (scenes(output) for cell in notebook.cells for output in cell.get("outputs", ())))
    return film


def write():
    first, *others = (picture.convert("L") for picture, _ in film_of_notebook_04())
    durations = [120] * len(others) + [4000]  # ms: it ends with digits, to look at
    first.save(PICTURE, save_all=True, append_images=others, duration=durations, loop=0, lossless=True, method=6)


if __name__ == "__main__":
    write()
