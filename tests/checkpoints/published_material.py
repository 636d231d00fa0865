"""Small DiffSVC files with random weights, under the names that their trainers give them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from svc.diffusion.schedule import NoiseSchedule, linear_schedule

State = dict[str, Tensor]
MEL_BINS, CHANNELS, HIDDEN, LAYERS = 20, 12, 8, 3


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> State:
    """Weights that are all different, and small enough for signals to stay in range."""
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def fish_denoiser_shapes(
    mel_bins: int = MEL_BINS,
    channels: int = CHANNELS,
    hidden: int = HIDDEN,
    layers: int = LAYERS,
    linear_bias: bool = True,
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of fish-diffusion's WaveNet denoiser."""
    modules: dict[str, tuple[int, ...]] = {
        "input_projection.conv": (channels, mel_bins, 1),
        "mlp.0.linear": (4 * channels, channels),
        "mlp.2.linear": (channels, 4 * channels),
        "skip_projection.conv": (channels, channels, 1),
        "output_projection.conv": (mel_bins, channels, 1),
    }
    for layer in range(layers):
        modules |= {
            f"residual_layers.{layer}.conv_layer.conv": (2 * channels, channels, 3),
            f"residual_layers.{layer}.diffusion_projection.linear": (channels, channels),
            f"residual_layers.{layer}.conditioner_projection.conv": (2 * channels, hidden, 1),
            f"residual_layers.{layer}.output_projection.conv": (2 * channels, channels, 1),
        }
    shapes = {}
    for name, shape in modules.items():
        shapes[f"{name}.weight"] = shape
        if linear_bias or not name.endswith("linear"):
            shapes[f"{name}.bias"] = shape[:1]
    return shapes


def buffers(
    schedule: NoiseSchedule | None = None,
    minimum: Tensor | None = None,
    maximum: Tensor | None = None,
) -> State:
    """What the diffusion of either trainer registers beside its denoiser, in part."""
    schedule = schedule or linear_schedule(100, 0.02)
    return {
        "betas": schedule.betas.float(),
        "alphas_cumprod": schedule.alphas_cumprod.float(),
        "spec_min": torch.full((1, 1, 1), -5.0) if minimum is None else minimum,
        "spec_max": torch.zeros(1, 1, 1) if maximum is None else maximum,
    }


def fish_diffsvc(
    *, root: str = "model.", content: int = 5, speakers: int = 2, seed: int = 0, **sizes: int | bool
) -> State:
    """fish-diffusion's DiffSVC with every encoder."""
    hidden = int(sizes.get("hidden", HIDDEN))
    encoders = random_state(
        {
            "text_encoder.projection.weight": (hidden, content),
            "text_encoder.projection.bias": (hidden,),
            "speaker_encoder.embedding.weight": (speakers, hidden),
            "pitch_encoder.projection.weight": (hidden, 1),
            "pitch_encoder.projection.bias": (hidden,),
            "pitch_shift_encoder.projection.weight": (hidden, 1),
            "pitch_shift_encoder.projection.bias": (hidden,),
            "energy_encoder.projection.weight": (hidden, 1),
            "energy_encoder.projection.bias": (hidden,),
        },
        seed,
    )
    denoiser = random_state(fish_denoiser_shapes(**sizes), seed + 1)  # type: ignore[arg-type]
    diffusion = {**buffers(), **{f"denoise_fn.{name}": w for name, w in denoiser.items()}}
    inside = {**encoders, **{f"diffusion.{name}": weight for name, weight in diffusion.items()}}
    return {root + name: weight for name, weight in inside.items()}


def original_diffsvc(
    *, speakers: int | None = None, rows: int = 300, seed: int = 0, **sizes: int | bool
) -> State:
    """diff-svc's model, trained with `no_fs2`."""
    hidden = int(sizes.get("hidden", HIDDEN))
    wrapped = random_state(fish_denoiser_shapes(**sizes), seed)  # type: ignore[arg-type]
    denoiser = {
        name.replace("conv_layer.conv", "dilated_conv")
        .replace(".conv.", ".")
        .replace(".linear.", "."): weight
        for name, weight in wrapped.items()
    }
    shapes: dict[str, tuple[int, ...]] = {
        "pitch_embed.weight": (rows, hidden),
        "mel_out.weight": (MEL_BINS, hidden),
        "mel_out.bias": (MEL_BINS,),
        "pitch_predictor.linear.weight": (2, hidden),
    }
    if speakers is not None:
        shapes["spk_embed_proj.weight"] = (speakers, hidden)
    inside = {
        **buffers(),
        **{f"denoise_fn.{name}": weight for name, weight in denoiser.items()},
        **{f"fs2.{name}": weight for name, weight in random_state(shapes, seed + 1).items()},
    }
    return {f"model.{name}": weight for name, weight in inside.items()}
