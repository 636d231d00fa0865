"""What every model is held to."""

import torch
from torch import nn

from models.mel_singers import HOP_SAMPLES, conditioning
from svc.models.hifisinger import HifiSinger


def assert_every_parameter_learned(module: nn.Module, but: str | None = None) -> None:
    """After a backward pass; parameters whose names begin with `but` must not have."""
    for name, parameter in module.named_parameters():
        if but is not None and name.startswith(but):
            assert not parameter.requires_grad, name
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@torch.inference_mode()
def assert_a_crop_with_its_context_sings_the_same(singer: HifiSinger) -> None:
    reach, hop = singer.receptive_frames, HOP_SAMPLES
    inputs = conditioning(1, 3 * reach + 4)
    source = 0.1 * torch.randn(1, 1, inputs.frames * hop)
    whole = singer(inputs, source=source).audio
    start, stop = reach // 2, 3 * reach
    crop = singer(inputs.crop(start, stop), source=source[..., start * hop : stop * hop]).audio
    inner = slice((start + reach) * hop, (stop - reach) * hop)
    torch.testing.assert_close(
        crop[..., reach * hop : -reach * hop], whole[..., inner], atol=1e-6, rtol=0
    )
