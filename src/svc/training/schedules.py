"""Learning-rate schedules in steps, independent of the length of an epoch."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def exponential_decay(
    optimizer: Optimizer, *, gamma: float = 0.999, every_steps: int = 1000
) -> LambdaLR:
    """Learning rate times gamma for every `every_steps` updates, shrinking smoothly.

    HiFi-GAN decays by 0.999 per epoch; `every_steps` states that epoch in updates.

    Args:
        optimizer: whose learning rates are scheduled.
        gamma: factor, above 0 and at most 1.
        every_steps: updates over which the factor applies once.

    Raises:
        ValueError: a value is out of range.
    """
    if not 0 < gamma <= 1 or every_steps < 1:
        raise ValueError(
            f"exponential_decay needs 0 < gamma <= 1 and every_steps >= 1; got gamma={gamma}, "
            f"every_steps={every_steps}."
        )
    return LambdaLR(optimizer, lambda step: gamma ** (step / every_steps))


def warmup_cosine(
    optimizer: Optimizer,
    *,
    warmup_steps: int = 1000,
    decay_steps: int = 150_000,
    start_factor: float = 0.01,
    final_factor: float = 0.01,
) -> LambdaLR:
    """Rises in a straight line, then falls along half a cosine, then stays (Loshchilov & Hutter
    2017, "SGDR", section 3, without restarts).

    Args:
        optimizer: whose learning rates are scheduled.
        warmup_steps: updates of the rise; 0 begins at the full rate.
        decay_steps: update at which the final rate is reached, counted from the first one.
        start_factor: of the learning rate at the first update, 0 to 1.
        final_factor: of the learning rate at the end, 0 to 1.

    Raises:
        ValueError: a value is out of range.
    """
    factors_fit = 0 <= start_factor <= 1 and 0 <= final_factor <= 1
    if not factors_fit or not 0 <= warmup_steps < decay_steps:
        raise ValueError(
            f"warmup_cosine needs 0 <= warmup_steps < decay_steps and factors from 0 to 1; got "
            f"warmup_steps={warmup_steps}, decay_steps={decay_steps}, "
            f"start_factor={start_factor}, final_factor={final_factor}."
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return start_factor + (1 - start_factor) * step / warmup_steps
        position = min(1.0, (step - warmup_steps) / (decay_steps - warmup_steps))
        return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * position)) / 2

    return LambdaLR(optimizer, factor)


def step_decay(optimizer: Optimizer, *, gamma: float = 0.5, every_steps: int = 50_000) -> LambdaLR:
    """Learning rate times gamma after every `every_steps` updates, in steps: the schedule of the
    published DiffSVC trainings.

    Args:
        optimizer: whose learning rates are scheduled.
        gamma: factor, above 0 and at most 1.
        every_steps: updates between two steps.

    Raises:
        ValueError: a value is out of range.
    """
    if not 0 < gamma <= 1 or every_steps < 1:
        raise ValueError(
            f"step_decay needs 0 < gamma <= 1 and every_steps >= 1; got gamma={gamma}, "
            f"every_steps={every_steps}."
        )
    return LambdaLR(optimizer, lambda step: gamma ** (step // every_steps))
