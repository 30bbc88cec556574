"""The site: its pages, the controls that move on them, its links, and whether everybody can use it.

It is built once, with all its pages, and with coarse grids for the controls of notebooks 01 and 02: to draw them all as
finely as `make site` does takes some minutes.
"""

import ast
import base64
import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import ipywidgets as widgets
import nbformat
import numpy as np
import pytest
from conftest import ROOT, environment_of_a_learner
from notebook_parts import TEXTS, is_control, statements
from PIL import Image

sys.path.append(str(ROOT / "tools" / "site"))
import controls as drawing  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
MOVING = [text.stem for text in TEXTS[:2]]  # the notebooks whose controls are drawn here
WIDGET = "application/vnd.jupyter.widget-view+json"
PHONE, LAPTOP = {"width": 360, "height": 740}, {"width": 1366, "height": 768}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder with what `make site` makes."""
    folder = tmp_path_factory.mktemp("site")

    def run(*command):
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
                       env=environment_of_a_learner())

    for stem in MOVING:
        run("tools/site/controls.py", folder / "controls", stem, "--most=24")
    run("tools/site/pages.py", folder / "controls", folder / "pages")
    run("-m", "sphinx", "-q", "-W", "-b", "html", "-c", "tools/site", folder / "pages", folder / "site")
    return folder / "site"


class Page(HTMLParser):
    """What a page links to and loads, where one can link to in it, and its pictures' alternative texts."""

    def __init__(self, path):
        super().__init__()
        self.path, self.links, self.loads, self.places, self.pictures = path, [], [], {""}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
        if tag == "a":
            self.links.append(attributes.get("href", ""))
        elif tag == "img":
            self.pictures.append(attributes.get("alt"))
        self.loads += [attributes[name] for name in ("src", "data-drawn") if attributes.get(name)]
        self.loads += [attributes["href"]] if tag == "link" and attributes.get("href") else []


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_link_leads_somewhere_and_nothing_loads_from_another_host(pages):
    for path, page in pages.items():
        for address in page.links + page.loads:
            if re.match(r"(https?:|mailto:|data:)", address):
                assert address in page.links or address.startswith("data:"), f"{path.name} loads {address}"
                continue
            target, place = urldefrag(unquote(address))
            other = (path.parent / target.split("?")[0]).resolve() if target else path
            assert other.is_file(), f"{path.name} leads to {address}"
            assert other not in pages or not place or place in pages[other].places, f"{path.name} leads to {address}"


def test_every_picture_says_what_it_shows(pages):
    for path, page in pages.items():
        for alt in page.pictures:
            assert alt and len(alt) > 15 and not re.search(r"[$\\]|<", alt), f"{path.name}: {alt}"


def test_every_notebook_has_all_its_pictures_and_one_control_for_each_that_is_drawn(site, pages):
    for path in NOTEBOOKS:
        page = pages[site / "notebooks" / f"{path.stem}.html"]
        expected = sum("image/png" in output.get("data", {})
                       for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", ()))
        assert len(page.pictures) >= expected > 0 and WIDGET not in page.path.read_text(encoding="utf-8")
        drawn = [address for address in page.loads if address.endswith(".js") and f"controls/{path.stem}-" in address
                 and not address.endswith("-film.js")]
        all_of_them = sum(map(is_control, statements(path.parent / "text" / f"{path.stem}.md")))
        assert len(drawn) == (all_of_them if path.stem in MOVING else 0)


def test_the_front_page_asks_each_notebooks_question_and_leads_there(site, pages):
    front = pages[site / "index.html"]
    text = front.path.read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        title, asked = re.search(r"^# (.+)\n+\*\*(.+\?)\*\*$", (path.parent / "text" / f"{path.stem}.md").read_text(
            encoding="utf-8"), re.MULTILINE).groups()
        assert f"notebooks/{path.stem}.html" in front.links and title in text and asked in text
        assert f"../downloads/{path.name}" in pages[site / "notebooks" / f"{path.stem}.html"].links
        nbformat.validate(nbformat.read(site / "downloads" / path.name, as_version=4))


def test_what_is_folded_in_a_notebook_is_folded_on_its_page(site):
    for path in NOTEBOOKS:
        folded = sum(bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
                     for cell in nbformat.read(path, as_version=4).cells)
        text = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert text.count('<details class="admonition hide') == folded > 0


def test_no_control_is_larger_than_three_megabytes_and_nothing_larger_than_sixty(site):
    assert all(path.stat().st_size < 3.1e6 for path in (site / "controls").iterdir())
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 60e6


# -- how controls are drawn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [10**6, 3000, 300, 30])
def test_a_grid_keeps_ends_beginnings_and_choices_and_has_round_steps(most):
    knobs = {"middle": widgets.FloatSlider(3.35, min=1, max=6, step=0.05), "n": widgets.IntSlider(7, min=3, max=14),
             "box": widgets.Checkbox(False), "menu": widgets.Dropdown(options=["a", "b", "c"])}
    values = drawing.grid(knobs, most)
    assert math.prod(map(len, values.values())) <= max(most, 6 * 5 * 5)
    assert values["box"] == [False, True] and values["menu"] == [0, 1, 2]
    for name in "middle", "n":
        slider = knobs[name]
        assert {slider.min, slider.value, slider.max} <= set(values[name]) and sorted(values[name]) == values[name]
        assert all(isinstance(value, type(slider.value)) for value in values[name])
    if most == 10**6:
        assert len(values["middle"]) == 101 and values["n"] == list(range(3, 15))
    elif most == 300:
        assert {2.0, 3.0, 4.0, 5.0} < set(values["middle"])


def test_the_first_picture_and_what_differs_from_it_make_the_picture():
    def decoded(text):
        return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA")

    first = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    other = first.copy()
    other.paste((0, 158, 115), (30, 10, 33, 20))
    for picture in drawing.posterised(first), drawing.posterised(other):
        page = decoded(drawing.webp(drawing.posterised(first), lossless=True))
        page.alpha_composite(decoded(drawing.what_differs(picture, drawing.posterised(first), quality=70)))
        assert page.convert("RGB").tobytes() == picture.tobytes()


def test_a_control_is_drawn_anew_when_what_it_takes_changed_and_only_then(tmp_path):
    def missing(source):
        return list(drawing.missing_in(tmp_path, "nb", ast.parse(source).body, 100).values())

    source = "from gan_lib import explore\nwidth = 1\nother = 2\ndef draw(figure):\n    return width\nexplore(draw)"
    (path, digest), = missing(source)
    path.write_text(f"// {digest}\n", encoding="utf-8")
    assert path == tmp_path / "nb-1.js" and missing(source) == missing(source.replace("2", "3  # a remark")) == []
    assert missing(source.replace("width = 1", "width = 2"))
    assert missing(source.replace("(draw)", "(draw, size=(1, 2))"))


def test_the_films_are_of_controls_that_there_are():
    live = {control.value.args[2].id: {knob.arg for knob in control.value.keywords} - {"size"}
            for text in TEXTS for control in statements(text) if is_control(control, ["watch"])}
    for draw, (_, runs) in drawing.LIVE.items():
        assert {} in runs.values() and all(set(setting) <= live[draw] for setting in runs.values())


# -- in a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(browser, site):
    """opened(name, **options): the page of the site in a browser, at the top, with no error."""
    contexts, errors = [], []

    def open_page(name, scheme="light", size=LAPTOP, **options):
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(f"{name}: {error}"))
        page.goto((site / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors


def drawn(site, name):
    """What is drawn for a control: its knobs, pictures and sentences."""
    text = (site / "controls" / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(re.search(r'\] = ({"knobs".*});\n$', text)[1])


def shown(control):
    return (control.locator("img").get_attribute("src"), control.locator("img").get_attribute("alt"),
            control.get_by_role("status").inner_text())


def control_on(page, number):
    control = page.locator(".control").nth(number)
    control.scroll_into_view_if_needed()
    control.get_by_role("status").wait_for()
    return control


def test_sliders_and_a_box_move_picture_and_sentence_by_keyboard_and_mouse(site, opened):
    control, data = control_on(opened("notebooks/01_meet.html"), 0), drawn(site, "01_meet-1")
    middle, steepness, box = (control.get_by_label(knob["label"]) for knob in data["knobs"])
    at, counts = [knob["at"] for knob in data["knobs"]], [len(knob["values"]) for knob in data["knobs"]]
    for knob, key, to in (middle, "ArrowRight", at[0] + 1), (steepness, "End", counts[1] - 1), (box, "Space", 1):
        knob.press(key)
        at[[middle, steepness, box].index(knob)] = to
        i = (at[0] * counts[1] + at[1]) * counts[2] + at[2]
        assert shown(control) == ("data:image/webp;base64," + data["pictures"][i], data["said"][i], data["said"][i])
    before = shown(control)
    middle.click(position={"x": 3, "y": middle.bounding_box()["height"] / 2})
    assert middle.get_attribute("aria-valuetext") == data["knobs"][0]["values"][0] and shown(control) != before


def test_a_menu_moves_a_control_by_touch(site, opened):
    names = [f"02_game-{i}" for i in range(1, 6)]
    number = next(i for i, name in enumerate(names) if drawn(site, name)["knobs"][0]["kind"] == "select")
    control = control_on(opened("notebooks/02_game.html", size=PHONE, has_touch=True), number)
    before, menu = shown(control), control.get_by_role("combobox")
    menu.tap()
    menu.select_option(index=1)
    assert all(now != then for now, then in zip(shown(control), before))
    slider = control.get_by_role("slider").first
    slider.tap(position={"x": 3, "y": slider.bounding_box()["height"] / 2})
    assert slider.get_attribute("aria-valuetext") == drawn(site, names[number])["knobs"][1]["values"][0]


def test_a_live_control_starts_pauses_steps_and_resets(site, opened):
    control, data = control_on(opened("notebooks/01_meet.html"), 2), drawn(site, "01_meet-3")
    first = shown(control)
    assert first[2] == data["said"][0]
    control.get_by_role("button", name="Start").click()
    control.page.wait_for_timeout(700)
    control.get_by_role("button", name="Pause").click()
    paused = shown(control)
    control.page.wait_for_timeout(400)
    assert shown(control) == paused != first
    control.get_by_role("button", name="Step").click()
    assert data["said"].index(shown(control)[2]) == data["said"].index(paused[2]) + 1
    control.get_by_role("button", name="Reset").click()
    assert shown(control) == first
    control.get_by_label("run").select_option(index=1)
    control.get_by_label("moment").press("End")
    assert shown(control)[2] == data["said"][2 * len(data["knobs"][1]["values"]) - 1]


def test_a_slider_answers_within_50_milliseconds(opened):
    control = control_on(opened("notebooks/01_meet.html"), 0)
    took = control.evaluate("""async control => {
      const slider = control.querySelector("input"), image = control.querySelector("img"), took = [];
      for (let i = 0; i <= +slider.max; i++) {
        const start = performance.now();
        slider.value = i;
        slider.dispatchEvent(new Event("input", {bubbles: true}));
        await image.decode();
        took.push(performance.now() - start);
      }
      return took.sort((a, b) => a - b);
    }""")
    assert took[len(took) // 2] < 50


def test_without_scripts_the_stills_remain(opened):
    page = opened("notebooks/01_meet.html", java_script_enabled=False)
    still = page.locator(".control img").first
    still.scroll_into_view_if_needed()
    assert still.is_visible() and "You catch" in still.get_attribute("alt")


WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


@pytest.mark.parametrize(("scheme", "rules"), [("light", WCAG), ("dark", ["color-contrast"])])
def test_axe_finds_nothing_and_no_page_scrolls_sideways_on_a_phone(site, opened, scheme, rules):
    from axe_playwright_python.sync_playwright import Axe

    reports = []
    for path in [*site.glob("*.html"), *site.glob("notebooks/*.html")]:
        page = opened(path.relative_to(site).as_posix(), scheme)
        for i in range(page.locator(".control").count()):
            control_on(page, i)
        # Code has the same colours on all pages, and takes most of the time.
        found = Axe().run(page, context={"exclude": [".highlight"] if MOVING[0] not in path.name else []},
                          options={"runOnly": rules, "resultTypes": ["violations"]})
        reports += [f"{path.name}\n{found.generate_report()}"] if found.violations_count else []
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path.name
        page.context.close()
    assert not reports, "\n".join(reports)
