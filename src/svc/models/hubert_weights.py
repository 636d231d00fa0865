"""A HuBERT's weights in svc's form: its sizes, and the names and shapes of its tensors."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

HEAD_CHANNELS = 64
"""Width of an attention head in every published HuBERT; no file tells their number."""

CONVOLUTION_KERNELS = (10, 3, 3, 3, 3, 2, 2)
CONVOLUTION_STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""Of the waveform's encoder, as in every HuBERT: 400 samples every 320 make a frame."""

CONVOLUTIONS = tuple((f"frontend.feature_extractor.layers.{i}.conv.weight", i) for i in range(7))
"""Our name and the place of each convolution over the waveform."""


@dataclass(frozen=True)
class HubertShape:
    """The sizes of one HuBERT."""

    convolution_channels: int
    """Width of the convolutions over the waveform; 512."""
    channels: int
    """Width of the transformer; 768."""
    inner_channels: int
    """Width inside its feed-forward layers; 3072."""
    layers: int
    """Transformer layers, as many as are used."""
    position_kernel: int
    """Frames that the positional convolution sees; 128."""
    position_groups: int
    """Its groups; 16."""
    projected_channels: int | None
    """Width of the final projection, or None where it is not used."""

    @property
    def heads(self) -> int:
        return self.channels // HEAD_CHANNELS


@dataclass(frozen=True)
class HubertWeights:
    """Weights in svc's form."""

    layout: str
    """Name of the layout that they came in."""
    shape: HubertShape
    tensors: dict[str, Tensor]
    """float32, by the names of fairseq2's modules."""
    used: tuple[str, ...]
    """Published names that they were made of."""


def expected_tensors(shape: HubertShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor that is used."""
    convolution, channels, inner = (
        shape.convolution_channels,
        shape.channels,
        shape.inner_channels,
    )
    for (name, place), kernel in zip(CONVOLUTIONS, CONVOLUTION_KERNELS, strict=True):
        yield name, (convolution, convolution if place else 1, kernel)
    yield (
        "frontend.pos_encoder.conv.weight",
        (channels, channels // shape.position_groups, shape.position_kernel),
    )
    yield "frontend.pos_encoder.conv.bias", (channels,)
    norms = {
        "frontend.feature_extractor.layers.0.group_norm": convolution,
        "frontend.post_extract_layer_norm": convolution,
        "frontend.layer_norm": channels,
    }
    linears = {"frontend.model_dim_proj": (channels, convolution)}
    for i in range(shape.layers):
        layer = f"encoder.layers.{i}."
        for name in ("self_attn_layer_norm", "ffn_layer_norm"):
            norms[layer + name] = channels
        for letter in ("q", "k", "v", "output"):
            linears[f"{layer}self_attn.{letter}_proj"] = (channels, channels)
        linears[f"{layer}ffn.inner_proj"] = (inner, channels)
        linears[f"{layer}ffn.output_proj"] = (channels, inner)
    if shape.projected_channels is not None:
        linears["projection"] = (shape.projected_channels, channels)
    for name, width in norms.items():
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)
    for name, size in linears.items():
        yield f"{name}.weight", size
        yield f"{name}.bias", size[:1]
