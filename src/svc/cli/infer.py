"""`svc-infer`: convert a recording, or a folder of them, with a checkpoint."""

from pathlib import Path
from typing import Any, NoReturn

from svc.cli.app import run_command


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command("svc-infer", "infer", infer)


def infer(config: Any) -> None:
    """Convert what the composed configuration names, and print what became of every file."""
    from svc.checkpoints.runs import checkpoint_to_convert_with
    from svc.cli.parts import plain_config
    from svc.config.instantiate import build
    from svc.inference.converter import Converter
    from svc.inference.files import convert_files
    from svc.memory import keep_freed_memory

    keep_freed_memory()
    plain = plain_config(config, run_time={})
    others = {"vocoder": plain["vocoder"], "refine_checkpoint": plain["refine"]["checkpoint"]}
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
        **{
            name: None if path is None else checkpoint_to_convert_with(Path(path))
            for name, path in others.items()
        },
    )
    report = convert_files(
        converter,
        Path(plain["input"]).expanduser(),
        None if plain["output"] is None else Path(plain["output"]).expanduser(),
        speaker=plain["speaker"],
        pitch_shift_semitones=plain["pitch_shift"],
        subtype=plain["subtype"],
        overwrite=plain["overwrite"],
    )
    print(report.summary())


if __name__ == "__main__":
    main()
