"""fish-diffusion's HiFiSinger, version 1 (fishaudio/fish-diffusion, `archs/hifisinger`).

Encoders of content, speaker, key shift and energy, added up; two linear layers with SiLU
(`feature_fuser`); an NSF-HiFiGAN (`encoder`) whose source alone knows the pitch. A Lightning
checkpoint holds the discriminators beside it; the published file to continue from has no speakers.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from svc.checkpoints.layouts.base import KeyReport, LayoutOptions, PublishedModel
from svc.checkpoints.layouts.conditioning import FishConditioner
from svc.checkpoints.layouts.discriminators import find_discriminators
from svc.checkpoints.layouts.inputs import content_choice, pitch_choice, speaker_names
from svc.checkpoints.layouts.nsf_hifigan import translate_generator
from svc.checkpoints.layouts.published_weights import PublishedWeights
from svc.checkpoints.layouts.vocoder_config import VocoderConfig, read_vocoder_config
from svc.errors import UserError

_FUSER = {"hidden": "feature_fuser.0", "output": "feature_fuser.2"}
_MARK = "feature_fuser.0.weight"
_NOTES = (
    "Its frames were told a pitch everywhere, so that its harmonics go on through unvoiced frames "
    "(f0_upsampling=continuous).",
)


class FishHifiSinger:
    """A singer and its discriminators, of any size."""

    kind = "hifisinger_fish"
    description = "HiFiSinger of fish-diffusion, version 1"

    def matches(self, names: Collection[str]) -> bool:
        """See `Layout`."""
        return any(f".{name}".endswith(f".{_MARK}") for name in names)

    def read(self, state: Mapping[str, Tensor], options: LayoutOptions) -> PublishedModel:
        """See `Layout`."""
        root = next(n for n in state if f".{n}".endswith(f".{_MARK}")).removesuffix(_MARK)
        channels, fuser, fuser_names = _fuser(state, root)
        inputs = FishConditioner.read(state, root, options, channels)
        config = None
        if options.vocoder_config is not None:
            config = read_vocoder_config(options.vocoder_config)
        decoder = translate_generator(state, f"{root}encoder.", config)
        if decoder.settings["mel_bins"] != channels:
            raise UserError(
                f"The decoder {root}encoder.* takes {decoder.settings['mel_bins']} channels, and "
                f"{root}feature_fuser.* makes {channels}; the file is damaged."
            )
        discriminators = find_discriminators(state, config.periods if config else None)
        rows = len(inputs.weights["speaker.weight"])
        speakers, speaker_notes = speaker_names(rows, options)
        content, content_notes = content_choice(inputs.content_channels, options, "contentvec")
        pitch, pitch_notes = pitch_choice(options, "parselmouth")
        used = (*inputs.used, *fuser_names, *decoder.report.used, *discriminators.used)
        return PublishedModel(
            kind=self.kind,
            choices={
                "arch": "hifisinger_fish",
                "vocoder": "nsf_hifigan_fish",
                "content": content,
                "pitch": pitch,
            },
            settings=_settings(inputs, decoder.settings, discriminators.settings, config),
            generator={
                **{f"conditioner.{name}": weight for name, weight in inputs.weights.items()},
                **{f"backbone.{name}": weight for name, weight in fuser.items()},
                **{f"decoder.{name}": weight for name, weight in decoder.weights.items()},
            },
            content_channels=inputs.content_channels,
            speakers=speakers,
            report=KeyReport(
                used=used,
                missing=tuple(inputs.missing),
                left_over=tuple(name for name in state if name not in set(used)),
                notes=(
                    *inputs.notes,
                    *_NOTES,
                    *decoder.report.notes,
                    *discriminators.notes,
                    *content_notes,
                    *pitch_notes,
                    *speaker_notes,
                ),
            ),
            discriminator=discriminators.weights,
        )


def _fuser(
    state: Mapping[str, Tensor], root: str
) -> tuple[int, dict[str, Tensor], tuple[str, ...]]:
    """C, weights of `FeatureFuser`, and the published names that they were made of.

    Raises:
        UserError: they are not whole, or not square.
    """
    weights = PublishedWeights(state, root)
    channels = len(state[f"{root}{_MARK}"])
    shapes = {"weight": (channels, channels, 1), "bias": (channels,)}
    taken = {
        f"{ours}.{parameter}": weights.take(theirs, parameter, shape)
        for ours, theirs in _FUSER.items()
        for parameter, shape in shapes.items()
    }
    weights.require_complete("The feature fuser")
    found = {name: weight for name, weight in taken.items() if weight is not None}
    return channels, found, weights.report().used


def _settings(
    inputs: FishConditioner,
    decoder: Mapping[str, Any],
    discriminators: Mapping[str, Any],
    config: VocoderConfig | None,
) -> dict[str, Any]:
    """What differs from the options of conf/."""
    settings: dict[str, Any] = {
        "vocoder": dict(decoder),
        "arch": {"generator": {"conditioner": inputs.settings}},
    }
    if discriminators:
        settings["arch"]["discriminator"] = dict(discriminators)
    if config is not None:  # whose mel is of no concern to this model
        settings["audio"] = {
            "sample_rate_hz": config.sample_rate_hz,
            "hop_samples": config.hop_samples,
            "window_samples": config.window_samples,
        }
    return settings
