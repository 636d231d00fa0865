"""`svc-download`: pretrained weights by name, into the checkpoints folder."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from svc.cli.app import run_command
from svc.errors import UserError, UserErrors

_TAKES_A_VALUE = frozenset(
    {"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--cfg", "-c"}
    | {"--package", "-p", "--info", "-i", "--experimental-rerun"}
)
"""Hydra's options whose next word is not a name of weights."""


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.argv = [sys.argv[0], *gather_names(sys.argv[1:])]
    run_command("svc-download", "download", download)


def gather_names(arguments: Sequence[str]) -> list[str]:
    """`hubert_soft rmvpe` -> `name=[hubert_soft,rmvpe]`, and `name=a,b` likewise.

    A comma would be a sweep to Hydra, and a bare word an error.
    """
    names: list[str] = []
    others: list[str] = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        bare = "=" not in argument and not argument.startswith(("-", "+", "~"))
        if bare and previous not in _TAKES_A_VALUE:
            names += argument.split(",")
        elif argument.startswith("name=") and "[" not in argument:
            names += argument.removeprefix("name=").split(",")
        else:
            others.append(argument)
    names = [f"'{name}'" for name in names if name and name != "null"]
    return [*others, f"name=[{','.join(names)}]"] if names else others


def download(config: Any) -> None:
    """Fetch what the composed configuration names, or list what there is."""
    from svc.cli.parts import plain_config

    plain = plain_config(config, run_time={})
    folder = Path(plain["checkpoint_dir"] or "checkpoints").expanduser()
    given = plain["name"]
    names = [given] if isinstance(given, str) else list(given or [])
    if not names or names == ["list"]:
        print(listing(folder))
        return
    fetch_all(
        names,
        folder,
        accept_licence=plain["accept_licence"],
        offline=plain["offline"],
    )


def fetch_all(
    names: Sequence[str], folder: Path, *, accept_licence: bool = False, offline: bool = False
) -> None:
    """Fetch and verify weights, saying under which licence they are.

    What can be known beforehand is checked for all before anything is fetched; one that cannot be
    had does not keep the others from it.

    Raises:
        UserErrors: an unknown name, a licence that is not accepted, or a file that cannot be had.
    """
    from svc.checkpoints import registry

    known, faults = [], []
    for name in names:
        try:
            known.append(registry.entry(name))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join([*faults, "", listing(folder)]))
    if faults := [
        f"{weights.name} is under {weights.licence}: {weights.licence_note} If you accept that, "
        f"add accept_licence=true."
        for weights in known
        if weights.must_accept and not accept_licence
    ]:
        raise UserErrors("A licence that restricts use has to be accepted:", faults)
    for weights in known:
        try:
            _fetch_one(weights, folder, offline)
        except UserError as error:
            faults.append(str(error))
    if len(faults) == 1:
        raise UserError(faults[0])
    if faults:
        indented = [fault.replace("\n", "\n    ") for fault in faults]
        raise UserErrors("Not all weights could be had:", indented)


def _fetch_one(weights: Any, folder: Path, offline: bool) -> None:
    from svc.checkpoints.pinning import require_intact
    from svc.checkpoints.registry import shown_size
    from svc.checkpoints.weights import is_offline, missing_message, present_file

    path = present_file(weights, folder)
    if path is not None and path.is_file():
        require_intact(weights, path)
        print(f"{weights.name}: {path} is there and intact (licence {weights.licence}).")
        return
    if not weights.addresses:
        raise UserError(
            f"{weights.name} is not fetched by svc-download, but by its own library: it serves "
            f"{weights.used_by}. Source: {weights.source}"
        )
    advice = missing_message(weights, folder)
    if offline or is_offline():
        raise UserError(
            f"{weights.name} is not in {folder}, and nothing is fetched while offline "
            f"(offline=true or SVC_OFFLINE=1). {advice}"
        )
    from svc.checkpoints.download import fetch

    print(
        f"{weights.name} ({shown_size(weights.size_bytes)}), licence {weights.licence}: "
        f"{weights.licence_note}"
    )
    try:
        path = fetch(weights, folder)
    except UserError as error:
        raise UserError(f"{error}\n{advice}") from error
    print(f"{weights.name}: {path}")


def listing(folder: Path) -> str:
    """Every entry of the registry in a few lines: size, licence, use, and whether it is here."""
    from svc.checkpoints import registry
    from svc.checkpoints.weights import present_file

    lines = ["Weights that svc-download NAME fetches:"]
    for weights in registry.entries().values():
        present = present_file(weights, folder) is not None
        restricted = ", to be accepted: accept_licence=true" if weights.must_accept else ""
        lines += [
            f"  {weights.name:<16} {registry.shown_size(weights.size_bytes)}, "
            f"licence {weights.licence}{restricted}",
            f"  {'':<16} for {weights.used_by}",
            f"  {'':<16} {'here: ' if present else 'not in '}"
            f"{folder / weights.file if present else folder}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
