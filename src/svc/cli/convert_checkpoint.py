"""`svc-convert-checkpoint`: published checkpoints of other toolkits -> a file of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from svc.checkpoints.registry import shown_size
from svc.cli.app import run_command
from svc.errors import UserError, UserErrors

if TYPE_CHECKING:
    from svc.checkpoints.feature_networks import FeatureNetwork
    from svc.checkpoints.layouts.base import KeyReport
    from svc.checkpoints.model_file import ModelFile

_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
"""Of files in a folder that are tried; and openvpi's, which is called `model`."""
_NAMES_SHOWN = 10
"""Of each list on the terminal; the report file has them all."""


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command("svc-convert-checkpoint", "convert_checkpoint", convert_checkpoint)


def convert_checkpoint(config: Any) -> None:
    """Convert what the composed configuration names, and say what became of every weight."""
    from svc.cli.parts import plain_config

    plain = plain_config(config, run_time={})
    source = Path(plain["input"]).expanduser()
    output = None if plain["output"] is None else Path(plain["output"]).expanduser()
    if not source.is_dir():
        _convert(source, output, plain)
        return
    sources = sorted(path for path in source.iterdir() if _may_hold_weights(path))
    if not sources:
        raise UserError(
            f"input={source} is a folder without files of weights ({', '.join(_SUFFIXES)})."
        )
    if output is not None:
        if output.suffix or output.is_file():
            raise UserError(f"output={output} must be a folder, as input={source} is one.")
        output.mkdir(parents=True, exist_ok=True)
    faults = []
    for path in sources:
        try:
            _convert(path, output, plain)
        except UserError as error:
            faults.append(str(error).replace("\n", "\n    "))
    if faults:
        raise UserErrors(
            f"{len(faults)} of {len(sources)} files in {source} are not converted:", faults
        )


def _may_hold_weights(path: Path) -> bool:
    return path.is_file() and (path.suffix in _SUFFIXES or path.name == "model")


def _convert(source: Path, output: Path | None, plain: Mapping[str, Any]) -> None:
    """Convert one file and tell of it."""
    from svc.checkpoints.exporting import output_path
    from svc.checkpoints.importing import layout_options, recognised
    from svc.checkpoints.model_file import ModelFile

    chosen = output_path(source, output, plain["overwrite"])
    options = layout_options(plain["options"])
    found = recognised(source, options, with_discriminator=plain["discriminators"])
    if isinstance(found, ModelFile):
        told = _convert_model(found, source, chosen, plain)
    else:
        told = _convert_network(found, source, chosen, plain["precision"])
    report = chosen.with_suffix(".report.txt")
    report.write_text(told.text(None), encoding="utf-8")
    print(told.text(None if plain["verbose"] else _NAMES_SHOWN), end="")
    print(f"Every name: {report}")


def _convert_model(
    model: "ModelFile", source: Path, output: Path, plain: Mapping[str, Any]
) -> "_Told":
    from svc.checkpoints.exporting import export_model
    from svc.checkpoints.layouts.recognition import description_of
    from svc.checkpoints.model_file import OWN_KIND

    if model.kind == OWN_KIND or model.report is None:
        raise UserError(
            f"input={source} is a file of svc itself; there is nothing to convert. svc-export "
            f"makes a smaller one of it."
        )
    exported = export_model(
        model,
        output,
        precision=plain["precision"],
        discriminators=bool(model.discriminator),
        licence=plain["licence"],
    )
    what = f"{source.name} is {model.kind}: {description_of(model.kind)}"
    judges = ", with discriminators" if exported.has_discriminator else ""
    use = (
        f"Use it: svc-infer checkpoint={output} input=FILE, or train on with svc-train "
        f"pretrained={output}."
    )
    if not model.facts.speakers:
        use = f"Use it: vocoder={output} in svc-infer, vocoder_weights={output} in svc-train."
    return _Told(
        what,
        model.report,
        (
            f"{output}: {shown_size(exported.size_bytes)}{judges}",
            *exported.about(),
            use,
        ),
    )


def _convert_network(
    network: "FeatureNetwork", source: Path, output: Path, precision: str
) -> "_Told":
    from svc.checkpoints.feature_networks import write_feature_network

    write_feature_network(network, output, precision)
    (group,) = network.config
    settings = [f"{group}={network.kind}", f"{group}.model={output}"]
    return _Told(
        f"{source.name} holds the weights of {group}={network.kind}",
        network.report,
        (
            f"{output}: {shown_size(output.stat().st_size)}",
            f"Use it: {' '.join(settings)} in svc-preprocess and svc-train.",
        ),
    )


@dataclass(frozen=True)
class _Told:
    """What was found, what became of it, and what it is good for."""

    what: str
    report: "KeyReport"
    result: tuple[str, ...]

    def text(self, most: int | None) -> str:
        """For people; `most` names of each list, None for all."""
        lines = [
            self.what,
            f"  used:      {len(self.report.used)} weights",
            *(_shown(self.report.used) if most is None else ()),
            *_listed("missing:  ", self.report.missing, most),
            *_listed("left over:", self.report.left_over, most),
            *(f"  {note}" for note in self.report.notes),
            *self.result,
        ]
        return "\n".join(lines) + "\n"


def _shown(names: Sequence[str]) -> list[str]:
    """One per line; what a terminal might take for a command is spelled out."""
    return [f"      {name if name.isprintable() else repr(name)}" for name in names]


def _listed(title: str, names: Sequence[str], most: int | None) -> list[str]:
    shown = list(names if most is None else names[:most])
    rest = len(names) - len(shown)
    return [
        f"  {title} {len(names) or 'none'}",
        *_shown(shown),
        *([f"      and {rest} more"] if rest else []),
    ]


if __name__ == "__main__":
    main()
