"""Denoising steps: code counts from 0, people read and type numbers from 1."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

MOST_STEPS = 1000
"""Timesteps that models of this kind are trained on: no sampler takes more steps."""
EARLY_STEP = 4
"""Step 5, counted from 0, at which the paper reports that the scene is laid out."""
BY_STEP, BY_NOISE = AXES = ("step", "log-snr")
"""What tables and charts are ordered by: steps of one sampler, or noise levels of any."""


def number_of(step: int) -> int:
    """Return the number under which a step is shown."""
    return step + 1


def numbers_of(steps: Iterable[int]) -> tuple[int, ...]:
    """Return the numbers under which steps are shown."""
    return tuple(map(number_of, steps))


def step_of(number: int) -> int:
    """Return the step with this number."""
    return number - 1


def steps_of(numbers: Iterable[int]) -> tuple[int, ...]:
    """Return the steps with these numbers."""
    return tuple(map(step_of, numbers))


def early_and_last(steps: Iterable[int]) -> tuple[int, ...]:
    """Return step 5, if it is probed, and the last probed step."""
    probed = tuple(steps)
    return tuple(dict.fromkeys(step for step in (EARLY_STEP, probed[-1]) if step in probed))


def parse_steps(text: str) -> tuple[int, ...]:
    """Parse step numbers and ranges of them, such as ``1,2,5`` or ``1-5``."""
    numbers: list[int] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
            # A range of billions would fill the memory; its first step beyond the most is refused.
            step_range = range(low, min(high, max(low, MOST_STEPS + 1)) + 1)
        except ValueError:
            step_range = range(0)
        if not step_range:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a step or a range of steps; "
                "steps are counted from 1, such as 1,2,5 or 1-5"
            )
        numbers.extend(step_range)
    if not numbers:
        raise argparse.ArgumentTypeError(f"{text!r} names no step; name some, such as 1,2,5 or 1-5")
    return tuple(numbers)
