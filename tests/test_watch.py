"""The live control: its buttons, its knobs, and what it does with errors and with older runs, without a browser."""

import html
import threading
import time

import ipywidgets as widgets
import pytest

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
    assert html.unescape(live.sentence.value) == "0 slices & counting"


def test_start_runs_in_the_background_and_pause_stops_within_half_a_second(live):
    before = live.picture.value
    live.buttons["Start"].click()
    wait_for(lambda: slices(live) > 3)
    live.buttons["Pause"].click()
    assert settles(live) and live.picture.value != before
    assert html.unescape(live.sentence.value) == f"{slices(live)} slices & counting"


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
    assert slices(live) == 2 and live.sentence.value.startswith("2 slices")
    live.buttons["Start"].click()
    live.buttons["Reset"].click()
    assert slices(live) == 0 and settles(live, 0.1) and live.sentence.value.startswith("0 slices")


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
    assert "ArithmeticError: nine is too many" in html.unescape(live.sentence.value)
    with pytest.raises(ArithmeticError):
        live.step()
    live.controls["knob"].value = 2
    live.buttons["Reset"].click()
    live.buttons["Step"].click()
    assert live.error is None and slices(live) == 1


def test_viewers_without_widgets_get_the_picture(live):
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} == set(live._repr_mimebundle_())
