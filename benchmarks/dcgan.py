"""How far the DCGAN and its rivals get in one minute and in two, on several seeds: the table that notebook 08 shows.

    GAN_LIB_MNIST=mnist.npz python benchmarks/dcgan.py

writes dcgan.csv beside this file: a line for each pair of networks and each time, with the Fréchet distance of 2 000
pictures.  It takes half an hour on two idle cores.  It may be stopped at any time: what stands in the file is not
measured again, and runs go on from what is kept in dist/dcgan.  Delete both to begin anew.

Time is given in alternations, so that it does not matter what else the machine does: as many as two idle cores make in
a minute, or in two, at the rate that stands in `PAIRS`.  The column "cpu" says what they took in fact: CPU time of the
process, divided by two cores, in seconds, mean over the seeds.  Two cores are never busy all the time, so it stays
below the minute, and farther below where there are convolutions.
"""

import csv
import time
from pathlib import Path

from gan_lib import GAN, Scorer, build_dcgan, load_mnist
import keras

FILE = Path(__file__).with_suffix(".csv")
KEPT = Path(__file__).parents[1] / "dist" / "dcgan"
PICTURES, CORES = 2000, 2
FEW, ALL = range(2), range(5)  # seeds
PAIRS = {  # name -> (convolutions?, settings of compile, alternations a second on two idle cores, seeds)
    "DCGAN": (True, {}, 48, ALL),
    "dense": (False, {}, 465, ALL),
    "modern dense": (False, {"loss": "relativistic", "r1": 0.3, "r2": 0.3}, 300, FEW),
    "DCGAN + R1": (True, {"r1": 0.3}, 38, FEW),
}
HEADER = ["pair", "minutes", "alternations", "cpu", *(f"seed {seed}" for seed in ALL)]


def measure(name, seed, minute, images, scorer):
    """Train for the first minute or for the second; return alternations, seconds, and two distances.

    The second distance is that with the average of G's weights.
    """
    convolutions, settings, rate, _ = PAIRS[name]
    images, batch = (images.reshape(-1, 28, 28, 1), 64) if convolutions else (images, 128)
    before, after = (KEPT / f"{name} {seed} {m}.keras" for m in (minute - 1, minute))
    if minute > 1:
        gan = keras.saving.load_model(before)
    else:
        gan = GAN(*build_dcgan(seed=seed), seed=seed) if convolutions else GAN(seed=seed)
        gan.compile(**settings, generator_optimizer=keras.optimizers.Adam(0.001, beta_1=0.5, use_ema=True))
    steps, found = round(60 * rate, -2), []

    def distance():
        return scorer.distance(gan.generate(PICTURES, seed=1))

    def at_the_end(epoch, logs):  # afterwards the average takes the weights' place
        found.extend([gan.alternations, (time.process_time() - began) / CORES, distance()])
        KEPT.mkdir(parents=True, exist_ok=True)
        gan.save(after)

    began = time.process_time()
    gan.fit(images, batch_size=batch, steps_per_epoch=steps, verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=at_the_end)])
    return *found, distance()


def read():
    """The table in the file: (pair, minutes) -> {column: text}."""
    if not FILE.exists():
        return {}
    with open(FILE, newline="", encoding="utf-8") as file:
        return {(row["pair"], int(row["minutes"])): row for row in csv.DictReader(file)}


def write(table):
    order = [(f"{pair}{averaged}", minutes) for pair in PAIRS for averaged in ("", " averaged") for minutes in (1, 2)]
    with open(FILE, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HEADER, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[key] for key in order if key in table)


def main():
    digits, table = load_mnist(), read()
    scorer = Scorer(digits)
    print(digits.source, "floor", round(scorer.distance(digits.train_images[:PICTURES]), 2), flush=True)
    todo = [(minute, seed, name) for minute in (1, 2) for seed in ALL for name in PAIRS if seed in PAIRS[name][-1]]
    for minute, seed, name in todo:
        if table.get((name, minute), {}).get(f"seed {seed}"):
            continue
        alternations, seconds, *distances = measure(name, seed, minute, digits.train_images, scorer)
        earlier = table.get((name, minute - 1), {})
        for pair, distance in zip((name, f"{name} averaged"), distances):
            row = table.setdefault((pair, minute), {"pair": pair, "minutes": minute, "cpu": 0})
            done = sum(bool(row.get(f"seed {other}")) for other in ALL)
            total = float(earlier.get("cpu", 0)) + seconds
            row |= {"alternations": alternations, "cpu": f"{(float(row['cpu']) * done + total) / (done + 1):.1f}",
                    f"seed {seed}": f"{distance:.1f}"}
            print(seed, pair, minute, f"{seconds:.1f} s", f"{distance:.1f}", flush=True)
        write(table)


if __name__ == "__main__":
    main()
