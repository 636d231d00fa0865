"""`svc-export`: a model in one file that can be passed on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from svc.cli.app import run_command
from svc.errors import UserError

if TYPE_CHECKING:
    from svc.checkpoints.exporting import Exported

_FORMATS = ("safetensors",)


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command("svc-export", "export", export)


def export(config: Any) -> None:
    """Write what the composed configuration asks for, and print what it is."""
    from svc.checkpoints.exporting import export_model, output_path
    from svc.checkpoints.model_file import read_model_file
    from svc.checkpoints.runs import checkpoint_to_convert_with
    from svc.cli.parts import plain_config

    plain = plain_config(config, run_time={})
    if plain["format"] not in _FORMATS:
        raise UserError(f"format={plain['format']}: choose one of {', '.join(_FORMATS)}.")
    source = checkpoint_to_convert_with(Path(plain["checkpoint"]))
    model = read_model_file(source, with_discriminator=plain["discriminators"])
    output = None if plain["output"] is None else Path(plain["output"]).expanduser()
    removed = plain["remove_speakers"] or []
    exported = export_model(
        model,
        output_path(source, output, plain["overwrite"]),
        precision=plain["precision"],
        discriminators=plain["discriminators"],
        remove_speakers=[removed] if isinstance(removed, str) else [str(name) for name in removed],
        licence=plain["licence"],
    )
    print(summary(exported, plain["precision"]))


def summary(exported: "Exported", precision: str) -> str:
    """What was written, for people."""
    from svc.checkpoints.registry import shown_size

    facts = exported.facts
    lines = [
        f"{exported.path}: {shown_size(exported.size_bytes)}, {precision}"
        + (", with discriminators" if exported.has_discriminator else ""),
        f"  speakers: {', '.join(facts.named_speakers) or 'none; it is a vocoder'}",
        f"  licence:  {facts.licence or 'not recorded; licence=NAME records one'}",
    ]
    for parent in facts.parents:
        lines.append(
            f"  from:     {parent.get('file')} ({parent.get('kind')}, licence "
            f"{parent.get('licence') or 'not recorded'}, SHA-256 {str(parent.get('sha256'))[:12]}…)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
