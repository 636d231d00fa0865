"""The demo's proof: held-out phrases of synthetic singers, converted and held against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from torch import Tensor

from svc.audio.io import read_audio, write_audio
from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.demo.phrases import DemoPair
from svc.evaluation.controls import ShuffledContent
from svc.evaluation.conversion import ConversionMetrics, evaluate_pair
from svc.evaluation.plots import Contour, MelRow, plot_loss_curves, plot_mel_comparison
from svc.evaluation.report import Clip, MetricRow, Report, Section, explain_pair, write_report
from svc.inference.converter import Converter


@dataclass(frozen=True)
class DemoResult:
    """A held-out phrase, its conversion, and the numbers about it."""

    pair: DemoPair
    converted: Tensor
    """[T]."""
    metrics: ConversionMetrics


def convert_pairs(converter: Converter, pairs: Sequence[DemoPair]) -> list[DemoResult]:
    """Convert every pair's source into its target's voice and measure it against the truth."""
    results = []
    for pair in pairs:
        converted = convert_pair(converter, pair)
        metrics = evaluate_pair(
            pair.source, converted, pair.truth, pair.f0_hz, pair.voiced, converter.spec
        )
        results.append(DemoResult(pair, converted, metrics))
    return results


def convert_pair(converter: Converter, pair: DemoPair) -> Tensor:
    """The source of a pair in its target's voice, [T]."""
    return converter.convert(
        pair.source,
        converter.spec.sample_rate_hz,
        speaker=pair.target_singer,
        pitch_shift_semitones=pair.semitones,
    )


def with_shuffled_content(converter: Converter, seed: int = 0) -> Converter:
    """The same model, hearing what is sung in random order: the control that must do worse."""
    extractors = replace(
        converter.extractors, content=ShuffledContent(converter.extractors.content, seed)
    )
    return Converter(
        converter.singer,
        extractors,
        converter.spec,
        converter.speakers,
        device=converter.device,
        precision=converter.precision,
    )


def write_pair(folder: Path, pair: DemoPair, spec: AudioSpec) -> None:
    """Put `source.wav` and `truth.wav` of a pair into a folder."""
    write_audio(folder / "source.wav", pair.source, spec.sample_rate_hz)
    write_audio(folder / "truth.wav", pair.truth, spec.sample_rate_hz)


def report_demo(
    folder: Path,
    converter: Converter,
    pair: DemoPair,
    others: Sequence[DemoPair],
    metrics_csv: Path,
    settings: dict[str, str],
) -> Path:
    """Write the demo's page about `source.wav`, `converted.wav` and `truth.wav` in a folder.

    Args:
        folder: holds the three files; gets `report.html`, `metrics.json` and the pictures.
        converter: that made `converted.wav`.
        pair: the truth about these files.
        others: more held-out pairs, for numbers that do not hang on one phrase.
        metrics_csv: of the training run.
        settings: what to say about the run.

    Returns:
        Path of the page.
    """
    spec = converter.spec
    converted = read_audio(folder / "converted.wav", spec.sample_rate_hz)
    shown = evaluate_pair(pair.source, converted, pair.truth, pair.f0_hz, pair.voiced, spec)
    results = convert_pairs(converter, others)
    controls = convert_pairs(with_shuffled_content(converter), others)
    _draw(folder, pair, converted, spec)
    plot_loss_curves(metrics_csv, folder / "losses.png")
    report = Report(
        title="svc demo: a synthetic singer in another one's voice",
        introduction=(
            f"A tiny model learned the voices of {len(converter.speakers)} synthetic singers. Here "
            f"it converts a phrase that it never heard, sung by {pair.source_singer}, into the "
            f"voice of {pair.target_singer}, {pair.semitones:+g} semitones.",
            "Because the singers are synthetic, what the target singer would have sung is known to "
            "the sample, and every number below is measured against it.",
        ),
        sections=(
            _listening_section(folder, pair, shown),
            _summary_section(results, controls),
            Section("Training", pictures=[Clip("Losses", folder / "losses.png")]),
        ),
        metrics={
            "phrase": shown,
            "held_out": summarise([result.metrics for result in results]),
            "held_out_shuffled_content": summarise([control.metrics for control in controls]),
            "held_out_phrases": [_described(result) for result in results],
        },
        settings=settings,
    )
    return write_report(folder, report)


def summarise(metrics: Sequence[ConversionMetrics]) -> dict[str, float]:
    """Means over phrases of the numbers that the demo is judged by."""
    source = fmean(m.mcd_source_db for m in metrics)
    converted = fmean(m.mcd_converted_db for m in metrics)
    return {
        "phrases": len(metrics),
        "mcd_source_db": source,
        "mcd_converted_db": converted,
        "mcd_reduction_percent": 100 * (1 - converted / source),
        "f0_median_abs_cents": fmean(m.f0.median_abs_cents for m in metrics),
        "voicing_error_share": fmean(m.f0.voicing_error_share for m in metrics),
        "truth_f0_median_abs_cents": fmean(m.f0_of_truth.median_abs_cents for m in metrics),
        "truth_voicing_error_share": fmean(m.f0_of_truth.voicing_error_share for m in metrics),
    }


def _draw(folder: Path, pair: DemoPair, converted: Tensor, spec: AudioSpec) -> None:
    mel = MelSpectrogram(spec)
    wanted = Contour(pair.f0_hz, pair.voiced)
    source_f0 = Contour(pair.f0_hz / 2 ** (pair.semitones / 12), pair.voiced)
    rows = [
        MelRow(f"source: {pair.source_singer}", mel(pair.source), source_f0),
        MelRow(f"converted into {pair.target_singer}", mel(converted)),
        MelRow(f"truth: {pair.target_singer}", mel(pair.truth), wanted),
    ]
    plot_mel_comparison(folder / "mels.png", rows, spec)


def _listening_section(folder: Path, pair: DemoPair, metrics: ConversionMetrics) -> Section:
    clips = (
        Clip("Source", folder / "source.wav", f"{pair.source_singer}, unconverted."),
        Clip("Converted", folder / "converted.wav", f"The model's {pair.target_singer}."),
        Clip("Truth", folder / "truth.wav", f"What {pair.target_singer} really sings."),
    )
    return Section(
        "Listen",
        clips=clips,
        rows=explain_pair(metrics),
        pictures=[Clip("Spectrograms and pitch", folder / "mels.png")],
    )


def _summary_section(results: Sequence[DemoResult], controls: Sequence[DemoResult]) -> Section:
    real = summarise([result.metrics for result in results])
    control = summarise([result.metrics for result in controls])
    pairs = sorted({f"{r.pair.source_singer} to {r.pair.target_singer}" for r in results})
    rows = [
        MetricRow(
            "Nearer to the target by",
            f"{real['mcd_reduction_percent']:.0f} %",
            f"Mean distortion {real['mcd_source_db']:.2f} dB before and "
            f"{real['mcd_converted_db']:.2f} dB after conversion.",
        ),
        MetricRow(
            "The same with shuffled content",
            f"{control['mcd_reduction_percent']:.0f} %",
            "The same model, told what is sung in random order. If this were as good, the model "
            "would not be listening to what is sung.",
        ),
        MetricRow(
            "Pitch error",
            f"{real['f0_median_abs_cents']:.1f} cents",
            "Mean over the phrases of the median error.",
        ),
        MetricRow(
            "Voicing error",
            f"{100 * real['voicing_error_share']:.1f} %",
            "Mean over the phrases.",
        ),
    ]
    text = (f"{len(results)} more held-out phrases: {', '.join(pairs)}.",)
    return Section("More held-out phrases", text=text, rows=rows)


def _described(result: DemoResult) -> dict[str, object]:
    pair = result.pair
    return {
        "source_singer": pair.source_singer,
        "target_singer": pair.target_singer,
        "semitones": pair.semitones,
        "metrics": result.metrics,
    }
