"""Pictures hold what they should, and controls redraw, report and fail as they should, without a browser."""

import base64
import html
import io
import warnings

import ipywidgets as widgets
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

import gan_lib
from gan_lib import GAN, LivePicture, draw_digits, explore, film, show_digits, train


@pytest.fixture(scope="module")
def digits():
    return gan_lib._embedded_digits().train_images


def sheet(*arguments, **options):
    axes = Figure().add_subplot()
    draw_digits(axes, *arguments, **options)
    return axes, axes.images[0].get_array()


def test_each_picture_stands_in_its_place_on_the_sheet(digits):
    _, drawn = sheet(digits[:5], columns=3)
    assert drawn.shape == (60, 90)
    for i in range(5):
        row, column = divmod(i, 3)
        assert np.array_equal(drawn[30 * row + 1:30 * row + 29, 30 * column + 1:30 * column + 29],
                              digits[i].reshape(28, 28))
    assert not drawn[30:, 60:].any()


def test_headings_stand_over_their_columns(digits):
    axes, _ = sheet(digits[:4], columns=2, title="title", headings=["left", "right"])
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [("left", 15), ("right", 45)]
    assert axes.get_title() == "title"


@pytest.mark.parametrize("shape", [(0, 784), (3, 28, 28), (3, 16)])
def test_wrong_pictures_are_named(shape):
    with pytest.raises(ValueError, match=r"images have the shape .*expected \[n, 784\]"):
        sheet(np.zeros(shape))


def test_show_digits_displays_a_png(digits, monkeypatch):
    shown = []
    monkeypatch.setattr(gan_lib, "display", lambda picture, **_: shown.append(picture))
    show_digits(digits[:30], columns=15, title="digits")
    assert shown[0].format == "png" and imread(io.BytesIO(shown[0].data)).ndim == 3


def test_the_live_picture_draws_every_report(digits, monkeypatch):
    updates = []

    class Handle:
        def update(self, picture):
            updates.append(picture.data)

    monkeypatch.setattr(gan_lib, "display", lambda *_, **__: Handle())
    gan = GAN()
    live = LivePicture(gan, steps=4)
    for report in train(gan, digits, 4, report_every=2):
        live.update(report)
    assert [report.step for report in live.reports] == [2, 4] and len(set(updates)) == 2
    assert len({imread(io.BytesIO(png)).shape for png in updates}) == 1


def test_a_film_holds_every_frame_and_needs_no_network_for_its_buttons(digits):
    player = film([digits[:4], digits[4:8], digits[8:12]], ["one", "two", "three"], columns=2).data
    assert player.count("data:image/png;base64") == 3
    assert 'class="fa' not in player and "▶" in player
    with pytest.raises(ValueError, match="There are 1 titles for 2 frames"):
        film([digits[:4], digits[4:8]], ["one"])


def draw_parabola(figure, x, power=2):
    figure.add_subplot().plot([x], [x**power], "o")
    if x > 9:
        raise ArithmeticError(f"{x} is too large")
    return f"x = {x} & its power is {x**power}"


@pytest.fixture
def control():
    return explore(draw_parabola, x=widgets.IntSlider(3, min=0, max=10), power=(1, 3))


@pytest.mark.parametrize("x", [0, 5, 9])
def test_moving_a_slider_redraws_and_says_so(control, x):
    before = control.picture.value
    control.controls["x"].value = x
    assert control.picture.value != before
    assert imread(io.BytesIO(control.picture.value)).shape == imread(io.BytesIO(before)).shape
    assert html.unescape(control.sentence.value) == f"x = {x} & its power is {x**2}"


def test_a_message_from_the_browser_redraws_too(control):
    control.controls["power"].set_state({"value": 3})
    assert html.unescape(control.sentence.value) == "x = 3 & its power is 27"


def test_an_error_is_shown_and_raised_and_the_control_recovers(control):
    with pytest.raises(ArithmeticError):
        control.controls["x"].value = 10
    assert "ArithmeticError: 10 is too large" in html.unescape(control.sentence.value)
    control.controls["x"].value = 2
    assert html.unescape(control.sentence.value) == "x = 2 & its power is 4"


def test_viewers_without_widgets_get_the_picture_and_the_sentence(control):
    bundle = control._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == control.model_id
    assert bundle["text/plain"] == "x = 3 & its power is 9"
    still, live = (imread(io.BytesIO(png)) for png in (base64.b64decode(bundle["image/png"]), control.picture.value))
    assert still.shape[0] > live.shape[0] and still.shape[1] == live.shape[1]
    last_line = still[-20:, :, :3]  # the sentence, in black on white
    assert (last_line == 0).all(axis=2).any() and not (live[-5:, :, :3] == 0).all(axis=2).any()


def test_controls_are_labelled_and_keep_the_labels_they_came_with():
    control = explore(lambda figure, some_number, other: "", some_number=(0, 1),
                      other=widgets.FloatSlider(description="other (0 to 1)"))
    assert [c.description for c in control.controls.values()] == ["some number", "other (0 to 1)"]


def test_what_is_no_control_is_named():
    with pytest.raises(ValueError, match="x is <object .*expected a widget, .low, high.*a bool or a list"):
        explore(draw_parabola, x=object())


def test_drawing_leaves_no_figure_open_in_pyplot(control):
    import matplotlib.pyplot as plt
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in range(9):
            control.controls["x"].value = x
    assert not plt.get_fignums()


