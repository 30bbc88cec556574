"""Pictures of one's own come from a folder upright, whole in the middle, in order, and as numbers from 0 to 1."""

import re

import numpy as np
import pytest
from PIL import Image

from gan_lib import GAN, build_dcgan, load_images, show_images

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def save(folder, name, picture, **options):
    folder.mkdir(exist_ok=True)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(folder / name, **options)


def flat(width, height, color=128, mode="L"):
    return Image.new(mode, (width, height), color)


def stripes(colors, thickness, length):
    """Vertical stripes, side by side: uint8 [length, len(colors) * thickness, 3]."""
    return np.array(colors, np.uint8).repeat(thickness, axis=0)[None].repeat(length, axis=0)


def random_greys(height, width):
    return np.random.default_rng(0).integers(256, size=(height, width), dtype=np.uint8)


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("size", [(28, 28), (16, 48), (7, 5), (1, 1)])
def test_pictures_of_any_size_become_pictures_of_one_size(size, color, folder):
    for i, (width, height) in enumerate([(48, 48), (100, 60), (50, 300)]):
        save(folder, f"{i}.png", flat(width, height))
    images = load_images(folder, size=size, color=color)
    assert images.shape == (3, *size, 3 if color else 1) and images.dtype == np.float32
    assert np.allclose(images, 128 / 255)


def test_without_more_words_they_are_grey_and_as_large_as_mnists(folder, capsys):
    save(folder, "a.png", flat(40, 40))
    assert load_images(folder).shape == (1, 28, 28, 1)
    assert capsys.readouterr().out == ""


def test_a_picture_of_just_this_size_comes_pixel_by_pixel(folder):
    greys, colors = random_greys(12, 20), random_greys(12, 60).reshape(12, 20, 3)
    save(folder, "grey.png", greys)
    save(folder, "more.png", colors)
    images = load_images(folder, size=(12, 20), color=True)
    assert np.array_equal(images[0], (greys[..., None].repeat(3, axis=2) / 255).astype(np.float32))
    assert np.array_equal(images[1], (colors / 255).astype(np.float32))


def test_black_is_0_and_white_is_1_also_where_sharp_edges_are_scaled(folder):
    edges = np.kron(np.random.default_rng(0).integers(2, size=(20, 20)), np.full((3, 3), 255)).astype(np.uint8)
    save(folder, "a.png", edges)
    for size in (28, 28), (100, 100), (60, 60):
        images = load_images(folder, size=size)
        assert images.min() >= 0 and images.max() <= 1
    assert images.min() == 0 and images.max() == 1


def test_they_come_in_the_order_of_their_names(folder):
    names = ["b.png", "a.jpg", "d.JPG", "c.jpeg", "aa.PNG"]
    for name in names:
        save(folder, name, flat(30, 30, 10 * sum(map(ord, name.split(".")[0])) % 256))
    expected = [10 * sum(map(ord, name.split(".")[0])) % 256 for name in sorted(names)]
    assert np.allclose(load_images(folder)[:, 14, 14, 0] * 255, expected, atol=2)


def test_colours_stay_or_become_the_grey_of_their_brightness(folder):
    for i, color in enumerate([RED, GREEN, BLUE, WHITE]):
        save(folder, f"{i}.png", flat(30, 30, color, "RGB"))
    assert np.array_equal(load_images(folder, color=True)[:, 3, 3] * 255, [RED, GREEN, BLUE, WHITE])
    grey = load_images(folder)[:, 3, 3, 0]
    assert grey[2] < grey[0] < grey[1] < grey[3] == 1 and np.isclose(grey[:3].sum(), 1, atol=0.01)


def palette(color):
    picture = flat(30, 30, 0, "P")
    picture.putpalette(color * 256)
    return picture


TRANSPARENT = {
    "colour": (flat(30, 30, (255, 0, 0, 0), "RGBA"), {}, 1),
    "grey": (flat(30, 30, (0, 0), "LA"), {}, 1),
    "half": (flat(30, 30, (0, 0, 0, 102), "RGBA"), {}, 0.6),
    "one colour of a palette": (palette(RED), {"transparency": 0}, 1),
    "one grey": (flat(30, 30, 7), {"transparency": 7}, 1),
}


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("kind", TRANSPARENT)
def test_what_is_transparent_becomes_white(kind, color, folder):
    picture, options, expected = TRANSPARENT[kind]
    save(folder, "a.png", picture, **options)
    assert np.allclose(load_images(folder, color=color), expected, atol=0.003)


OTHER_KINDS = {
    "black and white": ("png", flat(30, 30, 1, "1"), WHITE),
    "palette": ("png", palette(BLUE), BLUE),
    "of a printer": ("jpg", flat(30, 30, (255, 0, 0, 0), "CMYK"), (0, 255, 255)),
    "grey JPEG": ("jpg", flat(30, 30, 99), (99, 99, 99)),
    "of 16 bits": ("png", np.full((30, 30), 99 * 257, np.uint16), (99, 99, 99)),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_pictures_of_other_kinds_have_the_right_colours(kind, folder):
    suffix, picture, expected = OTHER_KINDS[kind]
    save(folder, f"a.{suffix}", picture)
    assert np.allclose(load_images(folder, color=True) * 255, expected, atol=2)


TURNED = {  # the EXIF orientation -> how a camera stores an upright picture under it
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.T, 6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].T, 8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_a_picture_that_a_camera_stored_turned_is_upright(orientation, folder):
    upright = random_greys(10, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(folder, "a.png", np.ascontiguousarray(TURNED[orientation](upright)), exif=exif)
    assert np.array_equal(load_images(folder, size=(10, 16))[0, :, :, 0], (upright / 255).astype(np.float32))


def test_a_wide_or_high_picture_is_cut_around_its_middle_and_not_squeezed(folder):
    wide = stripes([RED, GREEN, BLUE], thickness=40, length=40)
    save(folder, "wide.png", wide)
    save(folder, "high.png", np.ascontiguousarray(wide.swapaxes(0, 1)))
    inner = load_images(folder, size=(20, 20), color=True)[:, 1:-1, 1:-1]
    assert inner.shape[0] == 2 and (inner * 255 == GREEN).all()


def test_the_first_number_of_size_is_the_height(folder):
    save(folder, "a.png", stripes([RED, GREEN, BLUE], thickness=20, length=20))
    images = load_images(folder, size=(10, 30), color=True)
    assert images.shape == (1, 10, 30, 3)
    assert np.array_equal(images[0, :, [5, 15, 25]] * 255, [[RED] * 10, [GREEN] * 10, [BLUE] * 10])


def test_small_pictures_are_enlarged_and_named(folder, capsys):
    for name, width, height in ("large", 28, 28), ("low", 90, 27), ("narrow", 27, 90), ("tiny", 1, 1):
        save(folder, f"{name}.png", flat(width, height))
    assert np.allclose(load_images(folder), 128 / 255)
    assert capsys.readouterr().out == ("3 of 4 pictures smaller than size=(28, 28) and enlarged: "
                                       "low.png, narrow.png, tiny.png\n")


def truncated(path):
    Image.fromarray(random_greys(40, 40)).save(path)
    path.write_bytes(path.read_bytes()[:500])


BROKEN = {
    "a text": lambda path: path.write_text("no picture"),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": truncated,
    "a folder": lambda path: path.mkdir(),
    "a link to nowhere": lambda path: path.symlink_to(path.parent / "nowhere"),
}


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_left_out_and_named(kind, suffix, folder, capsys):
    save(folder, "a.png", flat(30, 30, 0))
    BROKEN[kind](folder / f"b.{suffix}")
    save(folder, "c.png", flat(30, 30, 255))
    assert np.array_equal(load_images(folder)[:, 5, 5, 0], [0, 1])
    assert capsys.readouterr().out == f"1 of 3 pictures unreadable and left out: b.{suffix}\n"


def test_of_many_that_cannot_be_read_five_are_named(folder, capsys):
    save(folder, "z.png", flat(30, 30))
    for i in range(7):
        (folder / f"{i}.png").touch()
    assert len(load_images(folder)) == 1
    assert capsys.readouterr().out == ("7 of 8 pictures unreadable and left out: "
                                       "0.png, 1.png, 2.png, 3.png, 4.png, ...\n")


def test_other_files_and_folders_within_are_passed_over(folder, capsys):
    save(folder, "a.png", flat(30, 30))
    save(folder / "within", "b.png", flat(30, 30))
    (folder / "notes.txt").touch()
    assert len(load_images(folder)) == 1 and capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["a.png", "b.JPG"]])
def test_a_folder_without_a_picture_is_named(content, folder):
    folder.mkdir()
    for name in content:
        (folder / name).write_text("no picture")
    pictures = sum(not name.endswith("txt") for name in content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(folder))} holds no picture that can be read \({pictures} "
                                         r"with a name in .*Expected: PNG or JPEG files in the folder itself\."):
        load_images(folder)


@pytest.mark.parametrize("name", ["nowhere", "pictures/a.png"])
def test_what_is_no_folder_is_named(name, folder, tmp_path):
    save(folder, "a.png", flat(30, 30))
    with pytest.raises(FileNotFoundError, match=f"{name} is no folder. Expected: a folder with PNG or JPEG pictures"):
        load_images(tmp_path / name)


@pytest.mark.parametrize(("size", "said"), [
    (28, r"size is 28, expected \(height, width\) in pixels"), ((28, 28, 3), r"expected \(height, width\)"),
    ((0, 28), "the height in size is 0"), ((28, 2.5), "the width in size is 2.5")])
def test_a_wrong_size_is_named(size, said, folder):
    save(folder, "a.png", flat(30, 30))
    with pytest.raises(ValueError, match=said):
        load_images(folder, size=size)


def test_a_folder_may_begin_with_a_tilde(folder, monkeypatch):
    for variable in "HOME", "USERPROFILE":
        monkeypatch.setenv(variable, str(folder.parent))
    save(folder, "a.png", flat(30, 30))
    assert len(load_images("~/pictures")) == 1


# -- and a GAN learns from them --------------------------------------------------------------------------------


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("size", [(9, 14), (17, 8)])
def test_a_dcgan_trains_on_pictures_of_odd_sizes_beside_a_broken_file(size, color, folder, tmp_path):
    for i, (width, height) in enumerate([(31, 45), (200, 17), (20, 20)]):
        save(folder, f"{i}.png", stripes([RED, WHITE, GREEN, BLUE], width // 4 + 1, height))
    BROKEN["cut off"](folder / "3.png")
    images = load_images(folder, size=size, color=color)
    gan = GAN(*build_dcgan(images.shape[1:], channels=2))
    gan.fit(images, batch_size=4, steps_per_epoch=2, verbose=0)
    drawn = gan.generate(2)
    assert images.shape == (3, *size, 3 if color else 1) and drawn.shape == (2, *images.shape[1:])
    assert gan.alternations == 2 and 0 <= drawn.min() and drawn.max() <= 1
    show_images(drawn)


def test_a_dcgan_learns_a_single_picture(folder):
    save(folder, "a.png", stripes([WHITE, RED], 16, 32))
    images = load_images(folder, size=(12, 12), color=True)
    gan = GAN(*build_dcgan((12, 12, 3), channels=4))
    gan.compile(r1=1.0)
    apart = np.abs(gan.generate(20) - images).mean()
    gan.fit(images, batch_size=8, steps_per_epoch=300, verbose=0)
    assert np.abs(gan.generate(20) - images).mean() < 0.8 * apart


def test_single_pictures_saved_with_keras_come_back(folder):
    from keras.utils import save_img

    folder.mkdir()
    pictures = np.random.default_rng(0).random((3, 9, 14, 3), dtype=np.float32)
    for i, picture in enumerate(pictures):
        save_img(folder / f"{i}.png", 255 * picture, scale=False)
    assert np.abs(load_images(folder, size=(9, 14), color=True) - pictures).max() <= 1 / 255
