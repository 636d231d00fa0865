"""Content features without what a piece has in common from its first frame to its last."""

from torch import Tensor


def standardised(features: Tensor, sounding: Tensor, spread_floor: float) -> Tensor:
    """Each channel with mean 0 and a variance below 1 over the frames that sound.

    Who sings, in which room and into which microphone is partly in the mean and the spread of the
    features over an utterance (van Niekerk et al. 2021, "Analyzing speaker information in
    self-supervised models to improve zero-resource speech processing").

    Args:
        features: [C, N].
        sounding: [N] bool, at least one of them true; pauses then do not move the statistics.
        spread_floor: added to the variance as its square, in units of the features.
    """
    heard = features[:, sounding]
    mean = heard.mean(dim=1, keepdim=True)
    variance = heard.var(dim=1, correction=0, keepdim=True)
    return (features - mean) / (variance + spread_floor**2).sqrt()
