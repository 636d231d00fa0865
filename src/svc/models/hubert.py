"""HuBERT's network for inference, on fairseq2's wav2vec 2.0 encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from svc.errors import UserError
from svc.models.hubert_modules import FourierPositionConvolution, PerHeadAttention
from svc.models.hubert_weights import (
    CONVOLUTION_KERNELS,
    CONVOLUTION_STRIDES,
    HubertShape,
    HubertWeights,
)
from svc.models.packed_linear import PackedLinear

FRAME_SAMPLES = 320
"""16 kHz samples from one frame to the next."""
SEEN_SAMPLES = 400
"""16 kHz samples that a frame is made of."""

_CHUNK_FRAMES = {"cpu": 100, "cuda": 1500}
"""Frames that go through the convolutions at a time: 13 MB in fp32 stay in a CPU's cache."""
_ROUNDED_CONVOLUTION = 1
"""The one over the waveform that bf16 applies to: half of all their products. An error this early
grows through seven layers; with all of them in bf16 the content is off by 1.6 to 2.3 %, with this
one by 0.8 %."""
_STATISTICS_CHUNK = 1 << 17
"""Windows of the first convolution whose products are summed at a time."""


class HubertNetwork:
    """Waveform to content, in two steps: convolutions in exact chunks, then the transformer.

    The first convolution's group norm takes mean and variance over the whole piece. Both follow
    from the mean and covariance of the ten samples that the convolution sees, so that they cost
    next to nothing, are folded into its weights, and the piece may be of any length.

    All convolutions over the waveform run as products: with time before channels, the samples under
    a kernel lie side by side.

    With `dtype` bfloat16 the transformer's products and half of the convolutions' are; sums along
    the network and norms stay in float32.

    Args:
        weights: in svc's form.
        device: "cpu" or "cuda".
        dtype: float32 or bfloat16.

    Raises:
        UserError: fairseq2 is not installed.
    """

    def __init__(self, weights: HubertWeights, device: str, dtype: torch.dtype) -> None:
        frontend, encoder = built_encoder(weights)
        self.channels = weights.shape.projected_channels or weights.shape.channels
        self._device = torch.device(device)
        self._chunk_frames = _CHUNK_FRAMES[self._device.type]
        self._frontend = frontend.to(self._device)
        self._encoder = encoder.to(self._device)
        layers = self._frontend.feature_extractor.layers
        self._first = layers[0].conv.weight[:, 0]  # [C, 10]
        self._first_norm = layers[0].group_norm
        self._convolutions = [
            PackedLinear(
                layer.conv.weight.permute(0, 2, 1).flatten(1),
                None,
                dtype if place == _ROUNDED_CONVOLUTION else torch.float32,
                gelu=True,
            )
            for place, layer in enumerate(layers[1:], start=1)
        ]
        _make_fast(self._frontend, self._encoder, dtype)
        self._projection = None
        if weights.shape.projected_channels is not None:
            weight, bias = (
                weights.tensors[f"projection.{kind}"].to(self._device)
                for kind in ("weight", "bias")
            )
            self._projection = PackedLinear(weight, bias, dtype)

    def convolve(self, audio: Tensor) -> Tensor:
        """audio [T] float32 at 16 kHz, T at least 400 -> [N, C], N = (T - 400) // 320 + 1."""
        audio = audio.to(self._device)
        audio = audio - audio.double().mean().float()  # the norm removes it; this keeps digits
        weight, bias = self._normalised_first(audio)
        frames = (audio.shape[0] - SEEN_SAMPLES) // FRAME_SAMPLES + 1
        rows = torch.empty(frames, weight.shape[0], device=self._device)
        for start in range(0, frames, self._chunk_frames):
            stop = min(start + self._chunk_frames, frames)
            seen = audio[start * FRAME_SAMPLES : (stop - 1) * FRAME_SAMPLES + SEEN_SAMPLES]
            x = functional.linear(_windows(seen[:, None], 0), weight, bias)
            x = functional.gelu(x)
            for place, convolution in enumerate(self._convolutions, start=1):
                x = convolution(_windows(x, place))
            rows[start:stop] = x
        return rows

    def transform(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """What `convolve` gave, [N, C] each -> [N, channels] float32 each, in one pass."""
        from fairseq2.nn import BatchLayout

        lengths = [piece.shape[0] for piece in pieces]
        batch = nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
        layout = BatchLayout.of(batch, lengths if min(lengths) < max(lengths) else None)
        x = self._frontend.post_extract_layer_norm(batch)
        x, _ = self._frontend.process_features(x, layout)
        x = self._encoder(x, layout)
        if self._projection is not None:
            x = self._projection(x)
        return [rows[:length].float() for rows, length in zip(x, lengths, strict=True)]

    def _normalised_first(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Weight [C, 10] and bias [C] of the first convolution with its group norm folded in."""
        windows = _windows(audio[:, None], 0)
        total = torch.zeros(windows.shape[1], dtype=torch.float64, device=audio.device)
        products = torch.zeros(windows.shape[1], windows.shape[1]).to(total)
        for chunk in windows.split(_STATISTICS_CHUNK):
            chunk = chunk.double()
            total += chunk.sum(dim=0)
            products += chunk.T @ chunk
        mean = total / windows.shape[0]
        covariance = products / windows.shape[0] - torch.outer(mean, mean)
        weight = self._first.double()
        variance = ((weight @ covariance) * weight).sum(dim=1).clamp_min(0)
        norm = self._first_norm
        scale = norm.weight.double() / (variance + norm.eps).sqrt()
        bias = norm.bias.double() - (weight @ mean) * scale
        return (weight * scale[:, None]).float(), bias.float()


def _windows(x: Tensor, place: int) -> Tensor:
    """x [T, C] -> [N, kernel * C], a view: what the convolution at `place` sees."""
    channels = x.shape[1]
    kernel, stride = CONVOLUTION_KERNELS[place], CONVOLUTION_STRIDES[place]
    return x.flatten().unfold(0, kernel * channels, stride * channels)


def fairseq2_wav2vec2() -> Any:
    """The module `fairseq2.models.wav2vec2`.

    Raises:
        UserError: fairseq2 is not installed, or does not fit the installed torch.
    """
    try:
        import soundfile  # noqa: F401  # brings the library that fairseq2 looks for
        from fairseq2.models import wav2vec2
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            "content=hubert_soft, contentvec, hubert_base and chinese_hubert need fairseq2, which "
            f"cannot be loaded here ({type(error).__name__}: {error}). It exists for Linux on "
            "x86-64 and fits one release of torch: pip install fairseq2. content=whisper and "
            "content=mfcc work without."
        ) from error
    return wav2vec2


def built_encoder(weights: HubertWeights) -> tuple[Any, Any]:
    """Frontend and transformer of fairseq2 that hold the weights, for inference."""
    wav2vec2 = fairseq2_wav2vec2()
    factory = wav2vec2.Wav2Vec2EncoderFactory(_config(wav2vec2, weights.shape))
    with torch.device("meta"):  # no time for random weights
        frontend, encoder = factory.create_encoder_frontend(), factory.create_encoder()
        nn.utils.remove_weight_norm(frontend.pos_encoder.conv)
    for prefix, module in (("frontend.", frontend), ("encoder.", encoder)):
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in weights.tensors.items()
            if name.startswith(prefix)
        }
        module.load_state_dict(state, assign=True)
        module.requires_grad_(False).eval()
    return frontend, encoder


def _config(wav2vec2: Any, shape: HubertShape) -> Any:
    width = shape.convolution_channels
    return wav2vec2.Wav2Vec2EncoderConfig(
        model_dim=shape.channels,
        feature_dim=width,
        feature_extractor_layer_descs=[
            (width, kernel, stride)
            for kernel, stride in zip(CONVOLUTION_KERNELS, CONVOLUTION_STRIDES, strict=True)
        ],
        pos_conv_kernel_size=shape.position_kernel,
        num_pos_conv_groups=shape.position_groups,
        num_encoder_layers=shape.layers,
        num_encoder_attn_heads=shape.heads,
        ffn_inner_dim=shape.inner_channels,
    )


def _make_fast(frontend: Any, encoder: Any, dtype: torch.dtype) -> None:
    """Put faster modules with the same weights into fairseq2's."""

    def packed(linear: Any, gelu: bool = False) -> PackedLinear:
        return PackedLinear(linear.weight, linear.bias, dtype, gelu)

    frontend.feature_extractor = None  # its weights are in use elsewhere
    frontend.model_dim_proj = packed(frontend.model_dim_proj)
    position = frontend.pos_encoder
    position.conv = FourierPositionConvolution(position.conv.weight, position.conv.bias)
    position.remove_pad = False  # gives as many frames as it takes
    for layer in encoder.layers:
        attention, ffn = layer.self_attn, layer.ffn
        for name in ("q_proj", "k_proj", "v_proj", "output_proj"):
            setattr(attention, name, packed(getattr(attention, name)))
        ffn.inner_proj = packed(ffn.inner_proj, gelu=True)
        ffn.inner_activation = nn.Identity()
        ffn.output_proj = packed(ffn.output_proj)
        if dtype == torch.bfloat16 and frontend.layer_norm.weight.device.type == "cpu":
            attention.sdpa = PerHeadAttention()
