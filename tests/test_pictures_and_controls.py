"""Pictures hold what they should, and controls redraw, report and fail as they should, without a browser."""

import base64
import concurrent.futures
import io
import json
import re
import threading
import warnings

import ipywidgets as widgets
import keras
import matplotlib
import matplotlib.style
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_gan
from matplotlib.figure import Figure
from matplotlib.image import imread

import gan_lib
from gan_lib import GAN, LivePicture, build_dcgan, draw_images, explore, film, show_images


@pytest.fixture(scope="module")
def digits():
    return gan_lib._embedded_digits().train_images


@pytest.fixture
def displayed(monkeypatch):
    """The pictures (PNG) that a cell shows, one after the other."""
    pictures = []

    class Handle:
        def update(self, picture):
            pictures.append(picture.data)

    def display(picture, display_id=False):
        assert picture.format == "png"
        pictures.append(picture.data)
        return Handle() if display_id else None

    monkeypatch.setattr(gan_lib, "display", display)
    return pictures


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, one sheet of pictures after the other: (pictures, title)."""
    sheets = []

    def draw(axes, images, columns=10, title=None, *arguments, **options):
        sheets.append((images, title))
        draw_images(axes, images, columns, title, *arguments, **options)

    monkeypatch.setattr(gan_lib, "draw_images", draw)
    return sheets


def size_of(png):
    return imread(io.BytesIO(png)).shape


def random_pictures(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def sheet(*arguments, **options):
    axes = Figure().add_subplot()
    draw_images(axes, *arguments, **options)
    return axes, axes.images[0].get_array()


SHAPES = {  # of the pictures, the shape= that is passed, and the shape that each is drawn in
    "rows of square pictures": ((5, 784), None, (28, 28)),
    "grey": ((5, 12, 20), None, (12, 20)),
    "grey with an axis for it": ((5, 12, 20, 1), None, (12, 20)),
    "colour": ((5, 12, 20, 3), None, (12, 20, 3)),
    "rows of grey pictures": ((5, 240), (12, 20), (12, 20)),
    "rows of grey pictures with an axis for it": ((5, 240), (12, 20, 1), (12, 20)),
    "rows of colour pictures": ((5, 720), (12, 20, 3), (12, 20, 3)),
    "of two pixels by two": ((5, 4), None, (2, 2)),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_each_picture_stands_in_its_place_on_the_sheet(kind):
    given, shape, expected = SHAPES[kind]
    pictures = random_pictures(*given)
    _, sheet_of_five = sheet(pictures, columns=3, shape=shape)
    high, wide = expected[0] + 2, expected[1] + 2
    assert sheet_of_five.shape == (2 * high, 3 * wide, *expected[2:])
    paper = np.ones(sheet_of_five.shape[:2], bool)
    for i in range(5):
        row, column = divmod(i, 3)
        place = slice(high * row + 1, high * (row + 1) - 1), slice(wide * column + 1, wide * (column + 1) - 1)
        assert np.array_equal(sheet_of_five[place], pictures[i].reshape(expected))
        paper[place] = False
    assert (sheet_of_five[paper] == (1 if len(expected) == 3 else 0)).all()


@pytest.mark.parametrize(("cmap", "white"), [("gray_r", 0), ("gray", 1)])
def test_between_grey_pictures_the_paper_is_white(cmap, white):
    axes, of_one = sheet(np.full((1, 4, 4), 0.5), columns=2, cmap=cmap)
    assert (of_one[:, 6:] == white).all() and axes.images[0].get_cmap().name == cmap
    assert axes.images[0].get_cmap()(float(white)) == (1, 1, 1, 1)


def test_headings_stand_over_their_columns(digits):
    axes, _ = sheet(digits[:4], columns=2, title="title", headings=["left", "right"])
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [("left", 15), ("right", 45)]
    assert axes.get_title() == "title"


@pytest.mark.parametrize("kind", [list, tf.constant, np.uint8, np.float64])
def test_pictures_may_be_no_float32_arrays(kind):
    pictures = np.eye(4, dtype=np.float32).reshape(1, 4, 4)
    assert np.array_equal(sheet(kind(pictures), columns=1)[1][1:-1, 1:-1], np.eye(4))


NO_PICTURES = {
    "none at all": ((0, 784), None, r"with n of at least 1\."),
    "none at all of a shape": ((0, 784), (28, 28), r"with n of at least 1\."),
    "not square": ((3, 240), None, r"no square grey pictures\. Say the shape of one: shape=\(height, width\) or"),
    "single numbers": ((3, 1), None, "no square grey pictures. Say the shape of one"),
    "of another shape than said": ((3, 784), (16, 16), r"784 numbers to a picture, but shape=\(16, 16\) takes 256\."),
    "two colours": ((3, 16, 16, 2), None, r"expected \[n, height, width\], \[n, height, width, 1 or 3\] or \[n, pix"),
    "films": ((3, 2, 16, 16, 3), None, r"expected \[n, height, width\], \[n, height, width, 1 or 3\] or \[n, pixels\]"),
    "a single row": ((784,), None, r"For a single picture: images\[None\]\."),
    "a single grey one": ((28, 28), None, r"For a single picture: images\[None\]\."),
    "a single grey one with an axis for it": ((28, 28, 1), None, r"For a single picture: images\[None\]\."),
    "a single colour one": ((32, 32, 3), None, r"For a single picture: images\[None\]\."),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_wrong_pictures_are_named(kind, displayed):
    given, shape, said = NO_PICTURES[kind]
    for function in sheet, show_images:
        with pytest.raises(ValueError, match=rf"images have the shape {re.escape(str(list(given)))}.*{said}"):
            function(np.zeros(given), shape=shape)
    assert displayed == []


WRONG_RANGES = {
    "bytes": (lambda x: 255 * x, r"from 0 to 255, expected \[0, 1\]\. Divide them by 255\."),
    "of a tanh": (lambda x: 2 * x - 1, r"from -1 to 1, expected \[0, 1\]\. .* tanh: \(images \+ 1\) / 2\."),
    "of neither": (lambda x: 1000 * x - 500, r"from -500 to 500, expected \[0, 1\]\.$"),
    "not numbers": (lambda x: np.where(x, np.nan, 0), r"from nan to nan, expected \[0, 1\]\.$"),
}


@pytest.mark.parametrize("kind", WRONG_RANGES)
def test_values_that_are_no_brightness_are_named_with_a_cure(kind):
    change, said = WRONG_RANGES[kind]
    with pytest.raises(ValueError, match="images hold values " + said):
        sheet(change(np.eye(28)[None]))


def test_a_rounding_error_beyond_0_and_1_is_drawn_without_a_word(caplog):
    for value in 1 + 5e-7, -5e-7:
        _, of_one = sheet(np.full((1, 4, 4, 3), value))
        assert of_one.min() >= 0 and of_one.max() == 1
    assert caplog.text == ""


@pytest.mark.parametrize("columns", [0, 2.5, None])
def test_a_wrong_number_of_columns_is_named(columns, digits):
    for function in sheet, show_images, lambda images, columns: film([images], ["one"], columns):
        with pytest.raises(ValueError, match=f"columns is {columns}, expected a whole number of at least 1"):
            function(digits[:4], columns=columns)


def test_a_name_stands_before_each_row_within_the_picture(digits, displayed):
    axes, _ = sheet(digits[:6], columns=2, names=["one", "two", "three"])
    places = [text.get_position() for text in axes.texts]
    assert [x < 0 for x, _ in places] == [True] * 3 and [y for _, y in places] == [15, 45, 75]
    show_images(digits[:24], columns=12, title="title", headings=["one"], names=["the first of these two rows", "2"])
    shown = imread(io.BytesIO(displayed[0]))[..., :3]
    assert (shown[:, :3] == 1).all() and (shown[:, -3:] == 1).all(), "nothing is cut off at the sides"
    with pytest.raises(ValueError, match="There are 2 names for 3 rows of pictures, expected one for each."):
        show_images(digits[:6], columns=2, names=["one", "two"])


def test_show_images_displays_a_png_in_the_proportions_of_the_sheet(digits, displayed):
    show_images(digits[:30], columns=15, title="digits")
    show_images(random_pictures(2, 64, 32, 3), columns=2)
    show_images(random_pictures(2, 32, 64, 1), columns=2)
    (_, _, _), (height, width, _), (flatter, as_wide, _) = map(size_of, displayed)
    assert width == as_wide and 0.9 < height / width < 1.1 and 0.2 < flatter / width < 0.3


def colour_gan():
    return GAN(*build_dcgan((32, 32, 3), channels=4))


def tanh_gan():
    generator = keras.Sequential([keras.Input((5,)), keras.layers.Dense(16, "tanh")])
    return GAN(generator, gan_lib.build_discriminator(hidden=8, pixels=16))


def flat_gan(pixels):
    return GAN(gan_lib.build_generator(noise_dim=5, hidden=8, pixels=pixels),
               gan_lib.build_discriminator(hidden=8, pixels=pixels))


def fit(gan, data, live, **options):
    """Train a little, step by step: to compile takes longer."""
    gan.compile(run_eagerly=True)
    gan.fit(data, **dict(steps_per_epoch=2, batch_size=8, verbose=0, callbacks=[live]) | options)


PAIRS = {  # the GAN, the shape of its data, and the options of its LivePicture
    "the article's": (GAN, (784,), {}),
    "colour pictures": (colour_gan, (32, 32, 3), {}),
    "rows of colour pictures": (lambda: flat_gan(3072), (3072,), {"shape": (32, 32, 3)}),
    "rows of grey pictures that are not square": (lambda: flat_gan(50), (50,), {"shape": (5, 10), "cmap": "gray"}),
    "a tanh": (tanh_gan, (16,), {}),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_the_live_picture_follows_a_training_run_in_one_size(kind, displayed):
    make, shape, options = PAIRS[kind]
    gan = make()
    data = random_pictures(40, *shape)
    fit(gan, 2 * data - 1 if gan.draws == (-1, 1) else data, LivePicture(**options), epochs=2)
    assert len(displayed) == len(set(displayed)) == 3
    assert len({size_of(png) for png in displayed}) == 1


def test_the_live_picture_shows_what_the_same_noise_becomes(images, drawn, displayed):
    gan = tiny_gan()
    expected = [gan.generate(42, seed=1)]
    remember = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: expected.append(gan.generate(42, seed=1)))
    gan.fit(images, epochs=2, steps_per_epoch=20, verbose=0, callbacks=[remember, LivePicture()])
    assert len(drawn) == 3 and all(np.array_equal(a, b) for (a, _), b in zip(drawn, expected))
    assert not np.array_equal(expected[0], expected[1])


def test_the_live_picture_brings_what_a_tanh_draws_to_0_to_1(images, drawn, displayed):
    gan = tanh_gan()
    fit(gan, 2 * images.clip(0, 1) - 1, LivePicture())
    pictures = gan.generate(42, seed=1)
    assert pictures.min() < 0 and np.allclose(drawn[-1][0], (pictures + 1) / 2)


def test_the_live_picture_shows_what_can_be_shown_of_a_generator_without_bounds(images, drawn, displayed):
    generator = keras.Sequential([keras.Input((5,)), keras.layers.Dense(16)])
    gan = GAN(generator, gan_lib.build_discriminator(hidden=8, pixels=16))
    fit(gan, images, LivePicture())
    pictures = gan.generate(42, seed=1)
    assert pictures.min() < 0 and pictures.max() > 1 and np.array_equal(drawn[-1][0], pictures.clip(0, 1))


def test_the_live_picture_brings_any_range_to_0_to_1(images, drawn, displayed):
    generator = keras.Sequential([keras.Input((5,)), keras.layers.Dense(16, "sigmoid"), keras.layers.Rescaling(255)])
    gan = GAN(generator, gan_lib.build_discriminator(hidden=8, pixels=16))
    fit(gan, 255 * images.clip(0, 1), LivePicture())
    assert np.allclose(drawn[-1][0], gan.generate(42, seed=1) / 255)


def conditional_gan():
    noise, pixels, label = keras.Input((5,)), keras.Input((16,)), keras.Input((1,))
    layers = keras.layers
    return GAN(keras.Model([noise, label], layers.Dense(16, "sigmoid")(layers.Concatenate()([noise, label]))),
               keras.Model([pixels, label], layers.Dense(1)(layers.Concatenate()([pixels, label]))))


def test_the_live_picture_shows_a_conditional_pair_under_the_labels_that_it_got(drawn, displayed):
    gan, labels = conditional_gan(), np.arange(42) % 3
    fit(gan, random_pictures(42, 16), LivePicture(labels=labels), y=labels)
    assert np.array_equal(drawn[-1][0], gan.generate(42, seed=1, labels=labels))


@pytest.mark.parametrize(("labels", "names"), [
    (np.repeat([0, 1, 2, 3, 5, 7], 7), ["0", "1", "2", "3", "5", "7"]), (np.arange(42) % 3, ()), (4, ())])
def test_a_label_stands_before_each_row_of_the_live_picture_that_has_only_one(labels, names, displayed, monkeypatch):
    seen = []
    monkeypatch.setattr(gan_lib, "draw_images", lambda *_, names, **__: seen.append(names))
    fit(conditional_gan(), random_pictures(42, 16), LivePicture(labels=labels), y=np.arange(42) % 3)
    assert len(seen) >= 2 and all(list(rows) == list(names) for rows in seen)


@pytest.mark.parametrize(("make", "labels", "said"), [
    (conditional_gan, None, r"has no labels, expected one for each of its 42 .*LivePicture\(labels=\.\.\.\)"),
    (conditional_gan, [0, 1, 2], r"has labels of the shape \[3\], expected one for each of its 42 pictures"),
    (lambda: flat_gan(16), 1, r"LivePicture has labels .*not conditional: LivePicture\(\)")])
def test_the_live_picture_says_which_labels_it_needs(make, labels, said, displayed):
    gan, y = make(), np.zeros(40) if make is conditional_gan else None
    with pytest.raises(ValueError, match=said):
        fit(gan, random_pictures(40, 16), LivePicture(labels=labels), y=y)
    assert gan.alternations == 0 and displayed == []


@pytest.mark.parametrize("numbers", [1, 2, 50])
def test_the_live_picture_of_what_is_no_picture_is_refused_before_training(numbers, displayed):
    gan = flat_gan(numbers)
    with pytest.raises(ValueError, match="no square grey pictures. Say the shape of one"):
        fit(gan, random_pictures(40, numbers), LivePicture())
    assert gan.alternations == 0 and displayed == []


def test_the_live_picture_says_how_far_the_run_is(images, drawn, displayed):
    gan, live = tiny_gan(), LivePicture()

    def titles(data, **options):
        drawn.clear()
        fit(gan, data, live, **options)
        assert all(re.search(r"  ·  \d+ per second$", title) for _, title in drawn[1:])
        return [title.removeprefix("alternation ").split("  ·")[0] for _, title in drawn]

    dataset = tf.data.Dataset.from_tensor_slices(images[:32].clip(0, 1)).batch(16)
    assert titles(images.clip(0, 1), epochs=2) == ["0 of 4", "2 of 4", "4 of 4"]
    assert titles(images.clip(0, 1), epochs=3, initial_epoch=1) == ["4 of 8", "6 of 8", "8 of 8"]
    assert titles(dataset, epochs=2, steps_per_epoch=None) == ["8 of 12", "10 of 12", "12 of 12"]
    assert titles(dataset.filter(lambda x: True), steps_per_epoch=None) == ["12", "14"]


def test_the_live_picture_does_no_harm_where_no_notebook_shows_it(images):
    gan = tiny_gan()
    fit(gan, images, LivePicture(), epochs=2)
    assert gan.alternations == 4


def test_a_live_picture_changes_nothing_in_the_training(images, displayed):
    with_one, without = tiny_gan(), tiny_gan()
    with_one.fit(images, epochs=3, steps_per_epoch=7, verbose=0, callbacks=[LivePicture()])
    without.fit(images, epochs=3, steps_per_epoch=7, verbose=0)
    assert np.array_equal(with_one.generate(5), without.generate(5))


@pytest.mark.parametrize(("given", "shape"), [
    ((4, 784), None), ((4, 12, 20), None), ((4, 12, 20, 3), None), ((4, 720), (12, 20, 3))])
def test_a_film_holds_every_frame_and_needs_no_network_for_its_buttons(given, shape):
    frames = random_pictures(3, *given)
    player = film(frames, ["one", "two", "three"], columns=2, shape=shape).data
    scenes = json.loads(re.search(r"scenes = (\[\[.*\]\])", player)[1])
    assert [title for _, title in scenes] == ["one", "two", "three"]
    still, = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="three"', player)
    assert still == scenes[-1][0] != scenes[0][0] and "http" not in player


def test_a_wrong_film_is_named(digits):
    with pytest.raises(ValueError, match="There are 1 titles for 2 frames"):
        film([digits[:4], digits[4:8]], ["one"])
    with pytest.raises(ValueError, match="the number of frames is 0"):
        film([], [])
    with pytest.raises(ValueError, match="Divide them by 255"):
        film([digits[:4], 255 * digits[:4]], ["one", "two"])


def film_of(pictures):
    return re.findall(r'\["([^"]{100,})"', film([pictures[:4], pictures[4:8]], ["one", "two"]).data)


def every_kind_of_picture(digits, displayed):
    """The PNGs of all that draws, with lines, labels and a legend, in which a style would show."""
    def draw(figure, x):
        axes = figure.add_subplot()
        axes.plot([1, 2, x], label="a line")
        axes.set(title="title", xlabel="x", ylabel=r"$\alpha$")
        axes.legend()
        return "sentence"

    displayed.clear()
    show_images(digits[:6], title="digits", headings=["one"])
    control = explore(draw, x=(0, 3))
    control.controls["x"].value = 2
    live = LivePicture()
    live.set_model(tiny_gan())
    live.set_params({"steps": 2, "epochs": 3})
    live.on_train_begin()
    live.on_epoch_begin(0)
    live.on_epoch_end(0, {"d_loss": 1.3, "g_loss": 0.8, "d_real": 0.6, "d_fake": 0.4, "per_second": 900.0})
    return list(displayed), control.png, control._repr_mimebundle_()["image/png"], film_of(digits)


OWN_STYLES = ["dark_background", "ggplot", "fivethirtyeight", {"image.origin": "lower"}, "classic",
              {"font.size": 20, "axes.grid": True, "savefig.facecolor": "black", "figure.facecolor": "black"}]


@pytest.mark.parametrize("style", OWN_STYLES, ids=str)
def test_a_learners_own_style_changes_none_of_our_pictures_and_stays_as_it_was(style, digits, displayed):
    ours = every_kind_of_picture(digits, displayed)
    with matplotlib.rc_context():
        matplotlib.style.use(style)
        before = dict(matplotlib.rcParams)
        assert every_kind_of_picture(digits, displayed) == ours
        assert dict(matplotlib.rcParams) == before


def test_a_picture_that_another_one_overlaps_in_time_has_our_style_to_its_end(digits):
    first_is_drawn, second_is_drawn, first_is_done = (threading.Event() for _ in range(3))

    def draw(figure, begins, waits_for):
        begins.set()
        assert waits_for.wait(60)
        draw_images(figure.add_subplot(), digits[:6], title="digits")
        return "sentence"

    def picture(begins, waits_for):
        return explore(lambda figure: draw(figure, begins, waits_for)).png

    ours = picture(first_is_done, first_is_done)
    first_is_done.clear()
    with matplotlib.rc_context(), concurrent.futures.ThreadPoolExecutor(2) as pool:
        matplotlib.style.use("dark_background")
        before = dict(matplotlib.rcParams)
        first = pool.submit(picture, first_is_drawn, second_is_drawn)
        assert first_is_drawn.wait(60)
        second = pool.submit(picture, second_is_drawn, first_is_done)
        assert first.result() == ours
        first_is_done.set()
        assert second.result() == ours
        assert dict(matplotlib.rcParams) == before


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
    before = control.png
    control.controls["x"].value = x
    assert control.png != before
    assert imread(io.BytesIO(control.png)).shape == imread(io.BytesIO(before)).shape
    assert control.said == f"x = {x} & its power is {x**2}"


def test_a_message_from_the_browser_redraws_too(control):
    control.controls["power"].set_state({"value": 3})
    assert control.said == "x = 3 & its power is 27"


def test_an_error_is_shown_and_raised_and_the_control_recovers(control):
    with pytest.raises(ArithmeticError):
        control.controls["x"].value = 10
    assert "ArithmeticError: 10 is too large" in control.said
    control.controls["x"].value = 2
    assert control.said == "x = 2 & its power is 4"


def test_viewers_without_widgets_get_the_picture_and_the_sentence(control):
    bundle = control._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == control.model_id
    assert bundle["text/plain"] == "x = 3 & its power is 9"
    still, live = (imread(io.BytesIO(png)) for png in (base64.b64decode(bundle["image/png"]), control.png))
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


