"""Draw the notebooks' controls beforehand, at a grid of their settings, for pages on which no kernel runs.

    python tools/site/controls.py dist/controls           # what changed since it was drawn last
    python tools/site/controls.py dist/controls 01_meet   # only these notebooks

Each control becomes one file of JavaScript, NOTEBOOK-NUMBER.js: its knobs with their values, and for each setting a
picture and a sentence.  Of a picture only what differs from the first one is stored.  A file begins with a digest of
all statements that it takes, in the notebook and in gan_lib.py, so that only what changed is drawn anew.
"""

import argparse
import ast
import base64
import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from notebook_parts import TEXTS, is_control, needed_by, run, statements  # noqa: E402

MOST_SETTINGS = 700  # of a control
MOST_BYTES = 3_000_000  # of its file

# What to show of a live control, found by the name of its draw function: slices to a picture, and its runs.
LIVE = {
    "draw_and_say": (2, {"careful: the knobs as they come": {},
                         "both hasty: learning rates of 0.02": {"police": 0.02, "press": 0.02},
                         "only the police hasty": {"police": 0.02}}),
    "draw_laboratory": (2, {"logistic: the knobs as they come": {}, "logistic with R1, γ = 0.1": {"r1": 0.1},
                            "Wasserstein, five steps of D": {"loss": "wasserstein", "d_steps": 5}}),
}
LIVE_PICTURES = 50


def missing_in(folder, stem, program, most):
    """The controls of a notebook's program that are not drawn yet: statement -> (its file, digest of what it takes)."""
    library = ast.parse((ROOT / "gan_lib.py").read_text(encoding="utf-8")).body
    here, missing = Path(__file__).read_text(encoding="utf-8"), {}
    for number, control in enumerate(filter(is_control, program), start=1):
        earlier = [other for other in program[:program.index(control)] if getattr(other, "module", "") != "gan_lib"]
        takes = [ast.unparse(statement) for statement in (*needed_by(control, library + earlier), control)]
        digest = hashlib.sha256("\n".join([here, str(most), *takes]).encode()).hexdigest()
        path = folder / f"{stem}-{number}.js"
        if not path.exists() or path.open(encoding="utf-8").readline() != f"// {digest}\n":
            missing[control] = path, digest
    return missing


# -- the grid ----------------------------------------------------------------------------------------------------


def is_slider(widget):
    return hasattr(widget, "step")


def values_of(widget, step=None):
    """What a widget can be set to; for a slider the multiples of `step`, its ends, and where it begins."""
    if hasattr(widget, "options"):
        return list(range(len(widget.options)))
    if not is_slider(widget):
        return [False, True]
    if step is None:
        count = round((widget.max - widget.min) / widget.step)
        values = [widget.min + i * widget.step for i in range(count + 1)]
    else:
        multiples = range(math.ceil(widget.min / step - 1e-9), math.floor(widget.max / step + 1e-9) + 1)
        values = [widget.min, widget.value, widget.max, *(i * step for i in multiples)]
    return sorted({type(widget.value)(round(value, 9)) for value in values})


def coarser_steps(widget):
    """Round numbers that are multiples of a slider's step, and fit at least twice between its ends."""
    round_numbers = (digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 2.5, 5))
    return [step for step in round_numbers if widget.step * 1.01 < step <= (widget.max - widget.min) / 2
            and math.isclose(step / widget.step, round(step / widget.step))]


def grid(widgets, most):
    """Name -> values, at most so many combinations: whichever slider has the most values takes larger steps."""
    values = {name: values_of(widget) for name, widget in widgets.items()}
    steps = {name: coarser_steps(widget) for name, widget in widgets.items() if is_slider(widget)}
    while math.prod(map(len, values.values())) > most and any(steps.values()):
        name = max((name for name in steps if steps[name]), key=lambda name: len(values[name]))
        values[name] = values_of(widgets[name], steps[name].pop(0))
    return values


def put(widget, value):
    attribute = "index" if hasattr(widget, "options") else "value"
    if getattr(widget, attribute) != value:
        setattr(widget, attribute, value)


def knob(widget, values):
    """What the page has to know of a knob: its label, its kind, the names of its values, and where it begins."""
    if hasattr(widget, "options"):
        kind = "range" if type(widget).__name__ == "SelectionSlider" else "select"
        names = [str(option[0] if isinstance(option, tuple) else option) for option in widget.options]
        begins = widget.index
    else:
        kind = "range" if is_slider(widget) else "checkbox"
        names, begins = [f"{value:g}" for value in values], values.index(widget.value)
    return {"label": widget.description, "kind": kind, "values": names, "at": begins}


# -- the pictures ------------------------------------------------------------------------------------------------


def grid_of_pictures(control, most):
    """The knobs, and (picture, sentence) for each setting, the last knob running fastest."""
    widgets = control.controls
    values = grid(widgets, most)
    knobs = [knob(widgets[name], values[name]) for name in values]
    scenes = []
    for setting in itertools.product(*values.values()):
        for name, value in zip(values, setting):
            put(widgets[name], value)
        scenes.append((picture_of(control), control.said))
    return knobs, scenes


def film_of_runs(control, draw, pictures):
    """The same for a live control: its knobs are which run is shown, and the moment."""
    slices, runs = LIVE.get(draw, (5, {"the knobs as they come": {}}))
    first, scenes = control.values, []
    for setting in runs.values():
        for name, value in (first | setting).items():
            control.controls[name].value = value
        control.reset()
        scenes.append((picture_of(control), control.said))
        for _ in range(pictures):
            for _ in range(slices - 1):  # those that nobody sees
                control._advance(control.run, **control.values)
            control.step()
            scenes.append((picture_of(control), control.said))
    moments = [f"{i} of {pictures}" for i in range(pictures + 1)]
    return [{"label": "run", "kind": "select", "values": list(runs), "at": 0},
            {"label": "moment", "kind": "film", "values": moments, "at": 0}], scenes


def picture_of(control):
    return Image.open(io.BytesIO(control.png)).convert("RGB")


def posterised(picture):
    """A picture with sixteen levels of each colour: as good to look at, and half as large."""
    return picture.convert("RGB").point([(level + 8) // 17 * 17 for level in range(256)] * 3)


def webp(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "webp", **options)
    return base64.b64encode(buffer.getvalue()).decode()


def what_differs(picture, first, quality):
    """A WebP of what differs from the first picture, transparent elsewhere; if that is long, of all, not exactly."""
    coarse = posterised(picture)
    red, green, blue = ImageChops.difference(coarse, first).split()
    changed = ImageChops.lighter(ImageChops.lighter(red, green), blue).point(lambda level: 255 * (level > 0))
    # With three more pixels all round, so that no edge shows where a page scales it.
    changed = changed.filter(ImageFilter.BoxBlur(3)).point(lambda level: 255 * (level > 0))
    only = Image.new("RGBA", picture.size)
    only.paste(coarse, mask=changed)
    exact = webp(only, lossless=True, method=4)
    if len(exact) < 12_000:
        return exact
    lossy = webp(picture, quality=quality)  # maps in sixteen levels have steps that one sees
    return lossy if len(lossy) < 1.3 * len(exact) else exact


def script(name, digest, knobs, scenes, quality=70):
    first = posterised(scenes[0][0])
    data = {"knobs": knobs, "size": first.size, "first": webp(first, lossless=True, method=4),
            "pictures": [what_differs(picture, first, quality) for picture, _ in scenes],
            "said": [said for _, said in scenes]}
    return f"// {digest}\ndrawn[{json.dumps(name)}] = {json.dumps(data, ensure_ascii=False, separators=(',', ':'))};\n"


def drawn(name, digest, control, draw, most):
    """The text of a control's file; where it would be too long, with fewer settings or, of a film, coarser pictures."""
    if hasattr(control, "running"):
        knobs, scenes = film_of_runs(control, draw, min(LIVE_PICTURES, most))
        for quality in 70, 50, 30:
            if len(text := script(name, digest, knobs, scenes, quality)) <= MOST_BYTES:
                break
        return text
    while len(text := script(name, digest, *grid_of_pictures(control, most))) > MOST_BYTES and most > 10:
        most = most * 2 // 3
    return text


# -- files -------------------------------------------------------------------------------------------------------


def draw_notebook(text, folder, most):
    """Run, in order and in one process, what the controls of a notebook take that are not drawn yet."""
    program, names = statements(text), {}
    missing = missing_in(folder, text.stem, program, most)
    needed = {statement for control in missing for statement in needed_by(control, program[:program.index(control)])}
    for statement in program:
        if statement in missing:
            path, digest = missing[statement]
            began, call = time.process_time(), statement.value
            control = eval(compile(ast.Expression(call), "<notebook>", "eval"), names)
            content = drawn(path.stem, digest, control, getattr(call.args[-1], "id", None), most)
            path.write_text(content, encoding="utf-8")
            now = time.process_time()
            print(f"{path.stem}: {content.count('UklGR') - 1} pictures, {len(content.encode()) / 1e6:.1f} MB; "
                  f"{now - began:.0f} s of a core to draw, {now:.0f} s up to here", flush=True)
        elif statement in needed:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                run([statement], names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("notebooks", nargs="*", help="file names without ending; all if none is named")
    parser.add_argument("--most", type=int, default=MOST_SETTINGS, help="settings of a control")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    texts = [text for text in TEXTS if text.stem in (options.notebooks or [text.stem])]
    if len(texts) == 1:
        return draw_notebook(texts[0], options.folder, options.most)

    def in_its_own_process(text):
        command = [sys.executable, __file__, options.folder, text.stem, f"--most={options.most}"]
        subprocess.run(command, check=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(in_its_own_process, (
            text for text in texts if missing_in(options.folder, text.stem, statements(text), options.most))))


if __name__ == "__main__":
    main()
