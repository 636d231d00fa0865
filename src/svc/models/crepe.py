"""CREPE's network, computed by short transforms instead of long filters.

CREPE (Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation", ICASSP 2018) runs
five convolutions of 64 taps over at most 128 steps. Three quarters of its arithmetic is the second
one: 1024 channels into 128, 2.1 of 2.8 GFLOP per window. Over so few steps, a discrete Fourier
transform, products per frequency and the inverse transform do the same with a twentieth of the
products. And as the transforms are short, a matrix product is the fastest way to compute them:
everything here is one, of any precision and on any device.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

WINDOW_SAMPLES = 1024
_FIRST_TAPS = 512
_FIRST_STRIDE = 4
_PADDING = (254, 254)
"""Zeros around a window, before the first convolution."""
_LEFT_TAPS = 31
"""Taps of the later convolutions before the step that they are for; 32 come after it."""
_LAYERS = 6
_NORM_EPSILON = 0.0010000000474974513


class CrepeNetwork(nn.Module):
    """Salience of 360 pitch bins for windows of 1024 samples at 16 kHz.

    Batch norms and the constants that they add are folded into the next layer. Equal to the
    published network up to rounding.

    Args:
        state: state dict of `torchcrepe.Crepe`, of any size.
        dtype: of weights and pictures; the sums are fp32 in any case.
    """

    first_weight: Tensor
    first_bias: Tensor
    last_weight: Tensor
    last_bias: Tensor
    last_scale: Tensor

    def __init__(self, state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        filters = state["conv1.weight"].double()[:, 0, :, 0]
        self.register_buffer("first_weight", filters.T.contiguous().to(dtype))
        self.register_buffer("first_bias", state["conv1.bias"].to(dtype))
        steps = (WINDOW_SAMPLES + sum(_PADDING) - _FIRST_TAPS) // _FIRST_STRIDE + 1
        scale, shift = _norm(state, 1)
        layers = []
        for layer in range(2, _LAYERS + 1):
            steps //= 2
            weight = state[f"conv{layer}.weight"].double()[..., 0]
            bias = state[f"conv{layer}.bias"].double()
            layers.append(_ShortConvolution(weight, bias, scale, shift, steps, dtype))
            scale, shift = _norm(state, layer)
        self.layers = nn.ModuleList(layers)
        steps //= 2
        # Some of the last scales are negative: these cannot change places with the maximum.
        classes = state["classifier.weight"].double()
        bias = state["classifier.bias"].double() + classes @ shift.repeat(steps)
        self.register_buffer("last_scale", scale.float())
        self.register_buffer("last_weight", classes.T.contiguous().to(dtype))
        self.register_buffer("last_bias", bias.to(dtype))

    @torch.inference_mode()
    def forward(self, windows: Tensor) -> Tensor:
        """windows [B, 1024] float32 of mean 0 and deviation 1 -> salience [B, 360] float32."""
        batch = windows.shape[0]
        padded = nn.functional.pad(windows.to(self.dtype), _PADDING)
        # [T, B, 512]: steps come first everywhere, so that pairs of them are pairs of rows.
        patches = padded.unfold(1, _FIRST_TAPS, _FIRST_STRIDE).transpose(0, 1)
        steps = patches.shape[0]
        x = torch.addmm(
            self.first_bias, patches.reshape(steps * batch, _FIRST_TAPS), self.first_weight
        ).view(steps, batch, self.first_weight.shape[1])
        for layer in self.layers:
            # The scale of the norm between is positive, so the maximum may come before it.
            x = layer(torch.maximum(x[0::2], x[1::2]).relu_())
        x = x.float().relu_() * self.last_scale
        x = torch.maximum(x[0::2], x[1::2]).transpose(0, 1).flatten(1)
        logits = torch.addmm(self.last_bias, x.to(self.dtype), self.last_weight)
        return logits.float().sigmoid()


class _ShortConvolution(nn.Module):
    """A convolution of 64 taps over few steps, after scaling and shifting its input.

        [L, B, C] -> analysis -> [2 F, B, C] -> a product per frequency -> synthesis -> [L, B, O]

    Steps and taps wrap around in a transform; with as many zeros as taps reach to one side they
    wrap onto zeros only. Taps that reach from one end to beyond the other are left out.

    Args:
        weight: [O, C, 64].
        bias: [O].
        scale, shift: [C], of the input. The shift ends where the input does, as the zeros around it
            are not shifted, so it adds a bias that differs from step to step.
        steps: L.
        dtype: of the products.
    """

    analysis: Tensor
    synthesis: Tensor
    real: Tensor
    imaginary: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor,
        shift: Tensor,
        steps: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        if bool((scale <= 0).any()):
            raise ValueError("a batch norm before the last has a scale that is not positive")
        shifts = nn.functional.pad(
            shift[:, None].expand(-1, steps), (_LEFT_TAPS, weight.shape[-1] - 1 - _LEFT_TAPS)
        )
        constant = nn.functional.conv1d(shifts[None], weight, bias)[0]
        left, right = min(_LEFT_TAPS, steps - 1), min(weight.shape[-1] - 1 - _LEFT_TAPS, steps - 1)
        weight = weight[:, :, _LEFT_TAPS - left : _LEFT_TAPS + right + 1] * scale[:, None]
        points = _even(steps + max(left, right))
        # At place 0 stands the tap for the step itself; the others run backwards from it.
        circular = nn.functional.pad(weight, (0, points - weight.shape[-1])).roll(-left, dims=-1)
        spectrum = torch.fft.rfft(circular, dim=-1).conj().permute(2, 1, 0)
        analysis, synthesis = _transforms(steps, points)
        self.register_buffer("analysis", analysis.to(dtype))
        self.register_buffer("synthesis", synthesis.to(dtype))
        self.register_buffer("real", spectrum.real.contiguous().to(dtype))
        self.register_buffer("imaginary", spectrum.imag.contiguous().to(dtype))
        self.register_buffer("bias", constant.T[:, None].contiguous().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """[L, B, C] -> [L, B, O]."""
        steps, batch, channels = x.shape
        rows = self.analysis @ x.view(steps, batch * channels)
        rows = rows.view(rows.shape[0] // 2, 2, batch, channels)
        real, imaginary = rows[:, 0], rows[:, 1]
        products = torch.stack(
            [
                torch.baddbmm(torch.bmm(real, self.real), imaginary, self.imaginary, alpha=-1),
                torch.baddbmm(torch.bmm(real, self.imaginary), imaginary, self.real),
            ],
            dim=1,
        )
        outputs = products.shape[-1]
        y = self.synthesis @ products.view(rows.shape[0] * 2, batch * outputs)
        return y.view(steps, batch, outputs).add_(self.bias)


def _norm(state: Mapping[str, Tensor], layer: int) -> tuple[Tensor, Tensor]:
    """Scale and shift [C] of the batch norm after a layer, float64."""
    name = f"conv{layer}_BN"
    deviation = (state[f"{name}.running_var"].double() + _NORM_EPSILON).sqrt()
    scale = state[f"{name}.weight"].double() / deviation
    return scale, state[f"{name}.bias"].double() - state[f"{name}.running_mean"].double() * scale


def _even(number: int) -> int:
    return number + number % 2


def _transforms(steps: int, points: int) -> tuple[Tensor, Tensor]:
    """A discrete Fourier transform of real steps that zeros extend to `points`, and its inverse.

    Returns:
        Analysis [2 F, L] and synthesis [L, 2 F] with F = points / 2 + 1, float64; real and
        imaginary parts alternate.
    """
    frequency = torch.arange(points // 2 + 1, dtype=torch.float64)
    angle = 2 * math.pi / points * frequency[:, None] * torch.arange(steps)
    parts = torch.stack([angle.cos(), -angle.sin()], dim=1)
    # All but the first and the last frequency stand for two.
    share = torch.where((frequency == 0) | (frequency == points // 2), 1.0, 2.0) / points
    return parts.flatten(0, 1), (parts * share[:, None, None]).flatten(0, 1).T.contiguous()
