"""How far the DCGAN and its rivals get in one minute and in two, on several seeds: the table that notebook 08 shows.

    GAN_LIB_MNIST=mnist.npz python benchmarks/dcgan.py

writes dcgan.csv beside this file: a line for each pair of networks and each time, with the Fréchet distance of 2 000
pictures.  What stands in the file is not measured again; delete it to begin anew, which takes half an hour on two idle
cores.

Time is given in alternations, so that it does not matter what else the machine does: as many as two idle cores make in
a minute, or in two, at the rate that stands in `PAIRS`.  The column "cpu" says what they took in fact: CPU time of the
process, divided by two cores, in seconds, mean over the seeds.  Two cores are never busy all the time, so it stays
below the minute; what counts is that it is about the same for all.
"""

import csv
import time
from pathlib import Path

from gan_lib import GAN, Scorer, build_dcgan, load_mnist
import keras

FILE = Path(__file__).with_suffix(".csv")
PICTURES, CORES, MINUTES = 2000, 2, (1, 2)
FEW, ALL = range(2), range(5)  # seeds
PAIRS = {  # name -> (convolutions?, settings of compile, alternations a second on two idle cores, seeds)
    "DCGAN": (True, {}, 48, ALL),
    "dense": (False, {}, 465, ALL),
    "modern dense": (False, {"loss": "relativistic", "r1": 0.3, "r2": 0.3}, 300, FEW),
    "DCGAN + R1": (True, {"r1": 0.3}, 38, FEW),
}
HEADER = ["pair", "minutes", "alternations", "cpu", *(f"seed {seed}" for seed in ALL)]


def measure(name, seed, images, scorer):
    """(minutes, alternations, seconds, distance, distance of the average of G's weights), after each minute."""
    convolutions, settings, rate, _ = PAIRS[name]
    gan = GAN(*build_dcgan(seed=seed), seed=seed) if convolutions else GAN(seed=seed)
    images, batch = (images.reshape(-1, 28, 28, 1), 64) if convolutions else (images, 128)
    gan.compile(**settings, generator_optimizer=keras.optimizers.Adam(0.001, beta_1=0.5, use_ema=True))
    steps, found, seconds = round(60 * rate, -2), [], 0.0
    gan.fit(images, batch_size=batch, steps_per_epoch=1, verbose=0)  # compiles

    def at_the_end_of_a_minute(epoch, logs):
        nonlocal seconds, began
        seconds += (time.process_time() - began) / CORES
        weights = gan.generator.trainable_variables
        plain, raw = distance(), [weight.numpy() for weight in weights]
        gan.generator_optimizer.finalize_variable_values(weights)
        found.append((epoch + 1, (epoch + 1) * steps, seconds, plain, distance()))
        for weight, value in zip(weights, raw):
            weight.assign(value)
        began = time.process_time()

    def distance():
        return scorer.distance(gan.generate(PICTURES, seed=1))

    began = time.process_time()
    gan.fit(images, batch_size=batch, epochs=max(MINUTES), steps_per_epoch=steps, verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=at_the_end_of_a_minute)])
    return found


def read():
    """The table in the file: (pair, minutes) -> {column: text}."""
    if not FILE.exists():
        return {}
    with open(FILE, newline="", encoding="utf-8") as file:
        return {(row["pair"], int(row["minutes"])): row for row in csv.DictReader(file)}


def write(table):
    with open(FILE, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HEADER, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.values())


def main():
    digits, table = load_mnist(), read()
    scorer = Scorer(digits)
    print(digits.source, "floor", round(scorer.distance(digits.train_images[:PICTURES]), 2), flush=True)
    for seed in ALL:
        for name, (*_, seeds) in PAIRS.items():
            if seed not in seeds or table.get((name, MINUTES[0]), {}).get(f"seed {seed}"):
                continue
            for minutes, alternations, seconds, plain, averaged in measure(name, seed, digits.train_images, scorer):
                for pair, distance in (name, plain), (f"{name} averaged", averaged):
                    row = table.setdefault((pair, minutes), {"pair": pair, "minutes": minutes})
                    done = sum(bool(row.get(f"seed {other}")) for other in ALL)
                    mean = (float(row.get("cpu", 0)) * done + seconds) / (done + 1)
                    row |= {"alternations": alternations, "cpu": f"{mean:.1f}", f"seed {seed}": f"{distance:.1f}"}
                    print(seed, pair, minutes, f"{seconds:.1f} s", f"{distance:.1f}", flush=True)
            write(table)


if __name__ == "__main__":
    main()
