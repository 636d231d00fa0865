"""Audio files in and out: any rate and channel count to mono float32, and atomically back."""

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.decoding import AudioFault, AudioFileError, AudioInfo, Census, decode_blocks, probe
from svc.errors import UserError

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioFault",
    "AudioFileError",
    "AudioInfo",
    "Subtype",
    "find_audio_files",
    "iter_audio",
    "output_container",
    "probe",
    "read_audio",
    "write_audio",
]

Subtype = Literal["PCM_16", "PCM_24", "FLOAT"]
Samples = NDArray[np.float32]

AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"}
    | {".au", ".snd", ".caf", ".w64", ".rf64"}
    # libsndfile cannot read these. They are found all the same, so that a folder of them ends in
    # a reason for each file and not in "nothing here".
    | {".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka"}
)
"""Suffixes, in small letters, of the files that `find_audio_files` returns."""

_CONTAINERS = {".wav": "WAV", ".flac": "FLAC"}
_QUALITY = "VHQ"
"""On one core 0.36 ms per second of 48 kHz audio; soxr's cheaper HQ is not measurably faster."""


def read_audio(path: Path | str, sample_rate_hz: int = 44_100) -> Tensor:
    """Read a file as mono float32 at `sample_rate_hz`.

    The mean over the channels is taken: it keeps the level of what is equal in all of them (a voice
    in the middle) and cannot clip. Where the mean cancels the channels (less than 1e-3 of their
    energy is left), the loudest channel is taken instead. Decoding and resampling run in blocks, so
    memory is the result and about a megabyte.

    Args:
        path: whatever libsndfile reads, 8 to 192 kHz, any number of channels.
        sample_rate_hz: rate of the result.

    Returns:
        [T] float32 on the CPU, T = frames in the file x rate ratio, rounded. Full scale is 1; a
        file of floats may exceed it.

    Raises:
        AudioFileError: the file cannot be used; `.fault` and `.reason` say why.
    """
    path = Path(path)
    census = Census()
    audio = _collect(path, sample_rate_hz, census, channel=None)
    if census.surviving_channel is not None:
        audio = _collect(path, sample_rate_hz, Census(), census.surviving_channel)
    return torch.from_numpy(audio)


def iter_audio(
    path: Path | str, sample_rate_hz: int = 44_100, block_s: float = 600.0
) -> Iterator[Tensor]:
    """Read a file of any length in consecutive blocks of `block_s`.

    The blocks joined are exactly what `read_audio` returns. The file is checked in a first pass, so
    that a bad one raises before the first block.

    Yields:
        [T] float32, T = round(block_s * sample_rate_hz), shorter for the last block only.

    Raises:
        AudioFileError: as `read_audio`.
        ValueError: `block_s` is less than a sample.
    """
    block_samples = round(block_s * sample_rate_hz)
    if block_samples < 1:
        raise ValueError(f"block_s={block_s} is less than one sample at {sample_rate_hz} Hz.")
    path = Path(path)
    census = Census()
    for _ in decode_blocks(path, census):
        pass
    pieces = _resampled(path, sample_rate_hz, Census(), census.surviving_channel)
    held: list[Samples] = []
    samples = 0
    for piece in pieces:
        held.append(piece)
        samples += len(piece)
        while samples >= block_samples:
            joined = np.concatenate(held)
            yield torch.from_numpy(joined[:block_samples].copy())
            held = [joined[block_samples:]]
            samples -= block_samples
    if samples:
        yield torch.from_numpy(np.concatenate(held))


def write_audio(
    path: Path | str, audio: Tensor, sample_rate_hz: int = 44_100, subtype: Subtype = "PCM_16"
) -> int:
    """Write mono audio to a .wav or .flac file, whole or not at all.

    The samples go to a temporary file beside `path`, which is then renamed: a killed run leaves no
    half file under the name. Parent folders are made. Samples beyond full scale are limited to it.

    Args:
        path: ends in .wav or .flac.
        audio: [T] or [1, T], finite, full scale 1.
        sample_rate_hz: rate of `audio`.
        subtype: how samples are stored; FLAC has no FLOAT.

    Returns:
        How many samples had to be limited to [-1, 1].

    Raises:
        UserError: the suffix or the subtype is not supported, or the folder is not writable.
        ValueError: `audio` has another shape or holds NaN or infinity.
    """
    path = Path(path)
    container = output_container(path, subtype)
    if audio.dim() == 2 and audio.shape[0] == 1:
        audio = audio[0]
    if audio.dim() != 1:
        raise ValueError(f"audio must be [T] or [1, T] and is {tuple(audio.shape)}.")
    samples = audio.detach().float().cpu().numpy()
    if not np.isfinite(samples).all():
        raise ValueError(f"audio for {path.name} holds NaN or infinity.")
    # A name of its own for every writer, and hidden, so that no reader of the folder picks it up.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            temporary, np.clip(samples, -1, 1), sample_rate_hz, subtype=subtype, format=container
        )
        os.replace(temporary, path)
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(
            f"Cannot write {path}: {error}. Choose a folder that exists or can be made, is "
            f"writable and has space left."
        ) from error
    finally:
        # After a success it has been renamed; after a failure it may never have come to be.
        with suppress(OSError):
            temporary.unlink()
    return int(np.count_nonzero(np.abs(samples) > 1))


def find_audio_files(folder: Path | str) -> list[Path]:
    """All audio files below `folder`, by suffix, in a stable order; hidden ones are left out.

    Symbolic links to folders are followed, each folder once.

    Raises:
        UserError: `folder` is not a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {kind}; expected a folder of recordings.")
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(f for f in folders if not f.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def output_container(path: Path, subtype: str) -> str:
    """What soundfile calls the format of an output, for which nothing needs to be there yet.

    Raises:
        UserError: the suffix is not supported, or its format does not take the subtype.
    """
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise UserError(
            f"Cannot write {path.name!r}: expected a name that ends in "
            f"{' or '.join(_CONTAINERS)}, got {path.suffix or 'no suffix'}."
        )
    if subtype not in get_args(Subtype) or not soundfile.check_format(container, subtype):
        choices = [s for s in get_args(Subtype) if soundfile.check_format(container, s)]
        raise UserError(
            f"Cannot write {path.name!r} with subtype={subtype}: choose one of "
            f"{', '.join(choices)}."
        )
    return container


def _collect(path: Path, rate_hz: int, census: Census, channel: int | None) -> Samples:
    """All of `_resampled` in one array that is allocated once."""
    info = probe(path)
    # One spare sample: the resampler rounds the count in its own way.
    capacity = round(info.duration_s * rate_hz) + 1
    try:
        audio = np.empty(capacity, dtype=np.float32)
    except MemoryError as error:
        reason = f"{info.duration_s / 3600:.1f} h do not fit into memory; split it"
        raise AudioFileError(path, "too long", reason) from error
    stop = 0
    for piece in _resampled(path, rate_hz, census, channel):
        audio[stop : stop + len(piece)] = piece
        stop += len(piece)
    return audio[:stop]


def _resampled(path: Path, rate_hz: int, census: Census, channel: int | None) -> Iterator[Samples]:
    """Mono pieces at `rate_hz`; `channel` None means the mean over channels."""
    info = probe(path)
    mono = (
        block.mean(axis=1) if channel is None else block[:, channel]
        for block in decode_blocks(path, census)
    )
    if info.sample_rate_hz == rate_hz:
        yield from mono
        return
    stream = soxr.ResampleStream(
        info.sample_rate_hz, rate_hz, num_channels=1, dtype="float32", quality=_QUALITY
    )
    for piece in mono:
        yield stream.resample_chunk(np.ascontiguousarray(piece))
    yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
