#!/usr/bin/env python
"""Convert recordings with a checkpoint, measure them, and draw them: numbers for a report.

Real voices have no parallel truth: timbre is compared with recordings of the target speaker, and
pitch with the source's own contour. Prints JSON and writes WAVs and one picture per source.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from svc.audio.io import find_audio_files, read_audio, write_audio
from svc.audio.mel import MelSpectrogram
from svc.checkpoints.runs import checkpoint_to_convert_with
from svc.evaluation.conversion import evaluate_unpaired
from svc.evaluation.plots import MelRow, plot_loss_curves, plot_mel_comparison
from svc.inference.converter import Converter


def main() -> None:
    """Convert every source with its shift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of a run")
    parser.add_argument("target", type=Path, help="folder of recordings of the target speaker")
    parser.add_argument("output", type=Path, help="folder for WAVs and pictures")
    parser.add_argument("sources", nargs="+", help="recordings, each as FILE or FILE:SEMITONES")
    arguments = parser.parse_args()
    converter = Converter.from_checkpoint(checkpoint_to_convert_with(arguments.checkpoint))
    spec = converter.spec
    target = torch.cat([read_audio(file) for file in find_audio_files(arguments.target)])
    found = {}
    for source in arguments.sources:
        name, _, shift = source.partition(":")
        path, semitones = Path(name), float(shift or 0)
        audio = read_audio(path)
        converted = converter.convert(audio, spec.sample_rate_hz, pitch_shift_semitones=semitones)
        write_audio(arguments.output / f"{path.stem}_converted.wav", converted)
        metrics = evaluate_unpaired(audio, converted, target, spec, semitones)
        found[path.stem] = {"pitch_shift_semitones": semitones, **asdict(metrics)}
        mel = MelSpectrogram(spec)
        rows = [MelRow(f"source: {path.stem}", mel(audio)), MelRow("converted", mel(converted))]
        plot_mel_comparison(arguments.output / f"{path.stem}.png", rows, spec)
    for metrics_csv in arguments.checkpoint.rglob("metrics.csv"):
        plot_loss_curves(metrics_csv, arguments.output / "losses.png")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
