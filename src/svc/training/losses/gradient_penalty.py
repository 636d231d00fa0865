"""R1 gradient penalty on the discriminators."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def r1_gradient_penalty(scores_of: Callable[[Tensor], Sequence[Tensor]], audio: Tensor) -> Tensor:
    """Mean squared slope of the discriminators at recordings, which keeps them from running away.

    R1 of Mescheder et al. 2018 (equation 9, without the factor gamma / 2): the slope of the sum of
    all scores with respect to each audio sample, squared, averaged over samples and items. Sum
    over scores and mean over samples make it independent of the crop length. Computed in fp32,
    because it is differentiated twice, and by uncompiled networks, because compiled ones cannot be.

    Args:
        scores_of: audio [B, 1, T] -> scores, one tensor per sub-discriminator.
        audio: [B, 1, T] recordings.

    Returns:
        Scalar >= 0 with a graph into the discriminators' parameters; 0 for constant scores.
    """
    with (
        torch.compiler.set_stance("force_eager"),
        torch.autocast(audio.device.type, enabled=False),
    ):
        audio = audio.detach().float().requires_grad_()
        total = torch.stack([score.sum() for score in scores_of(audio)]).sum()
        (slope,) = torch.autograd.grad(total, audio, create_graph=True)
        return slope.square().mean()
