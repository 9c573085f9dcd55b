"""How often the 95 % intervals that the gate decides by miss the truth, a side, with few commits: simulated.

    python benchmarks/coverage.py [--trials 4000]

Differences in bits per byte that are truly zero, at one to five places of each commit; the places of one share half of
their variance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from homespun_trainer.intervals import Share, ratio, widening

Draw = Callable[[np.random.Generator, int], np.ndarray]
NOISE: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.exponential(size=n) - 1,
    "heavy tails": lambda rng, n: rng.standard_t(3, size=n) / np.sqrt(3),
}
COMMITS = (10, 15, 20, 30, 60, 100)


def interval(noise: Draw, rng: np.random.Generator, num_commits: int) -> tuple[float, float, float]:
    """Value, and the ends of the interval."""
    commits = np.repeat(np.arange(num_commits), rng.integers(1, 6, size=num_commits))
    sizes = rng.integers(5, 60, size=len(commits)).astype(float)
    per_byte = noise(rng, num_commits)[commits] + noise(rng, len(commits))
    found = ratio(Share(tops=(per_byte * sizes).tolist(), bottoms=sizes.tolist()), commits.tolist())
    return found.value, found.low, found.high


def misses(noise: Draw, num_commits: int, trials: int) -> list[float]:
    """Per cent below and above zero: of the percentiles alone, and as they are widened."""
    rng, factor = np.random.default_rng(num_commits), widening(num_commits)
    found = np.array([interval(noise, rng, num_commits) for _ in range(trials)])
    value, low, high = found.T
    plain = value - (value - low) / factor, value + (high - value) / factor
    return [float(100 * np.mean(side)) for side in (plain[1] < 0, plain[0] > 0, high < 0, low > 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4_000)
    trials = parser.parse_args().trials
    print("| noise | commits | percentiles: below, above | widened: below, above |\n|---|---|---|---|")
    for name, noise in NOISE.items():
        for num_commits in COMMITS:
            a, b, c, d = misses(noise, num_commits, trials)
            print(f"| {name} | {num_commits} | {a:.1f} %, {b:.1f} % | {c:.1f} %, {d:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
