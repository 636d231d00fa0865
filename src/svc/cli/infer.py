"""`svc-infer`: convert a recording, or a folder of them, with a checkpoint."""

import sys
from pathlib import Path
from typing import Any, NoReturn

from svc.cli.app import run_command
from svc.errors import UserError


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.argv = [sys.argv[0], *map(with_vocoder_as_setting, sys.argv[1:])]
    run_command("svc-infer", "infer", infer)


def with_vocoder_as_setting(argument: str) -> str:
    """`vocoder=FILE` -> `vocoder_weights=FILE`: Hydra takes the first for an option of the group of
    that name, though this command has no such group."""
    name, equals, value = argument.partition("=")
    return f"vocoder_weights={value}" if name == "vocoder" and equals else argument


def infer(config: Any) -> None:
    """Convert what the composed configuration names, and print what became of every file."""
    from svc.checkpoints.runs import checkpoint_to_convert_with
    from svc.cli.adapters import adapters_of
    from svc.cli.parts import plain_config
    from svc.config.instantiate import build
    from svc.inference.converter import Converter
    from svc.inference.files import convert_files
    from svc.inference.speaker_curve_file import read_speaker_curve
    from svc.inference.speaker_mixing import check_interpolation
    from svc.memory import keep_freed_memory

    keep_freed_memory()
    plain = plain_config(config, run_time={})
    check_interpolation(plain["speaker_interpolation"])
    if plain["speaker"] is not None and plain["speaker_curve"]:
        raise UserError(
            f"speaker={plain['speaker']} and speaker_curve={plain['speaker_curve']} exclude each "
            f"other; leave one of them out."
        )
    others = {
        "vocoder": plain["vocoder_weights"],
        "refine_checkpoint": plain["refine"]["checkpoint"],
    }
    converter = Converter.from_checkpoint(
        checkpoint_to_convert_with(Path(plain["checkpoint"])),
        device=plain["device"],
        precision=plain["precision"],
        content_model=plain["content_model"],
        match_level=plain["match_level"],
        sampler=build(plain["sampler"]) if plain["sampler"] else None,
        steps=plain["steps"],
        refine_steps=plain["refine"]["steps"],
        seed=plain["seed"],
        adapters=adapters_of(plain["adapters"]),
        **{
            name: None if path is None else checkpoint_to_convert_with(Path(path))
            for name, path in others.items()
        },
    )
    speaker = plain["speaker"]
    if plain["speaker_curve"]:
        curve = Path(plain["speaker_curve"]).expanduser()
        speaker = read_speaker_curve(curve, converter.speakers)
    report = convert_files(
        converter,
        Path(plain["input"]).expanduser(),
        None if plain["output"] is None else Path(plain["output"]).expanduser(),
        speaker=speaker,
        speaker_interpolation=plain["speaker_interpolation"],
        pitch_shift_semitones=plain["pitch_shift"],
        subtype=plain["subtype"],
        overwrite=plain["overwrite"],
    )
    print(report.summary())


if __name__ == "__main__":
    main()
