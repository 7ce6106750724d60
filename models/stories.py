"""A grammar of small children's stories: `story(seed)` gives one, the same for the same seed.

A plot is a function that tells its story in order through a `Teller`, which keeps the cast: who the hero is,
which thing is lost, where it was. Every later sentence reads the same cast, so names, pronouns, objects,
places and weather stay consistent from first to last. Variety comes from three levels: which plot, which
sentence of several, and `[one|another]` alternatives inside a sentence.
"""

from __future__ import annotations

import argparse
from random import Random

from plots import PLOTS
from short_plots import SHORT_PLOTS
from teller import Teller


def story(seed: int | str) -> str:
    """One story; the same seed gives the same story."""
    rng = Random(f"story-{seed}")
    teller = Teller(rng)
    rng.choice(SHORT_PLOTS if rng.random() < 0.3 else PLOTS)(teller)
    return teller.text()


def main() -> None:
    """Print stories, to read what the grammar tells."""
    parser = argparse.ArgumentParser(description="Print stories of the demo model's grammar.")
    parser.add_argument("--seed", type=int, default=1, help="the first story's seed")
    parser.add_argument("-n", type=int, default=3, help="how many stories")
    args = parser.parse_args()
    for seed in range(args.seed, args.seed + args.n):
        print(story(seed), end="\n\n")


if __name__ == "__main__":
    main()
