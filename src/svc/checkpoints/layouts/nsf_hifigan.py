"""NSF-HiFiGAN as openvpi and fish-diffusion publish it: 44.1 kHz vocoders, and the decoders inside
other models.

Names below a prefix: `conv_pre`, `ups.{stage}`, `noise_convs.{stage}` (no norm),
`resblocks.{n}.convs1.{j}` and `.convs2.{j}` with n counting through all stages, `conv_post` and
`m_source.l_linear`. All sizes are in the shapes but for the hop, which the last of the sampling
steps of the source leaves open, and the dilations.
"""

import itertools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svc.checkpoints.layouts.base import KeyReport, LayoutOptions, PublishedModel
from svc.checkpoints.layouts.discriminators import find_discriminators
from svc.checkpoints.layouts.published_weights import PublishedWeights
from svc.checkpoints.layouts.vocoder_config import VocoderConfig, read_vocoder_config
from svc.errors import UserError
from svc.models.nsf_hifigan import NsfHifiGan

USUAL_DILATIONS = (1, 3, 5)

_PREFIXES = ("", "generator.", "model.", "generator.model.", "vocoder.", "vocoder.model.")
"""Of whole files: openvpi's, Lightning's, fish-diffusion's wrapper."""
_LAYERS = {"input": "conv_pre", "output": "conv_post", "sine_source.mix": "m_source.l_linear"}
_OF_A_STAGE = {"upsample": "ups.{}", "source": "noise_convs.{}"}
_OF_A_PAIR = {"dilated": "convs1", "plain": "convs2"}
_BLOCK_LAYER = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(dilated|plain)\.(\d+)")
_STAGE_LAYER = re.compile(r"stages\.(\d+)\.(upsample|source)")


@dataclass(frozen=True)
class TranslatedGenerator:
    """A published generator for `svc.models.nsf_hifigan.NsfHifiGan`."""

    settings: dict[str, Any]
    """Arguments that the weights tell; lists, so that they may stand in a configuration."""
    weights: dict[str, Tensor]
    """Complete, under our names."""
    report: KeyReport
    """Names with the prefix; those without it are ignored."""


def translate_generator(
    published: Mapping[str, Tensor], prefix: str = "", config: VocoderConfig | None = None
) -> TranslatedGenerator:
    """Sizes and weights of a generator.

    Args:
        published: names to weights, of any dtype and with weight norm in any spelling.
        prefix: what stands before `conv_pre`.
        config: what was found beside the weights; None assumes the published 44.1 kHz ones.

    Raises:
        UserError: it is another kind of generator, or not whole.
    """
    weights = PublishedWeights(published, prefix)
    _refuse_other_kinds(weights)
    config_or_usual = config or VocoderConfig()
    settings = _sizes(weights, config_or_usual)
    with torch.device("meta"):
        try:
            template = NsfHifiGan(**settings)
        except ValueError as error:
            raise UserError(f"The NSF-HiFiGAN generator cannot be built: {error}.") from error
    blocks = len(settings["resblock_kernels"])
    filled = weights.fill(template.state_dict(), lambda layer: published_layer(layer, blocks))
    weights.require_complete("The NSF-HiFiGAN generator")
    notes = list(config_or_usual.notes)
    if config_or_usual.dilations is None:
        notes.append(
            "The dilations of the residual blocks are not in the weights; 1, 3, 5 are assumed."
        )
    if config is None:
        notes.append("The hop is not in the weights; 512 samples at 44.1 kHz are assumed.")
    return TranslatedGenerator(settings, filled, weights.report(notes))


def published_layer(layer: str, blocks: int) -> str:
    """The published name of a layer of ours, with `blocks` residual blocks in every stage."""
    if found := _BLOCK_LAYER.fullmatch(layer):
        stage, block, kind, number = found.groups()
        return f"resblocks.{int(stage) * blocks + int(block)}.{_OF_A_PAIR[kind]}.{number}"
    if found := _STAGE_LAYER.fullmatch(layer):
        return _OF_A_STAGE[found[2]].format(found[1])
    return _LAYERS[layer]


class NsfHifiGanLayout:
    """A vocoder by itself, with its discriminators where the file has them."""

    kind = "nsf_hifigan"
    description = "NSF-HiFiGAN vocoder, as openvpi and fish-diffusion publish it"

    def matches(self, names: Collection[str]) -> bool:
        """See `Layout`. Also of relatives that `read` then refuses by name."""
        return _prefix_of(names) is not None

    def read(self, state: Mapping[str, Tensor], options: LayoutOptions) -> PublishedModel:
        """See `Layout`."""
        prefix = _prefix_of(state)
        if prefix is None:
            raise ValueError("this state dict does not match the layout")
        config = None
        if options.vocoder_config is not None:
            config = read_vocoder_config(options.vocoder_config)
        generator = translate_generator(state, prefix, config)
        discriminators = find_discriminators(state, config.periods if config else None)
        config = config or VocoderConfig()
        if config.mel_bins not in (None, generator.settings["mel_bins"]):
            raise UserError(
                f"The configuration says num_mels={config.mel_bins}, and the weights take "
                f"{generator.settings['mel_bins']} bins; it belongs to another vocoder."
            )
        settings: dict[str, Any] = {
            "audio": {
                "sample_rate_hz": config.sample_rate_hz,
                "hop_samples": config.hop_samples,
                "window_samples": config.window_samples,
                "mel_bins": generator.settings["mel_bins"],
                "mel_min_hz": config.mel_min_hz,
                "mel_max_hz": config.mel_max_hz,
            },
            "vocoder": {**generator.settings, "f0_upsampling": "zeroed"},
        }
        if discriminators.settings:
            settings["arch"] = {"discriminator": discriminators.settings}
        used = {*generator.report.used, *discriminators.used}
        return PublishedModel(
            kind=self.kind,
            choices={"arch": "nsf_hifigan", "vocoder": "nsf_hifigan", "audio": "openvpi"},
            settings=settings,
            generator=generator.weights,
            content_channels=0,
            speakers=(),
            report=KeyReport(
                used=(*generator.report.used, *discriminators.used),
                left_over=tuple(name for name in state if name not in used),
                notes=(*generator.report.notes, *discriminators.notes),
            ),
            discriminator=discriminators.weights,
        )


def _prefix_of(names: Collection[str]) -> str | None:
    if any("denoise_fn." in name for name in names):
        return None  # a DiffSVC that carries its vocoder
    layers = {name.rpartition(".")[0].removesuffix(".parametrizations.weight") for name in names}
    for prefix in _PREFIXES:
        if {f"{prefix}conv_pre", f"{prefix}ups.0", f"{prefix}conv_post"} <= layers:
            return prefix
    return None


def _refuse_other_kinds(weights: PublishedWeights) -> None:
    if weights.has("source_conv"):
        raise UserError(
            "This is a mini-NSF vocoder (one sine, given to one stage), another network than "
            "NSF-HiFiGAN, and not supported. Take one that has a sine source with harmonics."
        )
    if weights.has("resblocks.0.convs"):
        raise UserError(
            "This generator has residual blocks of type '2', which are not supported; the "
            "published 44.1 kHz vocoders have those of type '1'."
        )
    if not weights.has("conv_pre"):
        raise UserError(
            f"There is no NSF-HiFiGAN generator here: expected {weights.prefix}conv_pre and so on, "
            f"found {', '.join(weights.some_names) or 'nothing'}. Other generators, such as "
            f"RefineGAN, are not supported."
        )
    if not weights.has("m_source"):
        raise UserError(
            "This generator has no sine source: it is a plain HiFi-GAN, which does not follow F0 "
            "and is not supported. Take an NSF-HiFiGAN."
        )


def _sizes(weights: PublishedWeights, config: VocoderConfig) -> dict[str, Any]:
    """Arguments of `NsfHifiGan`."""
    stages = weights.count("ups.{}")
    blocks, uneven = divmod(weights.count("resblocks.{}"), max(stages, 1))
    if not stages or not blocks or uneven:
        raise UserError(
            f"The NSF-HiFiGAN generator is not whole: {stages} upsampling stages and "
            f"{weights.count('resblocks.{}')} residual blocks do not fit each other."
        )
    initial_channels, mel_bins = _shape(weights, "conv_pre")[:2]
    return {
        "mel_bins": mel_bins,
        "initial_channels": initial_channels,
        "upsample_rates": _rates(weights, stages, config),
        "upsample_kernels": [_shape(weights, f"ups.{stage}")[-1] for stage in range(stages)],
        "resblock_kernels": [
            _shape(weights, f"resblocks.{block}.convs1.0")[-1] for block in range(blocks)
        ],
        "resblock_dilations": _dilations(weights, blocks, config),
        "harmonics": _shape(weights, "m_source.l_linear")[-1] - 1,
    }


def _rates(weights: PublishedWeights, stages: int, config: VocoderConfig) -> list[int]:
    """Every stage's convolution of the source steps over as many samples as the later stages
    make of one; its kernel is twice the step."""
    kernels = [_shape(weights, f"noise_convs.{stage}")[-1] for stage in range(stages)]
    steps = [config.hop_samples, *(max(kernel // 2, 1) for kernel in kernels)]
    rates = [before // after for before, after in itertools.pairwise(steps)]
    if steps[-1] != 1 or math.prod(rates) != config.hop_samples:
        raise UserError(
            f"A hop of {config.hop_samples} samples does not fit the weights, whose stages read "
            f"the source in steps of {steps[1:]} samples. Give the config.json of these weights "
            f"(vocoder_config=FILE)."
        )
    if config.upsample_rates is not None and list(config.upsample_rates) != rates:
        raise UserError(
            f"The configuration says upsample_rates={list(config.upsample_rates)}, and the weights "
            f"are for {rates}; it belongs to another vocoder."
        )
    return rates


def _dilations(weights: PublishedWeights, blocks: int, config: VocoderConfig) -> list[list[int]]:
    counts = [weights.count(f"resblocks.{block}.convs1.{{}}") for block in range(blocks)]
    if config.dilations is not None:
        dilations = [list(block) for block in config.dilations]
        if [len(block) for block in dilations] != counts:
            raise UserError(
                f"The configuration says resblock_dilation_sizes={dilations}, and the weights have "
                f"{counts} convolutions in the blocks of a stage; it belongs to another vocoder."
            )
        return dilations
    if any(count != len(USUAL_DILATIONS) for count in counts):
        raise UserError(
            f"The dilations of the residual blocks are not in the weights, and with {counts} "
            f"convolutions they cannot be 1, 3, 5. Give the config.json of these weights "
            f"(vocoder_config=FILE)."
        )
    return [list(USUAL_DILATIONS) for _ in counts]


def _shape(weights: PublishedWeights, layer: str) -> tuple[int, ...]:
    shape = weights.shape(layer)
    if shape is None:
        raise UserError(f"The NSF-HiFiGAN generator is not whole: it lacks {layer}.")
    return shape
