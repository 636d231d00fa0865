"""The packed layer is a linear layer."""

import pytest
import torch
from torch.nn import functional

from svc.models import packed_linear
from svc.models.packed_linear import PackedLinear


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_a_linear_layer(
    dtype: torch.dtype, has_bias: bool, gelu: bool, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs:
        monkeypatch.setattr(packed_linear, "_can_pack", lambda weight: False)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 40, generator=generator)
    bias = torch.randn(24, generator=generator) if has_bias else None
    x = torch.randn(2, 80, 7, generator=generator)[:, ::2].transpose(1, 2)  # in no simple order
    with torch.inference_mode():
        found = PackedLinear(weight, bias, dtype, gelu)(x)
        expected = functional.linear(x, weight, bias)
        expected = functional.gelu(expected) if gelu else expected
    assert found.dtype == dtype
    assert found.shape == (2, 7, 24)
    error = (found.float() - expected).norm() / expected.norm()
    assert float(error) < (1e-6 if dtype == torch.float32 else 0.01)
