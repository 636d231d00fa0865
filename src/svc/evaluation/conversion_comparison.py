"""`svc-eval task=conversion`: trained models side by side, where the truth is known."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from svc.audio.mel import MelSpectrogram
from svc.checkpoints.runs import checkpoint_to_convert_with
from svc.data.batch import LoadedCrops
from svc.data.data_module import SvcDataModule
from svc.data.demo.phrases import DemoPair, held_out
from svc.data.store import FeatureStore
from svc.errors import UserError
from svc.evaluation.demo import convert_pair, convert_pairs, summarise, with_shuffled_content
from svc.evaluation.plots import MelRow, plot_mel_comparison
from svc.evaluation.tables import markdown_table, number, write_csv, write_json
from svc.evaluation.task import Candidate
from svc.inference.converter import Converter

PHRASES_SEED = 1000
PAIRS = (
    ("bruno_bass", "alma_alto"),
    ("bruno_bass", "theo_tenor"),
    ("alma_alto", "theo_tenor"),
    ("theo_tenor", "alma_alto"),
    ("alma_alto", "bruno_bass"),
)
"""Source and target of the phrases; the first is drawn."""


@dataclass(frozen=True)
class ModelResult:
    """What came out for one model."""

    name: str
    kind: str
    parameters_million: float
    """Without the vocoder or decoder."""
    valid_mel_l1: float | None
    """Mean absolute difference, in nepers, of the model's mel and the truth's over validation
    slices sung as they are; before any vocoder. None without a store."""
    mcd_source_db: float
    mcd_converted_db: float
    mcd_reduction_percent: float
    shuffled_reduction_percent: float
    """The same with content in random order: must be much worse."""
    f0_median_abs_cents: float
    voicing_error_percent: float
    real_time_factor: float
    """Seconds of a conversion, analysis included, per second of audio."""


class ConversionComparison:
    """Converts held-out phrases of the synthetic singers with every model and measures them.

    Args:
        checkpoints: files or folders of runs by name.
        vocoder: checkpoint that renders all mels; None leaves each model its own.
        store: prepared dataset whose validation slices are compared mel by mel; None leaves that
            out.
        steps: of samplers; None for their own number.
        candidates: not used; every checkpoint brings its parts.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, str],
        vocoder: str | None = None,
        store: str | None = None,
        steps: int | None = None,
        candidates: Sequence[Candidate] = (),
    ) -> None:
        if not checkpoints:
            raise UserError(
                "task.checkpoints is empty; give 'task.checkpoints={name: FILE or run folder, …}'."
            )
        self._paths = {
            name: checkpoint_to_convert_with(Path(path)) for name, path in checkpoints.items()
        }
        self._vocoder = vocoder
        self._store = None if store is None else FeatureStore.open(store)
        self._steps = steps

    def run(self, folder: Path) -> str:
        """See `EvaluationTask`: conversion.csv, conversion.json, conversion.md and mels.png."""
        converters = {name: self._converter(path) for name, path in self._paths.items()}
        for name, converter in converters.items():
            _require_singers(name, converter.speakers)
        pairs = [held_out(PHRASES_SEED, i, *pair) for i, pair in enumerate(PAIRS)]
        results, rows = [], []
        for name, converter in converters.items():
            result, converted = self._measure(name, converter, pairs)
            results.append(result)
            rows.append(MelRow(name, MelSpectrogram(converter.spec)(converted)))
        spec = converter.spec
        truth = MelRow(f"truth: {pairs[0].target_singer}", MelSpectrogram(spec)(pairs[0].truth))
        plot_mel_comparison(folder / "mels.png", [truth, *rows], spec)
        records = [vars(result) for result in results]
        write_csv(folder / "conversion.csv", records)
        write_json(folder / "conversion.json", {"models": records, "pairs": PAIRS})
        table = _markdown(results)
        (folder / "conversion.md").write_text(table + "\n", encoding="utf-8")
        return f"{table}\n\nWritten to {folder}."

    def _converter(self, path: Path) -> Converter:
        try:
            return Converter.from_checkpoint(
                path, device="cpu", vocoder=self._vocoder, steps=self._steps
            )
        except UserError:
            if self._steps is None:
                raise
            # A model that converts in one pass has no steps to be told.
            return Converter.from_checkpoint(path, device="cpu", vocoder=self._vocoder)

    def _measure(
        self, name: str, converter: Converter, pairs: Sequence[DemoPair]
    ) -> tuple[ModelResult, torch.Tensor]:
        results = convert_pairs(converter, pairs)
        measured = summarise([result.metrics for result in results])
        control = convert_pairs(with_shuffled_content(converter), pairs)
        shuffled = summarise([result.metrics for result in control])
        start = time.perf_counter()
        for pair in pairs:
            convert_pair(converter, pair)
        seconds = time.perf_counter() - start
        audio_s = sum(len(pair.source) for pair in pairs) / converter.spec.sample_rate_hz
        network = converter.singer.network
        renderer = {id(p) for p in converter.singer.vocoder.parameters()}
        own = sum(p.numel() for p in network.parameters() if id(p) not in renderer)
        return ModelResult(
            name=name,
            kind=type(network).__name__,
            parameters_million=round(own / 1e6, 3),
            valid_mel_l1=None if self._store is None else valid_mel_l1(converter, self._store),
            mcd_source_db=measured["mcd_source_db"],
            mcd_converted_db=measured["mcd_converted_db"],
            mcd_reduction_percent=measured["mcd_reduction_percent"],
            shuffled_reduction_percent=shuffled["mcd_reduction_percent"],
            f0_median_abs_cents=measured["f0_median_abs_cents"],
            voicing_error_percent=100 * measured["voicing_error_share"],
            real_time_factor=seconds / audio_s,
        ), results[0].converted


def valid_mel_l1(converter: Converter, store: FeatureStore) -> float:
    """Mean absolute difference of predicted and true natural-log mels over the validation slices
    of a store, each sung by its own speaker; -> nepers."""
    spec, singer = converter.spec, converter.singer
    mel_of = MelSpectrogram(spec)
    rng = torch.Generator().manual_seed(0)
    total, frames = 0.0, 0
    data = SvcDataModule(store, spec=spec, workers=0, batch_size=1, valid_batch_size=1)
    for loaded in data.val_dataloader():
        assert isinstance(loaded, LoadedCrops)
        batch = loaded.batch(mel_of)
        with torch.inference_mode():
            conditioning = batch.conditioning()
            noise = singer.noise(conditioning.frames, rng)
            mel = singer.mel(conditioning, noise, rng)
        total += float((mel - batch.mel).abs().mean(dim=1).sum())
        frames += conditioning.frames
    return total / max(1, frames)


def _require_singers(name: str, speakers: Sequence[str]) -> None:
    unknown = sorted({singer for pair in PAIRS for singer in pair} - set(speakers))
    if unknown:
        raise UserError(
            f"{name} does not know the demo's singers {', '.join(unknown)}; it knows "
            f"{', '.join(speakers)}. Give models that were trained with dataset=demo."
        )


def _markdown(results: Sequence[ModelResult]) -> str:
    header = [
        "model",
        "parameters, M",
        "valid mel L1",
        "MCD before, dB",
        "after, dB",
        "nearer, %",
        "shuffled, %",
        "F0, cents",
        "voicing, %",
        "RTF",
    ]
    lines = [
        [
            result.name,
            number(result.parameters_million, ".2f"),
            "–" if result.valid_mel_l1 is None else number(result.valid_mel_l1, ".3f"),
            number(result.mcd_source_db, ".2f"),
            number(result.mcd_converted_db, ".2f"),
            number(result.mcd_reduction_percent, ".0f"),
            number(result.shuffled_reduction_percent, ".0f"),
            number(result.f0_median_abs_cents, ".1f"),
            number(result.voicing_error_percent, ".1f"),
            number(result.real_time_factor, ".2f"),
        ]
        for result in results
    ]
    return markdown_table(header, lines)
