"""The live control: its buttons, its knobs, and what it does with errors and with older runs, without a browser."""

import html
import signal
import threading
import time

import ipywidgets as widgets
import pytest
from conftest import state, tiny_gan
from IPython.core.interactiveshell import InteractiveShell

import gan_lib
from gan_lib import watch


class Run:
    """Counts its slices, and keeps what the knob said in each."""

    def __init__(self):
        self.knob = []


def advance(run, knob):
    if knob == 9:
        raise ArithmeticError("nine is too many")
    time.sleep(0.01)
    run.knob.append(knob)


def draw(figure, run):
    figure.add_subplot().plot(run.knob)
    return f"{len(run.knob)} slices & counting"


@pytest.fixture
def live():
    live = watch(Run, advance, draw, size=(2, 2), knob=widgets.IntSlider(1, min=0, max=9))
    yield live
    live.pause()


def wait_for(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def slices(live):
    return len(live.run.knob)


def settles(live, seconds=0.5):
    """Whether the run stands still, half a second from now on."""
    time.sleep(seconds)
    before = slices(live)
    time.sleep(0.3)
    return slices(live) == before


def test_it_stands_still_until_it_is_started(live):
    assert settles(live, 0) and slices(live) == 0
    assert live.said == "0 slices & counting"


def test_start_runs_in_the_background_and_pause_stops_within_half_a_second(live):
    before = live.png
    live.buttons["Start"].click()
    wait_for(lambda: slices(live) > 3)
    live.buttons["Pause"].click()
    assert settles(live) and live.png != before
    assert live.said == f"{slices(live)} slices & counting"


def test_a_knob_turned_takes_effect_in_the_next_slice(live):
    live.buttons["Start"].click()
    wait_for(lambda: slices(live) > 2)
    live.controls["knob"].value = 5
    turned_at = slices(live)
    wait_for(lambda: slices(live) > turned_at + 3)
    live.pause()
    assert live.run.knob[0] == 1 and set(live.run.knob[turned_at + 1:]) == {5}


def test_step_is_one_slice_and_reset_begins_anew(live):
    live.buttons["Step"].click()
    live.buttons["Step"].click()
    assert slices(live) == 2 and live.said.startswith("2 slices")
    live.buttons["Start"].click()
    live.buttons["Reset"].click()
    assert slices(live) == 0 and settles(live, 0.1) and live.said.startswith("0 slices")


def test_start_pressed_many_times_is_one_run(live):
    threads = threading.active_count()
    for _ in range(5):
        live.buttons["Start"].click()
    wait_for(lambda: threading.active_count() <= threads + 1)
    live.pause()
    assert settles(live)


def test_a_new_run_pauses_the_older_one(live):
    live.buttons["Start"].click()
    wait_for(lambda: slices(live) > 1)
    watch(Run, advance, draw, size=(2, 2), knob=1)
    assert settles(live)


def test_an_error_stops_the_run_and_is_shown_and_kept(live):
    live.buttons["Start"].click()
    live.controls["knob"].value = 9
    wait_for(lambda: live.error is not None)
    assert isinstance(live.error, ArithmeticError) and not live.running
    assert "ArithmeticError: nine is too many" in live.said
    with pytest.raises(ArithmeticError):
        live.step()
    live.controls["knob"].value = 2
    live.buttons["Reset"].click()
    live.buttons["Step"].click()
    assert live.error is None and slices(live) == 1


def test_viewers_without_widgets_get_the_picture(live):
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} == set(live._repr_mimebundle_())


def test_the_buttons_show_whether_it_runs(live):
    start, pause = live.buttons["Start"], live.buttons["Pause"]
    assert pause.disabled and not start.disabled
    start.click()
    assert start.disabled and not pause.disabled
    live.controls["knob"].value = 9  # an error stops it
    wait_for(lambda: live.error is not None and not start.disabled)
    assert pause.disabled


def test_it_says_so_before_something_compiles_and_reset_compiles_nothing(images):
    gan = tiny_gan()
    fresh = state(gan)

    def restart():
        for variable, value in zip(gan.state, fresh):
            variable.assign(value)
        return gan

    live = watch(restart, lambda gan, loss: gan.fit(images, steps_per_epoch=5, verbose=0, batch_size=16) if not
                 gan.compile(loss) else None, lambda figure, gan: f"alternation {gan.alternations}", size=(2, 2),
                 loss=["logistic", "hinge"])
    heard = []
    live._sentence.observe(lambda change: heard.append(live.said), names="value")

    def hears(action):
        heard.clear()
        action()
        return list(heard)

    compiling, trained = "Compiling, a few seconds …", "alternation 5"
    assert hears(live.step) == [compiling, trained]
    assert hears(live.reset) == ["alternation 0"]
    assert hears(live.step) == [trained]
    live.controls["loss"].value = "hinge"
    assert hears(live.step) == [compiling, "alternation 10"]
    live.reset()
    live.controls["loss"].value = "logistic"
    assert hears(live.step) == [trained]


def test_a_forgotten_run_pauses_and_says_so_and_a_touch_keeps_it_awake(live, monkeypatch):
    monkeypatch.setattr(gan_lib, "FORGOTTEN_AFTER", 0.6)
    live.buttons["Start"].click()
    for value in (2, 3, 4, 5):
        time.sleep(0.3)
        live.controls["knob"].value = value
    assert live.running
    wait_for(lambda: not live.running)
    assert settles(live, 0) and live.said.endswith("so it paused. Press Start to go on.")
    live.buttons["Start"].click()
    before = slices(live)
    wait_for(lambda: slices(live) > before + 1)


def test_a_kernel_that_lets_controls_wait_is_named_until_they_answer(monkeypatch):
    monkeypatch.setattr(gan_lib, "_listens_while_cells_run", lambda: False)
    live = watch(Run, advance, draw, size=(2, 2), knob=(1, 3))
    note = "It answers once the cells that run now are done."
    assert note in live._sentence.value
    live.buttons["Step"].click()
    assert note not in live._sentence.value


def test_the_message_comes_first_and_where_in_the_code_is_folded(live):
    live.controls["knob"].value = 9
    with pytest.raises(ArithmeticError):
        live.step()
    page = live._sentence.value
    assert page.index("nine is too many") < page.index("<details>") < page.index("Traceback")


def test_the_picture_has_the_sentence_as_its_alternative_text(live):
    assert f'alt="{html.escape(live.said)}"' in live._picture.value
    assert 'role="status"' in live._sentence.value and html.escape(live.said) in live._sentence.value


def test_an_interrupt_pauses_the_run_or_stops_the_cell_that_runs(live):
    before = signal.signal(signal.SIGINT, gan_lib._on_interrupt)
    try:
        live.buttons["Start"].click()
        signal.raise_signal(signal.SIGINT)
        assert settles(live) and not live.running
        live.buttons["Start"].click()
        shell = InteractiveShell()
        result = shell.run_cell("import signal; signal.raise_signal(signal.SIGINT); went_on = True")
        assert isinstance(result.error_in_exec, KeyboardInterrupt) and "went_on" not in shell.user_ns and live.running
    finally:
        signal.signal(signal.SIGINT, before)
