"""`svc-eval`: measure a part of the toolkit, such as its pitch trackers."""

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from svc.cli.app import run_command


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command("svc-eval", "eval", evaluate)


def evaluate(config: Any) -> None:
    """Run the task that the composed configuration names, and print what came out."""
    from svc.cli.parts import plain_config
    from svc.config.instantiate import build
    from svc.evaluation.task import Candidate, EvaluationTask
    from svc.memory import keep_freed_memory

    keep_freed_memory()
    plain = plain_config(config, run_time={"task": ("candidates",)})
    settings = dict(plain["task"])
    # What a task compares is built by the task, one by one: some may lack weights or a package.
    nodes = settings.pop("candidates", {})
    candidates = [Candidate(name, partial(build, node)) for name, node in nodes.items()]
    task: EvaluationTask = build(settings, candidates=candidates)
    folder = Path(plain["paths"]["run_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    print(task.run(folder))


if __name__ == "__main__":
    main()
