"""Learning-rate schedules in steps, independent of the length of an epoch."""

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
