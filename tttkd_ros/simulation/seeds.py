"""Seeds of simulated drives: a range for each purpose. No two purposes share a drive."""

from __future__ import annotations

SEEDS = {
    "examples": range(100),  # the documentation's commands, and tests
    "validation": range(101, 200),  # settings are chosen on these drives, so no result is reported on them
    "guard benchmark": range(231, 236),
    "parked benchmark": range(241, 244),
    "demo": range(901, 1000),
    "benchmark": range(7001, 8000),
    "teacher": range(1_000_000, 2_000_000),
    "student": range(2_000_000, 3_000_000),
    "image head": range(3_000_000, 4_000_000),
}


def training_seeds(purpose: str, seed: int, drives: int) -> range:
    """Return the seeds of the drives that a training with `seed` uses.

    Raises ValueError if they do not lie in the purpose's range.
    """
    allowed = SEEDS[purpose]
    first = allowed.start + seed * drives
    if drives < 1 or seed < 0 or first + drives > allowed.stop:
        raise ValueError(f"seed is {seed} and drives is {drives}: the {purpose} has {len(allowed)} drives, expected "
                         f"seed >= 0, drives >= 1 and (seed + 1) * drives <= {len(allowed)}")
    return range(first, first + drives)
