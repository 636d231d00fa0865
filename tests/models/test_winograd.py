"""Minimal filtering is a convolution, and the WaveNet takes it where it is faster."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from svc.models import wavenet, winograd
from svc.models.denoiser import MelDenoiser
from svc.models.inference_weights import InferenceWeights
from svc.models.wavenet import WaveNet
from svc.models.winograd import (
    Winograd23,
    Winograd43,
    WinogradConv,
    is_faster,
    winograd_for,
)

TOLERANCE = 2e-6
"""Of the largest output; every wrong coefficient or neighbour is above 1e-2."""


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 101])
@pytest.mark.parametrize("dilation", [1, 2, 3, 4, 8])
def test_equals_a_convolution(dilation: int, frames: int) -> None:
    rng = torch.Generator().manual_seed(dilation)
    weight, bias = torch.randn(10, 12, 3, generator=rng), torch.randn(10, generator=rng)
    x = torch.randn(2, frames, 12, generator=rng)
    with torch.inference_mode():
        found = Winograd43(weight, bias, dilation)(x)
        without_bias = Winograd43(weight, None, dilation)(x)
    assert found.shape == without_bias.shape == (2, frames, 10)
    assert found.dtype == torch.float32
    if frames == 0:
        return
    arguments = {"padding": dilation, "dilation": dilation}
    exact = F.conv1d(x.double().mT, weight.double(), bias.double(), **arguments).mT
    largest = float(exact.abs().max())
    torch.testing.assert_close(found.double(), exact, atol=TOLERANCE * largest, rtol=0)
    exact -= bias
    torch.testing.assert_close(without_bias.double(), exact, atol=TOLERANCE * largest, rtol=0)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 8, 33])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_equals_a_convolution_in_bfloat16(dilation: int, frames: int) -> None:
    rng = torch.Generator().manual_seed(dilation)
    # Small whole numbers, whose sums and products bfloat16 holds exactly.
    weight = 2.0 * torch.randint(-1, 2, (10, 12, 3), generator=rng)
    bias = torch.randint(-4, 5, (10,), generator=rng).float()
    x = torch.randint(-1, 2, (2, frames, 12), generator=rng).bfloat16()
    with torch.inference_mode():
        found = Winograd23(weight, bias, dilation)(x)
    assert found.shape == (2, frames, 10)
    assert found.dtype == torch.bfloat16
    if frames:
        arguments = {"padding": dilation, "dilation": dilation}
        exact = F.conv1d(x.double().mT, weight.double(), bias.double(), **arguments).mT
        assert torch.equal(found.double(), exact)


def test_rounding_in_bfloat16_stays_below_a_hundredth() -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 512, 3, generator=rng) * (2 / 1536) ** 0.5
    x = torch.randn(1, 130, 512, generator=rng)
    with torch.inference_mode():
        found = Winograd23(weight, None, 2)(x.bfloat16())
    exact = F.conv1d(x.double().mT, weight.double(), padding=2, dilation=2).mT
    assert float((found - exact).norm() / exact.norm()) < 0.006


def test_is_as_accurate_as_a_direct_convolution_of_a_wide_layer() -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 512, 3, generator=rng) * (2 / 1536) ** 0.5
    x = torch.randn(1, 130, 512, generator=rng)
    with torch.inference_mode():
        found = Winograd43(weight, None, 2)(x)
    exact = F.conv1d(x.double().mT, weight.double(), padding=2, dilation=2).mT
    assert float((found - exact).norm() / exact.norm()) < TOLERANCE


def test_refuses_other_kernels() -> None:
    with pytest.raises(ValueError, match=r"\[4, 4, 5\] must be \[O, I, 3\]"):
        Winograd43(torch.zeros(4, 4, 5), None, 1)


def test_is_faster_for_wide_layers_and_long_inputs() -> None:
    with torch.device("meta"):
        wide, dilated = nn.Conv1d(512, 8, 3), nn.Conv1d(512, 8, 3, dilation=16)
        narrow, longer = nn.Conv1d(128, 8, 3), nn.Conv1d(512, 8, 5)
    assert is_faster(wide, 1, 128)
    assert is_faster(wide, 4, 32)
    assert not is_faster(wide, 1, 127)
    assert is_faster(dilated, 1, 256)
    assert not is_faster(dilated, 16, 255)
    assert not is_faster(narrow, 1, 100_000)
    assert not is_faster(longer, 1, 1000)


def test_transformed_weights_are_kept_inside_the_context_alone() -> None:
    conv, weights = nn.Conv1d(4, 6, 3, dilation=2, padding=2), InferenceWeights()
    x = torch.randn(1, 4, 9)
    assert weights.winograd(conv, torch.float32) is None
    with torch.inference_mode(), weights.kept():
        first = weights.winograd(conv, torch.float32)
        assert first is not None
        torch.testing.assert_close(first(x.mT).mT, conv(x), atol=1e-5, rtol=0)
        with weights.kept():
            assert weights.winograd(conv, torch.float32) is first
        assert weights.winograd(conv, torch.float32) is first
    assert weights.winograd(conv, torch.float32) is None
    with torch.no_grad():
        conv.weight.mul_(2)
    with torch.inference_mode(), weights.kept():
        second = weights.winograd(conv, torch.float32)
        assert second is not None
        torch.testing.assert_close(second(x.mT).mT, conv(x), atol=1e-5, rtol=0)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[WinogradConv]:
    """Collects the convolutions that minimal filtering computes."""
    calls: list[WinogradConv] = []
    compute = WinogradConv.__call__

    def count(self: WinogradConv, x: torch.Tensor) -> torch.Tensor:
        calls.append(self)
        return compute(self, x)

    monkeypatch.setattr(WinogradConv, "__call__", count)
    return calls


def denoiser_of(channels: int, layers: int) -> MelDenoiser:
    torch.manual_seed(0)
    denoiser = MelDenoiser(WaveNet(16, 24, channels, layers, 4, out_channels=16)).eval()
    nn.init.normal_(denoiser.backbone.output.weight, std=0.05)
    return denoiser


def test_a_denoiser_of_full_width_agrees_with_its_graph(used: list[WinogradConv]) -> None:
    denoiser = denoiser_of(512, 5)
    x, condition = torch.randn(2, 16, 131), torch.randn(2, 24, 131)
    time = torch.tensor([20.0, 700.5])
    mask = torch.ones(2, 1, 131, dtype=torch.bool)
    mask[1, :, 64:] = False
    for known in (None, mask):
        used.clear()
        expected = denoiser(x, time, denoiser.prepare(condition), known).detach()
        assert not used
        with torch.inference_mode(), denoiser.backbone.inference_weights.kept():
            prepared = denoiser.prepare(condition)
            found = [denoiser(x, time, prepared, known) for _ in range(2)]
        assert len(used) == 10
        assert len(set(used)) == 5
        assert torch.equal(found[0], found[1])
        largest = float(expected.abs().max())
        torch.testing.assert_close(found[0], expected, atol=1e-5 * largest, rtol=0)
    assert not found[0][1, :, 64:].any()


def test_what_is_computed_with_kept_weights_by_fewer_products(
    used: list[WinogradConv], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wavenet, "is_faster", lambda conv, batch, frames: conv.kernel_size == (3,))
    denoiser = denoiser_of(8, 2)
    x, condition, time = torch.randn(1, 16, 9), torch.randn(1, 24, 9), torch.tensor([3.0])
    weights = denoiser.backbone.inference_weights
    with torch.inference_mode():
        denoiser(x, time, denoiser.prepare(condition))
        assert not used
        with weights.kept():
            denoiser(x, time, denoiser.prepare(condition))
        assert [type(conv) for conv in used] == [Winograd43] * 2
        denoiser.double()
        with weights.kept():
            denoiser(x.double(), time, denoiser.prepare(condition.double()))
        assert len(used) == 2


@pytest.mark.parametrize(
    ("units", "matrix_units", "expected"),
    [(False, False, None), (True, False, Winograd23), (True, True, None)],
)
def test_bfloat16_takes_it_where_units_are_neither_missing_nor_fast(
    units: bool, matrix_units: bool, expected: type | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "cpu_has_bf16_units", lambda: units)
    monkeypatch.setattr(winograd, "cpu_has_matrix_units", lambda: matrix_units)
    assert winograd_for(torch.float32) is Winograd43
    assert winograd_for(torch.bfloat16) is expected


def test_a_wide_denoiser_in_bfloat16_stays_near_float32(
    used: list[WinogradConv], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "cpu_has_bf16_units", lambda: True)
    monkeypatch.setattr(winograd, "cpu_has_matrix_units", lambda: False)
    denoiser = denoiser_of(512, 5)
    x, condition, time = torch.randn(1, 16, 131), torch.randn(1, 24, 131), torch.tensor([20.0])
    with torch.inference_mode():
        exact = denoiser(x, time, denoiser.prepare(condition))
        with (
            denoiser.backbone.inference_weights.kept(),
            torch.autocast("cpu", torch.bfloat16),
        ):
            found = denoiser(x, time, denoiser.prepare(condition))
    assert [type(conv) for conv in used] == [Winograd23] * 5
    assert float((found - exact).norm() / exact.norm()) < 0.02
