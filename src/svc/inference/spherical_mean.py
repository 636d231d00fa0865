"""Between voices on the sphere: mixing embeddings without losing their length."""

import torch
from torch import Tensor

_SMALL = 1e-6
_CONVERGED, _GOOD_ENOUGH = 1e-9, 1e-6
"""Length of a step in radians, at which the iteration ends and below which its result is used."""
_MAX_ITERATIONS = 500


def spherical_mean_weights(shares: Tensor, table: Tensor) -> Tensor:
    """Weights of a linear combination that lies where a spherical mixture of the rows would.

    Trained embeddings of different voices are nearly orthogonal, so that the linear mixture of two
    in equal parts is 0.71 as long as either: the model then hears a weaker speaker than it ever
    did in training. The spherical mixture keeps to the directions between the voices, and its
    length is the mean of their lengths. With e_k the rows, n_k their lengths, p_k = e_k / n_k and
    shares s_k that add up to 1:

        direction q: the point of the unit sphere with the least Σ s_k angle(q, p_k)²
        mixture: q Σ s_k n_k

    For two voices that is the arc between them (Shoemake 1985, "Animating Rotation with Quaternion
    Curves", section 3.3), Ω the angle between them and t the share of the second:

        q = sin((1 - t) Ω) / sin Ω p_1 + sin(t Ω) / sin Ω p_2

    For more it is the spherical weighted average, which does not depend on their order (Buss and
    Fillmore 2001, "Spherical Averages and Applications to Spherical Splines and Interpolation",
    algorithm A1). It lies in the span of the rows, and the weights say where.

    Where there is no such direction, because a row is zero, two point in opposite directions or
    the average is not determined, the shares come back as they are: the linear mixture. That is
    decided for all mixtures together, so that a voice that moves never jumps.

    Args:
        shares: [N, S] float, at least 0, each row adding up to 1.
        table: [S, C] float, the embeddings.

    Returns:
        [N, S] float64.
    """
    shares, table = shares.double(), table.double()
    used = (shares > 0).any(0)
    weights = torch.zeros_like(shares)
    weights[:, used] = _mean_of_used(shares[:, used], table[used])
    return weights


def _mean_of_used(shares: Tensor, table: Tensor) -> Tensor:
    """As above, for voices that each have a share somewhere: [N, K], [K, C] -> [N, K]."""
    lengths = table.norm(dim=1)
    if not len(shares) or float(lengths.min()) <= _SMALL * float(lengths.max()):
        return shares
    unit = table / lengths[:, None]
    cosines = unit @ unit.T
    if float(cosines.min()) < -1 + _SMALL:
        return shares

    def length(combination: Tensor) -> Tensor:  # [N, K] -> [N, 1]
        squared: Tensor = ((combination @ cosines) * combination).sum(1, keepdim=True)
        return squared.clamp(min=0).sqrt()

    if float(length(shares).min()) < _SMALL:
        return shares
    mean = shares / length(shares)
    for _ in range(_MAX_ITERATIONS):
        towards = (mean @ cosines).clamp(-1, 1)
        pull = shares / torch.sinc(towards.acos() / torch.pi)  # s_k angle / sin(angle)
        step = pull - (pull * towards).sum(1, keepdim=True) * mean
        angle = length(step)
        mean = mean * angle.cos() + step * torch.sinc(angle / torch.pi)
        mean = mean / length(mean)
        if float(angle.max()) < _CONVERGED:
            break
    if not float(angle.max()) < _GOOD_ENOUGH:
        return shares
    mixed: Tensor = mean * (shares @ lengths)[:, None] / lengths
    return mixed
