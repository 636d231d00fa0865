"""What vocoders are to make again: held-out phrases of synthetic singers, and recordings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from svc.audio.io import AUDIO_SUFFIXES, find_audio_files, read_audio
from svc.audio.spec import AudioSpec
from svc.data.demo.performance import SAMPLE_RATE_HZ
from svc.data.demo.phrases import held_out
from svc.data.demo.singers import SINGERS
from svc.errors import UserError
from svc.inference.output import limit_peaks

PHRASES, RECORDINGS = "held-out demo phrases", "recordings"


@dataclass(frozen=True)
class Sample:
    """Something to make again."""

    group: str
    """`PHRASES` or `RECORDINGS`."""
    name: str
    audio: Tensor
    """[T] float32, T a whole number of hops, at most full scale."""


def demo_phrases(count: int, seed: int, spec: AudioSpec) -> Iterator[Sample]:
    """Phrases that no demo dataset of that seed holds, its three singers in turn.

    Raises:
        UserError: the singers sing at another sample rate.
    """
    if count and spec.sample_rate_hz != SAMPLE_RATE_HZ:
        raise UserError(
            f"audio.sample_rate_hz={spec.sample_rate_hz}: the synthetic singers sing at "
            f"{SAMPLE_RATE_HZ} Hz. Use that, or task.phrases=0 with task.recordings=FOLDER."
        )
    for index in range(count):
        singer = SINGERS[index % 3].name
        audio = held_out(seed, index, singer, singer, 0.0).truth
        yield Sample(PHRASES, f"{singer} {index}", _fitted(audio, spec))


def recordings(folder: str, most: int | None, spec: AudioSpec) -> Iterator[Sample]:
    """Recordings below a folder, or of them as many as wanted, spread evenly over their names.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    root = Path(folder).expanduser()
    files = find_audio_files(root) if root.is_dir() else []
    if not files:
        raise UserError(
            f"task.recordings={folder} is no folder with recordings ("
            f"{', '.join(sorted(AUDIO_SUFFIXES))})."
        )
    count = len(files) if most is None else min(most, len(files))
    for index in range(count):
        file = files[(2 * index + 1) * len(files) // (2 * count)]
        audio = _fitted(read_audio(file, spec.sample_rate_hz), spec)
        if len(audio):
            yield Sample(RECORDINGS, file.relative_to(root).as_posix(), audio)


def _fitted(audio: Tensor, spec: AudioSpec) -> Tensor:
    return limit_peaks(audio[: spec.frames(len(audio)) * spec.hop_samples])
