"""The article's GAN on MNIST, one change at a time: the table of notebook 06.

`python benchmarks/recipes.py` writes recipes.csv beside it, a line for each run as it ends, and leaves out the runs
that stand there already. About ten minutes on two idle cores.
"""

import csv
from pathlib import Path

from gan_lib import GAN, Scorer, load_mnist
import keras
import tensorflow as tf

ALTERNATIONS, SEEDS = 10_000, (10, 11, 12)
RECIPES = {  # loss, Adam's β₁, weights of R1 and R2
    "the article's": ("logistic", 0.9, 0.0, 0.0),
    "the article's, twice as long": ("logistic", 0.9, 0.0, 0.0, 2 * ALTERNATIONS),
    "β₁ ½": ("logistic", 0.5, 0.0, 0.0),
    "R1": ("logistic", 0.9, 0.3, 0.0),
    "R1, β₁ ½": ("logistic", 0.5, 0.3, 0.0),
    "relativistic, R1 + R2, β₁ ½": ("relativistic", 0.5, 0.3, 0.3),
}
TABLE = Path(__file__).with_suffix(".csv")


def trained(seed, loss, beta_1, r1, r2, alternations=ALTERNATIONS):
    """2 000 pictures [2000, 784] of the trained GAN."""
    gan = GAN(seed=seed)
    gan.compile(loss, r1=r1, r2=r2, generator_optimizer=keras.optimizers.Adam(beta_1=beta_1),
                discriminator_optimizer=keras.optimizers.Adam(beta_1=beta_1))
    gan.fit(images, steps_per_epoch=alternations, verbose=0)
    return gan.generate(2000, seed=1)


if __name__ == "__main__":
    data = load_mnist()
    assert "MNIST" in data.source, f"needs MNIST, and found {data.source}"
    images, scorer = tf.constant(data.train_images), Scorer(data)
    if not TABLE.exists():
        TABLE.write_text("recipe,seed,distance," + ",".join(map(str, range(10))) + "\n", "utf-8")
    done = {(row["recipe"], int(row["seed"])) for row in csv.DictReader(TABLE.open(encoding="utf-8"))}
    for seed in SEEDS:
        for name, recipe in RECIPES.items():
            if (name, seed) not in done:
                drawn = trained(seed, *recipe)
                counts = (100 * scorer.shares(drawn)).round(1)
                with TABLE.open("a", encoding="utf-8", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow(
                        [name, seed, f"{scorer.distance(drawn):.1f}", *counts])
