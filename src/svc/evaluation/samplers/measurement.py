"""How far a sampler's mels lie from those of the converged solution."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svc.diffusion.samplers.base import Sampler
from svc.diffusion.samplers.dpm_solver_pp import DpmSolverPp
from svc.diffusion.samplers.heun import Heun
from svc.diffusion.samplers.unipc import UniPc
from svc.errors import UserError
from svc.evaluation.samplers.contenders import Contender, evaluations_of
from svc.evaluation.samplers.material import Piece
from svc.models.mel_singer import MelSinger

ANOTHER_DRAW_EVALUATIONS = 100
"""Of the mels from other noise: they are only there to be far away."""

Advance = Callable[[str], None]
"""Told, after every evaluation of the network, whose it was."""


@dataclass(frozen=True)
class SamplerRow:
    """A sampler with a number of steps; NaN where its mels were not finite."""

    sampler: str
    steps: int
    evaluations: int
    """Of the network, as they were made."""
    random: bool
    """Whether the steps drew fresh noise. Then `distance` is to one of many mels that the model
    may sing, and no error."""
    distance_percent: float
    """Mean absolute difference from the converged mels, in percent of their range."""
    distance_nepers: float
    """The same in natural-log units."""
    distribution_percent: float
    """Mean absolute difference of the values of each mel bin, sorted over the frames on both sides
    (the Wasserstein-1 distance of each bin), in percent of the range: blind to which of many mels
    it was."""
    seconds_per_second: float
    """Wall time of sampling per second of audio."""


@dataclass(frozen=True)
class Reference:
    """The converged solution, and how well it is known."""

    mels: list[Tensor]
    """[M, N] natural log, on the CPU, one per piece."""
    solver: str
    other_solver: str
    gap_percent: float
    """Distance of the two solvers' mels: errors below it cannot be told apart."""
    range_nepers: float
    """Largest value of the mels less the smallest."""
    draw_percent: float
    """Distance to mels from other noise: what no relation at all would give."""
    draw_distribution_percent: float
    """What two draws of the same model differ by in `distribution_percent`."""


def reference_samplers(network: MelSinger, evaluations: int) -> tuple[Sampler, Sampler]:
    """Two deterministic solvers of high order whose results should coincide; the first is taken for
    the truth. Both keep to the number of evaluations; for a flow the second has half as many."""
    if network.path == "diffusion":
        return UniPc(steps=evaluations), DpmSolverPp(steps=evaluations)
    steps = max(2, (evaluations + 1) // 2)
    return Heun(steps=steps), Heun(steps=steps // 2)


class Bench:
    """Samples the mels of some pieces, always from the same noise, and compares them.

    Args:
        network: the model, on its device, not training.
        pieces: on the same device.
        frames_per_second: of the mels.
        seed: of noise that is drawn in steps, and of another draw of the initial noise.
        advance: told of every evaluation.
    """

    def __init__(
        self,
        network: MelSinger,
        pieces: Sequence[Piece],
        frames_per_second: float,
        seed: int,
        advance: Advance,
    ) -> None:
        self.network = network
        self.pieces = pieces
        self.seed = seed
        self.audio_s = sum(piece.frames for piece in pieces) / frames_per_second
        self._advance = advance

    def reference(self, evaluations: int) -> Reference:
        """The converged solution.

        Raises:
            UserError: sampling gives values that are not finite.
        """
        solver, other = reference_samplers(self.network, evaluations)
        mels, _ = self.mels("reference", solver)
        others, _ = self.mels("reference", other)
        few = reference_samplers(self.network, min(evaluations, ANOTHER_DRAW_EVALUATIONS))[0]
        draw, _ = self.mels("another draw", few, self._other_noise())
        whole = torch.cat(mels, dim=1)
        spread = float(whole.max() - whole.min())
        return Reference(
            mels,
            _described(solver),
            _described(other),
            gap_percent=100 * distance(others, mels) / spread,
            range_nepers=spread,
            draw_percent=100 * distance(draw, mels) / spread,
            draw_distribution_percent=100 * distribution_distance(draw, mels) / spread,
        )

    def row(self, contender: Contender, steps: int, reference: Reference) -> SamplerRow:
        """Measure a sampler with so many steps."""
        sampler = contender.sampler(steps)
        evaluations = evaluations_of(sampler, self.network.schedule)
        away = spread = seconds = math.nan
        try:
            mels, seconds = self.mels(contender.name, sampler)
        except UserError:  # not finite: with few steps a high order may overshoot without bound
            pass
        else:
            away = distance(mels, reference.mels)
            spread = distribution_distance(mels, reference.mels)
        return SamplerRow(
            contender.name,
            steps,
            evaluations,
            contender.random,
            distance_percent=100 * away / reference.range_nepers,
            distance_nepers=away,
            distribution_percent=100 * spread / reference.range_nepers,
            seconds_per_second=seconds / self.audio_s,
        )

    @torch.inference_mode()
    def mels(
        self, name: str, sampler: Sampler, noises: Sequence[Tensor] | None = None
    ) -> tuple[list[Tensor], float]:
        """The mels [M, N] of all pieces on the CPU, and how many seconds that took.

        Args:
            name: whose evaluations these are.
            sampler: of the model's kind.
            noises: to begin with, in place of that of the pieces.

        Raises:
            UserError: sampling gives values that are not finite.
        """
        rng = torch.Generator().manual_seed(self.seed)
        found = []
        began = time.perf_counter()
        for index, piece in enumerate(self.pieces):
            mel = self.network.predict_mel(
                piece.conditioning,
                sampler,
                noise=piece.noise if noises is None else noises[index],
                rng=rng,
                progress=lambda done, of: self._advance(name),
            )
            found.append(mel[0].cpu())
        return found, time.perf_counter() - began

    def _other_noise(self) -> list[Tensor]:
        # Pieces were given the numbers of the seed itself.
        rng = torch.Generator().manual_seed(self.seed + 1)
        shapes = [piece.noise for piece in self.pieces]
        return [torch.randn(like.shape, generator=rng).to(like.device) for like in shapes]


def distance(mels: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Mean absolute difference of mels [M, N] of equal shapes over everything."""
    return float((torch.cat([*mels], dim=1) - torch.cat([*others], dim=1)).abs().mean())


def distribution_distance(mels: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Mean over mel bins of the Wasserstein-1 distance of their values over all frames; mels
    [M, N], as many frames on both sides."""
    one, other = (torch.cat([*side], dim=1).sort(dim=1).values for side in (mels, others))
    return float((one - other).abs().mean())


def _described(sampler: Sampler) -> str:
    return f"{type(sampler).__name__} with {len(sampler.times)} evaluations"
