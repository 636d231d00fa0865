"""Random numbers of a training step, the same whenever the step is taken."""

import numpy as np
import torch


def step_seed(*coordinates: int) -> int:
    """One well-mixed seed out of a few non-negative integers, such as (seed, step, rank)."""
    return int(np.random.SeedSequence(coordinates).generate_state(1, np.uint64)[0] >> 1)


def step_generator(device: torch.device, *coordinates: int) -> torch.Generator:
    """A generator on `device` whose numbers depend on the coordinates alone.

    A step that draws everything from it comes out the same in an uninterrupted run and in a
    resumed one, with no generator state to store.
    """
    generator = torch.Generator(device)
    generator.manual_seed(step_seed(*coordinates))
    return generator
