"""Which recording becomes which file."""

import os
from collections import Counter
from pathlib import Path
from typing import Literal

from svc.audio.io import AUDIO_SUFFIXES, find_audio_files
from svc.errors import UserError

OUTPUT_SUFFIXES = (".wav", ".flac")


def plan_files(
    input_path: Path,
    output_path: Path | None,
    voice: str,
    output_format: Literal["wav", "flac"] = "wav",
) -> list[tuple[Path, Path]]:
    """Which file becomes which.

    Raises:
        UserError: no input, no audio files in it, a wrong kind of output, or an output that is an
            input.
    """
    suffix = f".{output_format}"
    if input_path.is_dir():
        jobs = _plan_folder(input_path, output_path, voice, suffix)
    elif input_path.is_file():
        output = _output_file(input_path, output_path, voice, suffix)
        jobs = [(input_path, output)]
    else:
        raise UserError(f"input={input_path} does not exist; give a recording or a folder of them.")
    inputs = {os.path.realpath(source) for source, _ in jobs}
    replaced = [output for _, output in jobs if os.path.realpath(output) in inputs]
    if replaced:
        raise UserError(
            f"output={output_path} would replace the recording {replaced[0]}; choose another file "
            f"or folder."
        )
    return jobs


def _plan_folder(
    folder: Path, output_path: Path | None, voice: str, suffix: str
) -> list[tuple[Path, Path]]:
    target = output_path or folder.resolve().parent / f"{folder.resolve().name}_{voice}"
    if target.is_file() or target.suffix.lower() in OUTPUT_SUFFIXES:
        raise UserError(
            f"output={target} is a file, but input={folder} is a folder; give a folder."
        )
    # Where the output lies inside the input, what an earlier run wrote there is no input.
    inside = os.path.realpath(target) + os.sep
    same = os.path.realpath(target) == os.path.realpath(folder)
    sources = [
        path
        for path in find_audio_files(folder)
        if same or not os.path.realpath(path).startswith(inside)
    ]
    if not sources:
        raise UserError(
            f"input={folder} holds no recordings: no file in it ends in one of "
            f"{', '.join(sorted(AUDIO_SUFFIXES))}."
        )
    names = [source.relative_to(folder) for source in sources]
    # take.wav and take.mp3 must not become the same file.
    alike = Counter(str(name.with_suffix("")).casefold() for name in names)
    return [
        (
            source,
            target
            / (
                name.with_suffix(suffix)
                if alike[str(name.with_suffix("")).casefold()] == 1
                else name.with_name(name.name + suffix)
            ),
        )
        for source, name in zip(sources, names, strict=True)
    ]


def _output_file(source: Path, output_path: Path | None, voice: str, suffix: str) -> Path:
    if output_path is None:
        return source.with_name(f"{source.stem}_{voice}{suffix}")
    if output_path.is_dir() or not output_path.suffix:
        return output_path / f"{source.stem}{suffix}"
    if output_path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise UserError(
            f"output={output_path} ends in {output_path.suffix}; expected .wav or .flac, or a "
            f"folder."
        )
    return output_path
