"""`svc-doctor`: what this machine and a dataset can do, and what is wrong with them."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from svc.cli.app import run_command


def main() -> NoReturn:
    """Entry point of the console script."""
    # Hydra takes settings only; this is the flag that people type.
    sys.argv = ["json=true" if argument == "--json" else argument for argument in sys.argv]
    run_command("svc-doctor", "doctor", doctor)


def doctor(config: Any) -> None:
    """Examine the dataset that the composed configuration names, or else this machine."""
    from omegaconf import OmegaConf

    dataset = OmegaConf.to_container(config.dataset, resolve=False)
    if isinstance(dataset, dict) and dataset.get("path") in (None, "", "???"):
        _examine_machine(config.paths.output_dir, config.json)
        return
    from svc.cli.parts import plain_config

    _examine_dataset(plain_config(config, run_time={}))


def _examine_machine(output_dir: str, as_json: bool) -> None:
    from svc.cli.trainers import trainer_settings, working_trainers
    from svc.doctor.machine import inspect_machine, recommend
    from svc.doctor.report import machine_lines
    from svc.evaluation.report import metrics_text
    from svc.training.devices import choose_trainer

    machine = inspect_machine(Path(output_dir))
    trainer = choose_trainer()
    precision, batch_size = trainer_settings(trainer)
    advice = recommend(machine, trainer, batch_size, precision, working_trainers())
    facts = {"machine": asdict(machine), "recommendation": asdict(advice)}
    if as_json:
        print(metrics_text(facts))
    else:
        print("\n".join(machine_lines(**facts)))


def _examine_dataset(plain: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from svc.config.instantiate import build
    from svc.doctor.recordings import examine
    from svc.doctor.report import as_dict, summary, write_page
    from svc.doctor.verdict import diagnose
    from svc.evaluation.report import metrics_text

    source = build(plain["dataset"])
    recordings = source.recordings()
    folder = Path(plain["output"] or Path(plain["paths"]["output_dir"]) / "doctor" / source.name)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("examining", total=len(recordings))
        examination = examine(
            source.name,
            recordings,
            plain["workers"],
            progress=lambda done, _: bar.update(task, completed=done),
        )
    diagnosis = diagnose(examination)
    page = write_page(folder.expanduser(), diagnosis)
    if plain["json"]:
        print(metrics_text(as_dict(diagnosis)))
        return
    console = Console(highlight=False)
    console.print(summary(diagnosis))
    console.print(f"The page with plots and players: {page}", soft_wrap=True)


if __name__ == "__main__":
    main()
