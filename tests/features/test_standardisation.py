"""What standardised features have lost, and what they keep."""

import torch

from svc.features.content.standardisation import standardised


def test_offset_and_scale_are_gone_and_the_course_is_kept() -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(3, 200, generator=rng)
    scale, offset = torch.tensor([[2.0], [0.5], [7.0]]), torch.tensor([[1.0], [-4.0], [30.0]])
    sounding = torch.ones(200, dtype=torch.bool)
    one, other = (standardised(x, sounding, 0.0) for x in (features, features * scale + offset))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(one.var(1, correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_pauses_do_not_count_and_still_channels_stay_still() -> None:
    features = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    features[1] = 5.0 + 1e-4 * features[1]
    sounding = torch.arange(100) < 60
    changed = features.clone()
    changed[:, 60:] = 100.0
    one, other = (standardised(x, sounding, 0.25) for x in (features, changed))
    assert torch.equal(one[:, :60], other[:, :60])
    assert one[1].abs().max() < 0.01
