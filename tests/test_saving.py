"""Saving: a loaded GAN goes on as if it had never stopped, and nothing is lost when something goes wrong."""

import keras
import numpy as np
import pytest
from conftest import in_another_process, same, state, tiny_gan, trained

import gan_lib
from gan_lib import GAN, LOSSES, Loss


@pytest.fixture(scope="module")
def saved(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "gan.npz"
    gan = tiny_gan(seed=4, discriminator_steps=2, generator_optimizer=keras.optimizers.RMSprop(0.002))
    trained(gan, images, 30)
    gan.save(path)
    return path, gan, state(gan)


def test_loaded_in_another_process_and_continued_equals_never_stopped(saved, images, tmp_path):
    path, gan, before = saved
    there = tmp_path / "continued.npz"
    in_another_process(f"gan = gan_lib.GAN.load({str(path)!r})\n"
                       f"trained(gan, two_kinds(), 25); gan.save({str(there)!r})")
    trained(gan, images, 25)
    continued = GAN.load(there)
    assert continued.step == gan.step == 55 and same(state(continued), state(gan))
    gan._restore(before)


def test_all_of_it_comes_back(saved):
    path, gan, _ = saved
    loaded = GAN.load(path)
    assert same(state(gan), state(loaded))
    assert (loaded.seed, loaded.discriminator_steps, loaded.loss, loaded.step) == (4, 2, gan.loss, 30)
    assert type(loaded.generator_optimizer) is type(gan.generator_optimizer)
    assert np.array_equal(gan.generate(3), loaded.generate(3))


def test_a_loss_of_ones_own_has_to_be_passed(saved, tmp_path):
    mine = Loss("mine", LOSSES["logistic"].discriminator, LOSSES["logistic"].generator)
    tiny_gan(loss=mine).save(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="trained with a loss of your own, 'mine'.*Pass it"):
        GAN.load(tmp_path / "mine.npz")
    assert GAN.load(tmp_path / "mine.npz", loss=mine).loss is mine


def test_a_loss_of_ones_own_is_not_taken_for_the_librarys_of_that_name(tmp_path):
    mine = Loss("hinge", LOSSES["logistic"].discriminator, LOSSES["logistic"].generator)
    tiny_gan(loss=mine).save(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="trained with a loss of your own, 'hinge'"):
        GAN.load(tmp_path / "mine.npz")


def test_another_architecture_is_named(saved):
    other = gan_lib.build_generator(noise_dim=5, hidden=9, pixels=16)
    with pytest.raises(ValueError, match=r"another architecture: an array \[5, 8\] .* an array \[5, 9\] is expected"):
        GAN.load(saved[0], generator=other)
    with pytest.raises(TypeError, match="takes no 'G', expected some of 'generator', 'discriminator'"):
        GAN.load(saved[0], G=other)
    same_shape = gan_lib.build_generator(noise_dim=5, hidden=8, pixels=16)
    assert same(state(GAN.load(saved[0], generator=same_shape)), saved[2])


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named_and_kept(saved, tmp_path, share):
    whole, cut = saved[0].read_bytes(), tmp_path / "cut.npz"
    cut.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match="cut.npz is not a whole file written by gan.save"):
        GAN.load(cut)
    assert cut.read_bytes() == whole[:int(share * len(whole))]


def test_a_file_of_something_else_is_named(tmp_path):
    np.savez(tmp_path / "else.npz", x=np.arange(3))
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.arange(3))
    (tmp_path / "text.npz").write_text("hello")
    for name in "else.npz", "text.npz", "array.npz":
        with pytest.raises(ValueError, match=f"{name} is not a whole file"):
            GAN.load(tmp_path / name)


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*nowhere"):
        GAN.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
        tiny_gan().save(tmp_path / "nowhere" / "gan.npz")


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "gan.npz"
    path.write_bytes(b"old")

    def fails_half_way(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", fails_half_way)
    with pytest.raises(OSError, match="No space"):
        tiny_gan().save(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
