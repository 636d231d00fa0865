"""The control that must do worse."""

import torch

from svc.evaluation.controls import ShuffledContent
from svc.features.content.mfcc import MfccContent


def test_shuffling_keeps_every_frame_and_loses_the_order() -> None:
    audio = 0.1 * torch.randn(40 * 512, generator=torch.Generator().manual_seed(0))
    encoder = MfccContent()
    features = encoder.encode(audio, 44_100)
    shuffled = ShuffledContent(encoder, seed=1)
    mixed = shuffled.encode(audio, 44_100)
    assert (shuffled.channels, shuffled.grid) == (encoder.channels, encoder.grid)
    assert torch.equal(mixed, shuffled.encode(audio, 44_100))
    same = (mixed[:, :, None] == features[:, None, :]).all(dim=0)
    assert bool((same.sum(dim=0) == 1).all())
    assert int(same.diagonal().sum()) < 5
