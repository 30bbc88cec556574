"""Write what Sphinx makes the site of: a front page, and the executed notebooks as pages to read without a kernel.

    python tools/site/pages.py dist/controls dist/pages

In the pages a control that tools/site/controls.py has drawn moves, every picture has an alternative text, helpers and
solutions are folded, and each notebook can be downloaded with the helpers in it.
"""

import ast
import base64
import html
import io
import re
import sys
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
from colab import self_contained  # noqa: E402
from controls import script  # noqa: E402
from notebook_parts import is_control  # noqa: E402
from readme_picture import film_of_notebook_04, scenes  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# -- words -------------------------------------------------------------------------------------------------------


def plain(markdown):
    """Markdown as it would be read aloud, without tables, headings and displayed formulas."""
    text = re.sub(r"\$\$.*?\$\$", "", markdown, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>|^(?:#|\|).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\\(?:text|mathrm|mathbb)\b|\\[,;!| ]|[{}$*`]", "", text)
    return " ".join(re.sub(r"\\([a-zA-Z]+)", r"\1", text).split()).replace("<", "less than ")


def sentences(markdown):
    return re.split(r"(?<=[.?!:]) +(?=[A-Z*\"“(])", plain(markdown))


def alternative_texts(cells):
    """For each cell what its picture shows: in the notebooks a picture is announced before, and read after it."""
    texts = []
    for i, _ in enumerate(cells):
        before = next((cell.source for cell in reversed(cells[:i]) if cell.cell_type == "markdown"), "")
        after = cells[i + 1].source if cells[i + 1:] and cells[i + 1].cell_type == "markdown" else ""
        texts.append(" ".join([*sentences(before)[-2:], *sentences(after)[:2 if after else 0]]).strip())
    return texts


def question(notebook):
    return re.search(r"^\*\*(.+\?)\*\*$", notebook.cells[0].source + "\n" + notebook.cells[1].source, re.MULTILINE)[1]


def title(notebook):
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


# -- pages -------------------------------------------------------------------------------------------------------


def write_picture(name, picture, alt, folder, up="../"):
    """Write a picture into the site, and return the tag that shows it on a page."""
    buffer = io.BytesIO()
    picture.save(buffer, "webp", lossless=True, method=4)
    write(folder / f"extra/{name}", buffer.getvalue())
    width, height = (round(pixels / 1.1) for pixels in picture.size)  # the notebooks' pictures have 110 to the inch
    return f'<img src="{up}{name}" alt="{html.escape(alt)}" width="{width}" height="{height}" loading="lazy">'


def where_to_run(stem, repository):
    links = [(f"../downloads/{stem}.ipynb", "Download this notebook")]
    if repository:
        path = repository.removeprefix("https://github.com/")
        links += [(f"https://colab.research.google.com/github/{path}/blob/gh-pages/downloads/{stem}.ipynb",
                   "Open in Colab"),
                  (f"https://mybinder.org/v2/gh/{path}/HEAD?labpath=notebooks/{stem}.ipynb", "Open in Binder")]
    return '<p class="run">' + "".join(f'<a href="{url}">{text}</a>' for url, text in links) + "</p>"


def repository():
    """The address on GitHub that pyproject.toml names, if it does."""
    found = re.search(r"\[project\.urls\][^[]*?(https://github\.com/[^/\"]+/[^/\"]+)",
                      (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found and found[1].removesuffix(".git")


def page(stem, notebook, controls, folder):
    """Write a notebook as a page, and return the picture that stands for it on the front page.

    That is the one of the cell tagged `front`, or else the first.
    """
    cells, alts = notebook.cells, alternative_texts(notebook.cells)
    number_of_pictures = number_of_controls = 0
    front = None
    for cell, about in zip(cells, alts):
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"^(?!<).*$", lambda line: re.sub(
                r"(?<!\[)\b([Nn]otebook) (\d\d)\b", link_to_notebook, line[0]), cell.source, flags=re.MULTILINE)
            continue
        tags = cell.metadata.setdefault("tags", [])
        hidden = cell.metadata.get("jupyter", {})
        if hidden.get("source_hidden"):
            tags += {"hide-cell" if hidden.get("outputs_hidden") else "hide-input"} - set(tags)
            name = cell.source.startswith("#@title ") and cell.source.splitlines()[0].removeprefix("#@title ")
            cell.metadata["mystnb"] = {"code_prompt_show": name or "Show the code",
                                       "code_prompt_hide": name or "Hide the code"}
        moves = any(map(is_control, ast.parse(cell.source).body))
        number_of_controls += moves
        pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        for i, output in enumerate(pictures, start=1):
            number_of_pictures += 1
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            alt = output.data["text/plain"] if moves else about
            if len(pictures) > 1:
                alt = f"Picture {i} of {len(pictures)}. {alt}"
            tag = write_picture(f"pictures/{stem}-{number_of_pictures}.webp", picture, alt, folder)
            if front is None or "front" in tags:
                front = tag.replace("../", "")
            drawn = controls / f"{stem}-{number_of_controls}.js"
            if moves and drawn.exists():
                write(folder / f"extra/controls/{drawn.name}", drawn.read_bytes())
                tag = f'<div class="control" data-drawn="../controls/{drawn.name}">{tag}</div>'
            output.data, output.metadata = {"text/html": tag}, {}
        for output in cell.outputs:
            if frames := scenes(output):
                output.data = {"text/html": film(f"{stem}-film", frames, folder)}
    cells.insert(1, nbformat.v4.new_markdown_cell(where_to_run(stem, repository()), id="where-to-run"))
    write(folder / f"notebooks/{stem}.ipynb", nbformat.writes(notebook))
    return front


def film(name, frames, folder, up="../", attributes=""):
    """A film with the player of the controls, which takes a third of what the film in the notebook takes."""
    last = len(frames) - 1
    knob = {"label": "frame", "kind": "film", "values": [f"{i} of {last}" for i in range(last + 1)], "at": last}
    shown = [(picture.convert("RGB"), f"Pictures: {title}.") for picture, title in frames]
    write(folder / f"extra/controls/{name}.js", script(name, "", [knob], shown))
    still = write_picture(f"pictures/{name}.webp", frames[-1][0], shown[-1][1], folder, up)
    return f'<div class="control" data-drawn="{up}controls/{name}.js"{attributes}>{still}</div>'


def link_to_notebook(mention):
    path = next((path for path in NOTEBOOKS if path.name.startswith(mention[2])), None)
    return f"[{mention[0]}]({path.name})" if path else mention[0]


def front_page(readme, cards, folder):
    """The README's first screen, with a film that can be stopped in place of its picture, and all notebooks."""
    moving = film("front-film", film_of_notebook_04(), folder, up="", attributes=" data-play")
    opening = re.sub(r"!\[.*\]\(.*\)", lambda _: moving, readme.partition("\n## ")[0])
    items = "\n".join(f'<li><a href="notebooks/{stem}.html">{html.escape(name)}</a><p>{html.escape(asks)}</p>'
                      f"{picture}</li>" for stem, name, asks, picture in cards)
    pages = "\n".join(f"{name} <notebooks/{stem}>" for stem, name, *_ in cards)
    return f"""{opening}
<ul class="cards">
{items}
</ul>

```{{toctree}}
:hidden:
:caption: The notebooks

{pages}
```

```{{toctree}}
:hidden:
:caption: Beside them

terms
Run them yourself <README>
CONTRIBUTING
```
"""


def main(controls, folder):
    cards = []
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        cards.append((path.stem, f"{path.stem[:2]} {title(notebook)}", question(notebook),
                      page(path.stem, notebook, controls, folder)))
        carried = self_contained(nbformat.read(path, as_version=4))
        write(folder / f"extra/downloads/{path.name}", nbformat.writes(carried))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    write(folder / "index.md", front_page(readme, cards, folder))
    write(folder / "README.md", "# Run them yourself\n\n## " + readme.partition("\n## ")[2])
    write(folder / "terms.md", (Path(__file__).parent / "terms.md").read_bytes())
    for name in "CONTRIBUTING.md", "LICENSE":
        write(folder / name, (ROOT / name).read_bytes())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
