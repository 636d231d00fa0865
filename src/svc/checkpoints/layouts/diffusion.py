"""What the published DiffSVC layouts share: noise schedule, bounds of the mel, denoiser."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svc.checkpoints.layouts.base import LayoutOptions
from svc.checkpoints.layouts.denoiser import DenoiserSize, TranslatedWeights, translate_denoiser
from svc.diffusion.schedule import cosine_schedule
from svc.errors import UserError, UserErrors

NEPERS_PER_DECADE = 2.30259
"""ln(10) as the published code has it, so that mels agree with it to the last digit."""
_LOWEST_LOG10 = -6.0
"""No published log10 mel has a bound below; natural ones begin at ln(1e-5) = -11.5."""
_BETA_TOLERANCE = 1e-6
_FAULTS_SHOWN = 12


@dataclass(frozen=True)
class PublishedDiffusion:
    """A denoiser, its schedule and its mel, in our terms."""

    choices: Mapping[str, str]
    """Options of groups."""
    settings: Mapping[str, Any]
    """What differs from them."""
    weights: Mapping[str, Tensor]
    """`denoiser.…` and `scaling.…`."""
    used: tuple[str, ...]
    """Published names."""
    size: DenoiserSize
    notes: tuple[str, ...]


def read_diffusion(
    state: Mapping[str, Tensor], root: str, options: LayoutOptions
) -> PublishedDiffusion:
    """The diffusion whose names begin with `root`: `denoise_fn.…`, `betas`, `spec_min`, `spec_max`.

    Raises:
        UserError: something is missing or of a wrong shape, or the schedule or the bounds are none
            that svc can express; names it.
    """
    denoiser = translate_denoiser(state, f"{root}denoise_fn.")
    size = _checked(denoiser, state, root)
    buffers = {name: state[root + name].float() for name in ("betas", "spec_min", "spec_max")}
    schedule, schedule_settings, schedule_notes = _schedule(buffers["betas"], f"{root}betas")
    minimum, maximum, mel_notes = _bounds(buffers, size.mel_bins, root, options)
    cycle, cycle_notes = _dilation_cycle(size, options)
    scaling = {"minimum": minimum, "maximum": maximum}
    bounds = {name: values.tolist() for name, values in scaling.items()}
    return PublishedDiffusion(
        choices={"audio": "openvpi", "mel_scaling": "fixed", "noise_schedule": schedule},
        settings={
            "audio": {"mel_bins": size.mel_bins},
            "mel_scaling": bounds,
            "noise_schedule": schedule_settings,
            "arch": {
                "generator": {
                    "denoiser": {
                        "backbone": {
                            "channels": size.channels,
                            "layers": size.layers,
                            "dilation_cycle": cycle,
                            "kernel": size.kernel,
                        },
                        "linear_bias": size.linear_bias,
                    },
                    "prediction": "noise",
                    "level_from_energy": False,
                }
            },
        },
        weights={
            **{f"denoiser.{name}": weight.float() for name, weight in denoiser.state_dict.items()},
            **{f"scaling.{name}": values for name, values in scaling.items()},
        },
        used=(*denoiser.used, *(root + name for name in buffers)),
        size=size,
        notes=(*schedule_notes, *mel_notes, *cycle_notes),
    )


def _checked(denoiser: TranslatedWeights, state: Mapping[str, Tensor], root: str) -> DenoiserSize:
    """The size of a denoiser that is whole."""
    buffers = [root + name for name in ("betas", "spec_min", "spec_max")]
    missing = [*denoiser.missing, *(name for name in buffers if name not in state)]
    faults = [*(f"{name} is missing" for name in missing), *denoiser.misshapen]
    size = denoiser.size
    if not faults and size is None:
        faults = [f"{root}denoise_fn.*: convolutions are expected to have three dimensions"]
    if not faults and size is not None and (size.kernel % 2 == 0 or size.channels % 2):
        faults = [f"a denoiser of {size.channels} channels and kernel {size.kernel}; expected an "
                  f"even number of channels and an odd kernel"]  # fmt: skip
    if faults or size is None:
        more = len(faults) - _FAULTS_SHOWN
        rest = [f"and {more} more"] if more > 0 else []
        raise UserErrors(
            "The denoiser is not whole, or not the published WaveNet:",
            faults[:_FAULTS_SHOWN] + rest,
        )
    return size


def _schedule(betas: Tensor, name: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Option of the group noise_schedule, its settings, and notes."""
    if betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas < 1)).all()):
        raise UserError(f"{name} {list(betas.shape)} must be a row of numbers between 0 and 1.")
    steps = len(betas)
    first, last = (float(f"{float(betas[index]):.6g}") for index in (0, -1))
    line = torch.linspace(first, last, steps, dtype=torch.float64)
    if first <= last and _agree(betas, line):
        return "linear", {"steps": steps, "max_beta": last, "min_beta": first}, ()
    if _agree(betas, cosine_schedule(steps).betas):
        return "cosine", {"steps": steps}, ("Its noise schedule is the cosine one.",)
    raise UserError(
        f"{name} is neither a straight line nor Nichol and Dhariwal's cosine: from {first:g} to "
        f"{last:g} in {steps} steps. svc knows noise_schedule=linear and cosine."
    )


def _agree(betas: Tensor, expected: Tensor) -> bool:
    return bool((betas.double() - expected).abs().max() <= _BETA_TOLERANCE * expected.max())


def _bounds(
    buffers: Mapping[str, Tensor], mel_bins: int, root: str, options: LayoutOptions
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Bounds of the natural-log mel, [1] or [M] float32 each, and notes."""
    minimum, maximum = (buffers[name].flatten() for name in ("spec_min", "spec_max"))
    shapes = f"{root}spec_min {list(buffers['spec_min'].shape)} and {root}spec_max " + str(
        list(buffers["spec_max"].shape)
    )
    if len(minimum) != len(maximum) or len(minimum) not in (1, mel_bins):
        raise UserError(f"{shapes} must hold one bound each, or one for each of {mel_bins} bins.")
    if not bool((minimum < maximum).all()):
        where = int((minimum >= maximum).nonzero()[0])
        raise UserError(
            f"{root}spec_min must lie below {root}spec_max; at bin {where} they are "
            f"{float(minimum[where]):g} and {float(maximum[where]):g}."
        )
    logarithm, told = options.mel_log, "as options.mel_log says"
    if logarithm is None:
        logarithm = "log10" if float(minimum.min()) >= _LOWEST_LOG10 else "natural"
        told = f"because its bounds begin at {float(minimum.min()):g}"
    if logarithm not in ("log10", "natural"):
        raise UserError(f"options.mel_log={logarithm} must be natural or log10.")
    notes = (f"Its mel is taken for {_LOGARITHMS[logarithm]}, {told}.",)
    if logarithm == "log10":
        minimum, maximum = minimum * NEPERS_PER_DECADE, maximum * NEPERS_PER_DECADE
    return minimum.clone(), maximum.clone(), notes


_LOGARITHMS = {"log10": "the logarithm to base 10", "natural": "the natural logarithm"}


def _dilation_cycle(size: DenoiserSize, options: LayoutOptions) -> tuple[int, tuple[str, ...]]:
    if options.dilation_cycle is not None:
        if options.dilation_cycle < 1:
            raise UserError(f"options.dilation_cycle={options.dilation_cycle} must be at least 1.")
        return options.dilation_cycle, ()
    if size.linear_bias:
        return 4, ("Dilations of 1, 2, 4 and 8 in turn are assumed (options.dilation_cycle=4).",)
    return 1, (
        "No dilation is assumed (options.dilation_cycle=1): its linear layers have no bias, as in "
        "fish-diffusion's first version.",
    )
