"""fish-diffusion's DiffSVC, versions 1 and 2 (fishaudio/fish-diffusion, `archs/diffsinger`)."""

from collections.abc import Collection, Mapping

from torch import Tensor

from svc.checkpoints.layouts.base import KeyReport, LayoutOptions, PublishedModel
from svc.checkpoints.layouts.conditioning import FishConditioner
from svc.checkpoints.layouts.diffusion import read_diffusion
from svc.checkpoints.layouts.inputs import content_choice, pitch_choice, speaker_names
from svc.checkpoints.layouts.vocoder_inside import vocoder_inside
from svc.config.instantiate import merged
from svc.errors import UserError

_DENOISER = "diffusion.denoise_fn."
_WAVENET = f"{_DENOISER}residual_layers.0."


class FishDiffSvc:
    """Content, speaker, pitch, key shift and energy, added up, condition a WaveNet denoiser."""

    kind = "diffsvc_fish"
    description = "DiffSVC of fish-diffusion"

    def matches(self, names: Collection[str]) -> bool:
        """See `Layout`."""
        return any(f".{_DENOISER}" in f".{name}" for name in names)

    def read(self, state: Mapping[str, Tensor], options: LayoutOptions) -> PublishedModel:
        """See `Layout`."""
        root, copy_notes = _root(state)
        diffusion = read_diffusion(state, f"{root}diffusion.", options)
        inputs = FishConditioner.read(state, root, options, diffusion.size.condition_channels)
        vocoder = vocoder_inside(state, options, diffusion.size.mel_bins)
        speakers, speaker_notes = speaker_names(len(inputs.weights["speaker.weight"]), options)
        content, content_notes = content_choice(inputs.content_channels, options, "contentvec")
        pitch, pitch_notes = pitch_choice(options, "parselmouth")
        used = (*diffusion.used, *inputs.used, *vocoder.used)
        left_over = tuple(name for name in state if name not in set(used))
        notes = (
            *copy_notes,
            *diffusion.notes,
            *inputs.notes,
            *content_notes,
            *pitch_notes,
            *speaker_notes,
            *vocoder.notes,
            *_about(left_over, root),
        )
        settings = {"arch": {"generator": {"conditioner": inputs.settings}}}
        return PublishedModel(
            kind=self.kind,
            choices={
                **diffusion.choices,
                "arch": "diffsvc",
                "content": content,
                "pitch": pitch,
                "vocoder": vocoder.choice,
            },
            settings=merged(merged(diffusion.settings, settings), vocoder.settings),
            generator={
                **{f"conditioner.{name}": weight for name, weight in inputs.weights.items()},
                **diffusion.weights,
                **{f"vocoder.{name}": weight for name, weight in vocoder.weights.items()},
            },
            content_channels=inputs.content_channels,
            speakers=speakers,
            report=KeyReport(used, tuple(inputs.missing), left_over, notes),
        )


def _root(state: Mapping[str, Tensor]) -> tuple[str, tuple[str, ...]]:
    """What stands before the model's names, and notes. A moving average of the weights, where the
    file has one beside them, is what its maker converted with.

    Raises:
        UserError: its denoiser is no WaveNet.
    """
    roots = dict.fromkeys(
        name[: f".{name}".index(f".{_WAVENET}")] for name in state if f".{_WAVENET}" in f".{name}"
    )
    if not roots:
        some = next(name for name in state if f".{_DENOISER}" in f".{name}")
        raise UserError(
            f"Its denoiser is not the published WaveNet: expected {_WAVENET}*, found {some}. "
            f"svc cannot run it."
        )
    root = next((root for root in roots if "ema" in root), next(iter(roots)))
    if len(roots) == 1:
        return root, ()
    others = ", ".join(f"{other}*" for other in roots if other != root)
    told = "the moving average of the weights" if "ema" in root else "the first of several copies"
    return root, (f"{root}* is used, {told}; {others} are left over.",)


def _about(left_over: tuple[str, ...], root: str) -> tuple[str, ...]:
    """A note on what is left over of a file that is otherwise whole."""
    derived = [name for name in left_over if name.startswith(f"{root}diffusion.")]
    if not derived:
        return ()
    return (
        f"{len(derived)} of the names left over, {root}diffusion.*, follow from its betas or are "
        f"those of samplers.",
    )
