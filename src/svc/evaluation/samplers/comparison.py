"""`svc-eval task=samplers`: what accuracy costs, on a trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.progress import Progress
from torch import nn

from svc.checkpoints.runs import checkpoint_to_convert_with
from svc.errors import UserError
from svc.evaluation.machine import machine
from svc.evaluation.samplers.contenders import (
    Contender,
    evaluations_of,
    fitting,
    planned_steps,
)
from svc.evaluation.samplers.material import pieces
from svc.evaluation.samplers.measurement import (
    ANOTHER_DRAW_EVALUATIONS,
    Bench,
    Reference,
    SamplerRow,
    reference_samplers,
)
from svc.evaluation.samplers.plots import plot_samplers
from svc.evaluation.samplers.tables import Judged, markdown
from svc.evaluation.tables import write_csv
from svc.evaluation.task import Candidate
from svc.inference.devices import choose_device
from svc.inference.loading import LoadedModel, extractors_of, load_model
from svc.models.mel_singer import MelSinger


class SamplerComparison:
    """Lets every sampler that fits a model sing the same from the same noise, with different
    numbers of evaluations, and compares the mels with those of the converged solution.

    Writes `samplers.csv` (a line per sampler and number of evaluations), `samplers.md` and
    `samplers.png`.

    Args:
        candidates: the samplers there are.
        checkpoint: of a model that samples its mel, or the folder of a run.
        evaluations: how often the network is asked at most, in rising order.
        default: by kind of model the sampler that the demand on accuracy and cost is about; it is
            measured with the steps that its settings come with as well.
        predecessor: the sampler that the default must not be behind, with its own steps too; None
            for none.
        samplers: names of those to compare; None for all that fit the model.
        reference_evaluations: of the converged solution.
        recordings: folder to hear; None for held-out phrases of synthetic singers.
        seconds: of audio in all.
        content_model: where the weights of the content encoder lie; None for where they were.
        device: "auto", "cpu", "cuda", "cuda:1".
        seed: of phrases and noise.
        console: where the progress bar goes; by default the standard error.

    Raises:
        UserError: a value is out of range, the checkpoint holds no model that samples, or there is
            no such sampler or device.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        checkpoint: str,
        evaluations: list[int],
        default: Mapping[str, str],
        predecessor: str | None = None,
        samplers: list[str] | None = None,
        reference_evaluations: int = 1000,
        recordings: str | None = None,
        seconds: float = 6.0,
        content_model: str | None = None,
        device: str = "cpu",
        seed: int = 0,
        console: Console | None = None,
    ) -> None:
        if not evaluations or min(evaluations) < 1:
            raise UserError(
                f"task.evaluations={evaluations} must be whole numbers from 1, such as [5,20,100]."
            )
        if reference_evaluations < 3:
            raise UserError(
                f"task.reference_evaluations={reference_evaluations} must be at least 3, and some "
                f"hundred for a converged solution."
            )
        if not 0 < seconds < 3600:
            raise UserError(f"task.seconds={seconds:g} must be above 0 and below 3600.")
        if seed < 0:
            raise UserError(f"seed={seed} must be at least 0.")
        self.budgets = sorted(set(evaluations))
        self.reference_evaluations = reference_evaluations
        self.recordings = recordings
        self.seconds = seconds
        self.content_model = content_model
        self.seed = seed
        self.console = console or Console(stderr=True)
        self.device = choose_device(device)
        self._loaded = load_model(checkpoint_to_convert_with(Path(checkpoint)))
        self._network = _sampling(self._loaded).to(self.device).eval().requires_grad_(False)
        self._contenders = fitting(candidates, samplers, self._network)
        self._judged = (default.get(self._network.path), predecessor)

    def run(self, folder: Path) -> str:
        """Measure, write the results into `folder`, and return the tables.

        Raises:
            UserError: there is nothing to hear, or the converged solution is not finite.
        """
        spec, facts = self._loaded.facts.audio, self._loaded.facts
        material = pieces(
            extractors_of(self._loaded, self.device, self.content_model),
            spec,
            facts.speakers,
            folder=self.recordings,
            seconds=self.seconds,
            seed=self.seed,
            device=self.device,
        )
        plan = [(c, steps) for c in self._contenders for steps in self._steps(c)]
        with Progress(console=self.console) as bar:
            task = bar.add_task("", total=len(material) * self._cost(plan))
            bench = Bench(
                self._network,
                material,
                spec.sample_rate_hz / spec.hop_samples,
                self.seed,
                lambda name: bar.update(task, advance=1, description=name),
            )
            reference = bench.reference(self.reference_evaluations)
            rows = [bench.row(contender, steps, reference) for contender, steps in plan]
        write_csv(folder / "samplers.csv", [asdict(row) for row in rows])
        plot_samplers(folder / "samplers.png", rows, reference)
        return self._told(folder, rows, reference, bench.audio_s)

    def _steps(self, contender: Contender) -> list[int]:
        """Numbers of steps to measure a sampler with."""
        steps = planned_steps(contender, self._network.schedule, self.budgets)
        own = [contender.own_steps] if contender.name in self._judged else []
        return sorted({*steps, *own})

    def _cost(self, plan: Sequence[tuple[Contender, int]]) -> int:
        """Evaluations per piece."""
        schedule, most = self._network.schedule, self.reference_evaluations
        samplers = [contender.sampler(steps) for contender, steps in plan]
        samplers += reference_samplers(self._network, most)
        samplers += reference_samplers(self._network, min(most, ANOTHER_DRAW_EVALUATIONS))[:1]
        return sum(evaluations_of(sampler, schedule) for sampler in samplers)

    def _told(
        self, folder: Path, rows: Sequence[SamplerRow], reference: Reference, audio_s: float
    ) -> str:
        own_steps = {contender.name: contender.own_steps for contender in self._contenders}
        by_name = {(row.sampler, row.steps): row for row in rows}
        default, predecessor = (
            None if name is None else by_name.get((name, own_steps.get(name, 0)))
            for name in self._judged
        )
        what = "recordings" if self.recordings else "held-out phrases of synthetic singers"
        circumstances = (
            f"{type(self._network).__name__} of {self._parameters_million():.2f} million "
            f"parameters (without its vocoder); {audio_s:.1f} s of {what}, seed {self.seed}. On "
            f"{self.device.type}. {machine()}"
        )
        judged = Judged(default, predecessor)
        text = markdown(rows, reference, judged, self.budgets, circumstances)
        (folder / "samplers.md").write_text(text, encoding="utf-8")
        return f"{text}\nAll numbers: {folder / 'samplers.csv'}; as a plot: samplers.png"

    def _parameters_million(self) -> float:
        renderer = {id(p) for p in cast(nn.Module, self._network.vocoder).parameters()}
        own = (p.numel() for p in self._network.parameters() if id(p) not in renderer)
        return sum(own) / 1e6


def _sampling(loaded: LoadedModel) -> MelSinger:
    if not isinstance(loaded.network, MelSinger):
        raise UserError(
            f"{loaded.path} is a {type(loaded.network).__name__}, which samples nothing. Give "
            f"task.checkpoint=FILE of a model that samples its mel (arch=diffsvc, arch=flowsvc)."
        )
    return loaded.network
