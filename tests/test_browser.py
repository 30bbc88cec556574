"""JupyterLab in a real browser: every notebook opens, one runs whole, and all controls answer to keyboard and mouse.

In all other notebooks the controls are tried on a copy that is reduced to what they need; nbval executes all the rest.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import nbformat
import pytest
from conftest import ROOT, environment_of_a_learner
from notebook_parts import TEXTS, is_control, reduced, statements

WHOLE = "03_networks"  # the one that is run as it is: a short one, with controls and with MNIST
CONTROL = ".widget-vbox:has(> .widget-html img)"
SCREEN = {"width": 1366, "height": 768}  # of a small laptop,
COMPILING = "Compiling, a few seconds …"
ROOM = 640  # in which JupyterLab leaves so many pixels of height to a notebook
WITH_CONTROLS = [text for text in TEXTS if any(map(is_control, statements(text)))]


# A run that fails at once, and a training that goes on until it is interrupted.
FAILS = """
def fail(run):
    raise FloatingPointError("The loss 'log' stopped being finite at alternation 7. " + 5 * "It takes a logarithm. ")
watch(lambda: None, fail, lambda figure, run: "Nothing yet.", size=(8.6, 3.6))
"""
TRAINS = """
import gan_lib
gan = gan_lib.GAN()
gan.fit(np.zeros((1000, 784)), epochs=10**6, steps_per_epoch=500, verbose=0, callbacks=[gan_lib.LivePicture()])
"""


def first_with_more(*sources):
    """The controls of notebook 01, and more cells after them."""
    notebook = reduced(TEXTS[0])
    notebook.cells += map(nbformat.v4.new_code_cell, sources)
    return notebook


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory):
    """A copy of the project in which texts are older and newer than notebooks, with the reduced notebooks beside it."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for i, path in enumerate(sorted((folder / "notebooks").rglob("0*.*"))):
        date = time.time() - 1e6 - (i * 7919 % 13) * 1e4
        os.utime(path, (date, date))
    (folder / "reduced").mkdir()
    for text in WITH_CONTROLS:  # not into notebooks/, where jupytext would make pairs of them
        nbformat.write(reduced(text), folder / "reduced" / f"{text.stem}.ipynb")
    nbformat.write(first_with_more(FAILS, TRAINS), folder / "reduced" / "busy.ipynb")
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}', encoding="utf-8")  # keep what is scrolled away on the page
    return folder


@pytest.fixture(scope="module")
def lab(browser, lab_folder):
    """The address of JupyterLab on that copy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = environment_of_a_learner() | {"JUPYTER_CONFIG_DIR": str(lab_folder / "config"),
                                                "JUPYTERLAB_SETTINGS_DIR": str(lab_folder / "settings")}
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={lab_folder}", "--no-browser", f"--port={port}",
         "--IdentityProvider.token=", "--allow-root"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "JupyterLab did not start"
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@contextlib.contextmanager
def opened(browser, lab, path):
    """The page with this notebook, once its kernel waits, without a dialog."""
    with contextlib.closing(browser.new_page(viewport=SCREEN)) as page:
        page.goto(f"{lab}/doc/tree/{path}?reset")
        page.wait_for_selector(".jp-Notebook", timeout=60_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000)
        page.wait_for_timeout(1500)  # a dialog, if there is one, takes a moment
        assert page.locator(".jp-Dialog").count() == 0
        yield page


@contextlib.contextmanager
def opened_and_run(browser, lab, path):
    """The page with this notebook, run from the menu, top to bottom."""
    with opened(browser, lab, path) as page:
        run_all(page)
        yield page


@pytest.fixture(scope="module")
def whole(browser, lab):
    with opened_and_run(browser, lab, f"notebooks/{WHOLE}.ipynb") as page:
        yield page


@pytest.fixture(params=WITH_CONTROLS, ids=lambda text: text.stem, scope="module")
def page(request, browser, lab):
    """A notebook with all its controls: the whole one as it is, any other reduced."""
    if request.param.stem == WHOLE:
        opening = contextlib.nullcontext(request.getfixturevalue("whole"))
    else:
        opening = opened_and_run(browser, lab, f"reduced/{request.param.stem}.ipynb")
    with opening as page:
        expected = sum(map(is_control, statements(request.param)))
        wait_until(lambda: page.locator(CONTROL).count() == expected)
        yield page


def menu(page, name, entry):
    page.locator(".lm-MenuBar-itemLabel", has_text=name).first.click()
    page.locator(".lm-Menu-itemLabel", has_text=entry).first.click()


def run_all(page):
    """Choose Run All, and wait until all cells ran.

    A cell that waits or runs is marked with a star, and one that ran with a number.  The kernel's status would not do:
    it is busy and idle several times while a kernel starts.
    """
    begin_to_run_all(page)
    prompts, starred, numbered = cell_prompts(page)
    wait_until(lambda: not starred.count(), seconds=600)
    with contextlib.suppress(AssertionError):  # the number may come later than the star goes, or never after an error
        wait_until(lambda: numbered.count() == prompts.count())


def begin_to_run_all(page):
    menu(page, "View", "Expand All Code")  # a hidden cell has no prompt
    menu(page, "Edit", "Clear Outputs of All Cells")  # and their numbers
    _, starred, numbered = cell_prompts(page)
    wait_until(lambda: not numbered.count())
    for _ in range(3):
        menu(page, "Run", "Run All Cells")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: starred.count() or numbered.count(), seconds=20)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: numbered.count(), seconds=60)
            break
        # JupyterLab forgets cells that wait for a kernel to which it has to connect once more, on a busy machine.


def cell_prompts(page):
    """The prompts of all cells, of those that wait or run, and of those that ran."""
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    return prompts, prompts.filter(has_text="*"), prompts.filter(has_text=re.compile(r"\d"))


def wait_until(condition, seconds=10):
    """Wait until `condition()` is true, and return what it then is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


def controls(page, live):
    """The boxes of all `watch` (live) or of all `explore` (not live)."""
    boxes = page.locator(CONTROL)
    every = [boxes.nth(i) for i in range(boxes.count())]
    return [box for box in every if bool(box.get_by_role("button", name="Start").count()) == live]


def sentence(box):
    return box.locator("> .widget-html").last.inner_text()


def picture(box):
    return box.locator("> .widget-html img").get_attribute("src")


def code_cells(path):
    """The code cells of a notebook; none while JupyterLab is writing it, which it does in place."""
    with contextlib.suppress(nbformat.reader.NotJSONError):
        return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code" and cell.source.strip()]
    return []


def check_saved(page, lab_folder):
    """Save the whole notebook, and make sure that what is saved was run whole, in order, without an error."""
    path = lab_folder / "notebooks" / f"{WHOLE}.ipynb"
    before = path.stat().st_mtime_ns
    menu(page, "File", "Save Notebook")
    wait_until(lambda: path.stat().st_mtime_ns != before)
    cells = wait_until(lambda: code_cells(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", output


@pytest.mark.parametrize("name", [text.stem for text in TEXTS if text.stem != WHOLE])
def test_the_others_open_without_a_dialog(browser, lab, name):
    with opened(browser, lab, f"notebooks/{name}.ipynb"):
        pass


def test_runs_from_top_to_bottom_without_an_error(whole, lab_folder):
    check_saved(whole, lab_folder)


def test_restarted_it_runs_once_more(whole, lab_folder):
    menu(whole, "Kernel", "Restart Kernel")
    whole.locator(".jp-Dialog .jp-mod-accept").click()
    run_all(whole)
    check_saved(whole, lab_folder)


def test_every_slider_changes_picture_and_sentence_by_keyboard(page):
    for box in controls(page, live=False):
        handles = box.locator(".noUi-handle")
        for i in range(handles.count()):
            before, said, height = picture(box), sentence(box), box.bounding_box()["height"]
            handles.nth(i).scroll_into_view_if_needed()
            handles.nth(i).focus()
            for key in ["ArrowRight"] * 3 + ["ArrowLeft"] * 6:
                page.keyboard.press(key)
                page.wait_for_timeout(150)
                if picture(box) != before and sentence(box) != said:
                    break
            wait_until(lambda: picture(box) != before and sentence(box) != said)  # noqa: B023
            assert box.bounding_box()["height"] == height, "it jumps"


def test_every_control_is_seen_whole_on_a_small_laptop(page):
    boxes = page.locator(CONTROL)
    for i in range(boxes.count()):
        assert boxes.nth(i).bounding_box()["height"] <= ROOM
        labels = boxes.nth(i).locator(".widget-label")
        for label in (labels.nth(j) for j in range(labels.count())):
            assert label.evaluate("label => label.scrollWidth <= label.clientWidth"), "a label is cut off"


def test_the_live_control_starts_takes_a_knob_pauses_and_resets(page):
    for box in controls(page, live=True):
        start, pause, reset = (box.get_by_role("button", name=name) for name in ("Start", "Pause", "Reset"))
        box.scroll_into_view_if_needed()
        first = sentence(box)
        start.click()
        wait_until(start.is_disabled)
        wait_until(lambda: sentence(box) not in (first, COMPILING), seconds=20)  # noqa: B023
        box.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        running = sentence(box)
        wait_until(lambda: sentence(box) != running, seconds=20)  # noqa: B023
        pause.click()
        page.wait_for_timeout(500)
        paused = sentence(box), picture(box)
        page.wait_for_timeout(1000)
        assert (sentence(box), picture(box)) == paused
        start.click()
        wait_until(lambda: sentence(box) != paused[0], seconds=20)  # noqa: B023
        menu(page, "Kernel", "Interrupt Kernel")
        page.wait_for_timeout(2500)
        interrupted = sentence(box)
        page.wait_for_timeout(1000)
        assert sentence(box) == interrupted, "the interrupt button did not pause it"
        reset.click()
        wait_until(lambda: sentence(box) == first, seconds=20)  # noqa: B023
        assert "Error" not in interrupted


def test_another_cell_runs_while_the_live_control_does(page):
    for box in controls(page, live=True):
        box.scroll_into_view_if_needed()
        first = sentence(box)
        box.get_by_role("button", name="Start").click()
        wait_until(lambda: sentence(box) != first, seconds=20)  # noqa: B023
        cell = page.locator(".jp-CodeCell", has_text="# Your code")
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+End")
        page.keyboard.type("\nprint(6 * 7)")
        page.keyboard.press("Control+Enter")
        wait_until(lambda: "42" in cell.locator(".jp-OutputArea").inner_text())  # noqa: B023
        still = sentence(box)
        wait_until(lambda: sentence(box) != still, seconds=20)  # noqa: B023
        box.get_by_role("button", name="Reset").click()
        wait_until(lambda: sentence(box) == first, seconds=20)  # noqa: B023


@pytest.fixture(scope="module")
def busy(browser, lab):
    """Notebook 01 in the middle of Run All: its controls are there, and a last cell trains on and on."""
    with opened(browser, lab, "reduced/busy.ipynb") as page:
        begin_to_run_all(page)
        prompts, starred, numbered = cell_prompts(page)
        wait_until(lambda: starred.count() == 1 and numbered.count() == prompts.count() - 1, seconds=120)
        wait_until(lambda: page.locator(".jp-RenderedImage").count(), seconds=60)  # of the training
        yield page


def test_a_slider_answers_while_another_cell_runs(busy):
    box = controls(busy, live=False)[0]
    before = picture(box), sentence(box)
    box.locator(".noUi-handle").first.focus()
    busy.keyboard.press("ArrowRight")
    wait_until(lambda: picture(box) != before[0] and sentence(box) != before[1], seconds=5)


def test_start_says_that_it_compiles_and_runs_while_another_cell_does_and_reset_compiles_nothing(busy):
    box = controls(busy, live=True)[0]
    start, reset = (box.get_by_role("button", name=name) for name in ("Start", "Reset"))
    first = sentence(box)
    start.click()
    wait_until(lambda: sentence(box) == COMPILING)
    wait_until(lambda: sentence(box) not in (first, COMPILING), seconds=30)
    reset.click()
    wait_until(lambda: sentence(box) == first, seconds=20)
    start.click()
    assert wait_until(lambda: sentence(box) != first and sentence(box), seconds=20) != COMPILING
    reset.click()
    wait_until(lambda: sentence(box) == first, seconds=20)


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_an_error_is_read_before_its_traceback_in_either_theme_and_nothing_jumps(busy, theme):
    menu(busy, "Settings", "Theme")
    busy.locator(".lm-Menu-itemLabel", has_text=theme).first.click()
    box = controls(busy, live=True)[1]
    box.get_by_role("button", name="Reset").click()
    wait_until(lambda: sentence(box) == "Nothing yet.")
    height = box.bounding_box()["height"]
    box.get_by_role("button", name="Step").click()
    wait_until(lambda: sentence(box).startswith("FloatingPointError: The loss 'log' stopped being finite"))
    message = box.get_by_role("alert")
    assert "Traceback" not in message.inner_text() and "Where in the code" in message.inner_text()
    assert box.bounding_box()["height"] == height <= ROOM
    assert message.evaluate(CONTRAST) >= 4.5


# WCAG's contrast between a text and the first opaque background behind it.
CONTRAST = """element => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => numbers(color).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = element, background;
  do { background = getComputedStyle(behind).backgroundColor; behind = behind.parentElement; }
  while (numbers(background)[3] === 0);
  const [low, high] = [luminance(getComputedStyle(element).color), luminance(background)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


def test_a_training_that_is_interrupted_ends_with_one_line(busy):
    menu(busy, "Kernel", "Interrupt Kernel")
    last = busy.locator(".jp-CodeCell").last.locator(".jp-OutputArea-output")
    wait_until(lambda: "Stopped at alternation" in last.last.inner_text(), seconds=20)
    assert len(last.last.inner_text().strip().splitlines()) == 1
