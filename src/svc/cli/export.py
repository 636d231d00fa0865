"""`svc-export`: a model in one file that can be passed on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from svc.cli.app import run_command
from svc.errors import UserError

if TYPE_CHECKING:
    from svc.checkpoints.exporting import Exported

_FORMATS = ("safetensors", "adapter")


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command("svc-export", "export", export)


def export(config: Any) -> None:
    """Write what the composed configuration asks for, and print what it is."""
    from svc.checkpoints.runs import checkpoint_to_convert_with
    from svc.cli.parts import plain_config

    plain = plain_config(config, run_time={})
    if plain["format"] not in _FORMATS:
        raise UserError(f"format={plain['format']}: choose one of {', '.join(_FORMATS)}.")
    source = checkpoint_to_convert_with(Path(plain["checkpoint"]))
    output = None if plain["output"] is None else Path(plain["output"]).expanduser()
    write = _export_adapter if plain["format"] == "adapter" else _export_model
    print(summary(write(source, output, plain), plain["precision"]))


def _export_model(source: Path, output: Path | None, plain: Mapping[str, Any]) -> "Exported":
    from svc.checkpoints.adapters import apply_adapters
    from svc.checkpoints.exporting import export_model, output_path
    from svc.checkpoints.model_file import read_model_file
    from svc.cli.adapters import adapters_of

    model = read_model_file(source, with_discriminator=plain["discriminators"])
    model = apply_adapters(model, adapters_of(plain["adapters"]))
    removed = plain["remove_speakers"] or []
    return export_model(
        model,
        output_path(source, output, plain["overwrite"]),
        precision=plain["precision"],
        discriminators=plain["discriminators"],
        remove_speakers=[removed] if isinstance(removed, str) else [str(name) for name in removed],
        licence=plain["licence"],
    )


def _export_adapter(source: Path, output: Path | None, plain: Mapping[str, Any]) -> "Exported":
    from svc.checkpoints.exporting import ADAPTER_SUFFIX, export_adapter, output_path

    for name in ("adapters", "discriminators", "remove_speakers"):
        if plain[name]:
            raise UserError(
                f"{name}={plain[name]} is of whole models; leave it out with format=adapter."
            )
    chosen = output_path(source, output, plain["overwrite"], ADAPTER_SUFFIX)
    return export_adapter(source, chosen, precision=plain["precision"], licence=plain["licence"])


def summary(exported: "Exported", precision: str) -> str:
    """What was written, for people."""
    from svc.checkpoints.registry import shown_size

    lines = [
        f"{exported.path}: {shown_size(exported.size_bytes)}, {precision}"
        + (", with discriminators" if exported.has_discriminator else ""),
        *exported.about(),
    ]
    for parent in exported.facts.parents:
        lines.append(
            f"  from:     {parent.get('file')} ({parent.get('kind')}, licence "
            f"{parent.get('licence') or 'not recorded'}, SHA-256 {str(parent.get('sha256'))[:12]}…)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
