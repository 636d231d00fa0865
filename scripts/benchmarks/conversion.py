"""Conversion: the Converter's own path from conditioning to a waveform, without the analysis."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.configuration import composed
from benchmarks.figures import Figure, Options, Section, figure, timed
from benchmarks.machine import best_seconds, precisions
from benchmarks.networks import CHANNELS, RENDERING_GFLOP_PER_S, PredecessorSinger
from svc.audio.spec import AudioSpec
from svc.config.instantiate import build
from svc.inference.analysis import Analysis, Extractors
from svc.inference.converter import Converter
from svc.inference.singers import DirectSinger
from svc.models.conditioner import Conditioning

SPEC = AudioSpec()
COST_TARGETS = {"fp32": 75.0, "bf16": 35.0}
DEFAULT_MODEL_S = 20.0


@dataclass(frozen=True)
class KnownAnalysis:
    """Stands for `Extractors` with an analysis that costs nothing: random content, a gliding F0
    and some unvoiced frames."""

    channels: int

    def analyse(self, audio: Tensor, spec: AudioSpec, progress: object = None) -> Analysis:
        """As `Extractors.analyse`."""
        frames = spec.frames(len(audio))
        rng = torch.Generator().manual_seed(0)
        seconds = torch.arange(frames) / spec.frame_rate_hz
        return Analysis(
            content=torch.randn(self.channels, frames, generator=rng),
            f0_hz=220 * 2 ** torch.sin(seconds),
            voiced=seconds % 2 < 1.6,
            energy=torch.full((frames,), 0.1),
        )


def measure(options: Options) -> Section:
    """Cost per second of audio at every length and precision, and how far bf16 is from fp32."""
    torch.manual_seed(0)
    figures = _measure(
        "predecessor's generator",
        PredecessorSinger(),
        CHANNELS,
        RENDERING_GFLOP_PER_S,
        list(options.durations_s),
        options.repeats,
        COST_TARGETS,
    )
    default = build(
        composed("train")["arch"]["generator"],
        conditioner={"content_channels": CHANNELS, "speakers": 1},
    )
    length_s = min(DEFAULT_MODEL_S, max(options.durations_s))
    gflop = _gflop_per_s(default)
    figures += _measure(
        "default HiFiSinger", default, CHANNELS, gflop, [length_s], options.repeats, {}
    )
    return {
        "settings": "Per second of audio, through Converter.convert with a ready analysis: silence "
        "gate, chunks with context, sine source, folded weights, generator, crossfade and limiter. "
        "Predecessor's generator: conditioner and NSF-HiFiGAN with 256 input channels, 14.9 M "
        "parameters; default HiFiSinger: with WaveNet and 128 mel bins. Weights are random; both "
        "precisions render the same excitation.",
        "figures": figures,
    }


def _measure(
    name: str,
    generator: Any,
    channels: int,
    gflop_per_s: float,
    durations_s: list[float],
    repeats: int,
    targets: dict[str, float],
) -> list[Figure]:
    figures, outputs = [], {}
    for precision in precisions():
        converter = _converter(generator, channels, precision)
        converter.convert(_input(min(durations_s)), SPEC.sample_rate_hz)
        for duration_s in durations_s:
            audio = _input(duration_s)

            def convert(
                converter: Converter = converter,
                audio: Tensor = audio,
                key: tuple[str, float] = (precision, duration_s),
            ) -> None:
                outputs[key] = converter.convert(audio, SPEC.sample_rate_hz)

            seconds = best_seconds(convert, repeats, warm_up=0)
            figures.append(
                timed(
                    f"{name}, {duration_s:g} s, {precision}",
                    seconds / duration_s,
                    gflop_per_s,
                    precision,
                    at_most=targets.get(precision),
                )
            )
    for duration_s in durations_s if "bf16" in precisions() else ():
        exact, rounded = outputs["fp32", duration_s], outputs["bf16", duration_s]
        snr = snr_db(exact, rounded)
        figures.append(figure(f"{name}, {duration_s:g} s, bf16 against fp32", snr, "dB SNR"))
    return figures


def _converter(generator: Any, channels: int, precision: str) -> Converter:
    extractors = cast(Extractors, KnownAnalysis(channels))
    singer = DirectSinger(generator)
    return Converter(singer, extractors, SPEC, ["singer"], precision=precision)  # type: ignore[arg-type]


def _input(duration_s: float) -> Tensor:
    """Noise, [T] of whole hops: it is never silent, so that every frame is rendered."""
    frames = round(duration_s * SPEC.frame_rate_hz)
    rng = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(frames * SPEC.hop_samples, generator=rng)


def _gflop_per_s(generator: Any) -> float:
    """Forward work per second of audio, without the context around chunks, by torch's counter."""
    frames = round(SPEC.frame_rate_hz)
    analysis = KnownAnalysis(CHANNELS).analyse(torch.zeros(frames * SPEC.hop_samples), SPEC)
    conditioning = Conditioning(
        content=analysis.content[None],
        f0_hz=analysis.f0_hz[None],
        voiced=analysis.voiced[None],
        energy=analysis.energy[None],
        speaker=torch.zeros(1, dtype=torch.int64),
        key_shift_semitones=torch.zeros(1),
    )
    # With gradients the decoder renders in one piece.
    with FlopCounterMode(display=False) as counter:
        generator(conditioning, rng=0)
    return round(counter.get_total_flops() / 1e9 * SPEC.frame_rate_hz / frames, 1)


def snr_db(exact: Tensor, approximate: Tensor) -> float:
    """Level of a signal over that of its error, in dB."""
    error = (approximate.double() - exact.double()).square().sum()
    return float(10 * torch.log10(exact.double().square().sum() / error.clamp_min(1e-30)))
