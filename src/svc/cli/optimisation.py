"""Optimiser and schedule tried on a single weight, so that what they refuse is known early."""

from collections.abc import Mapping
from typing import Any

from svc.config.instantiate import build
from svc.errors import UserError


def require_usable_optimisation(config: Mapping[str, Any]) -> None:
    """Refuse settings that the optimiser or the schedule refuses once it gets its weights, which is
    after the dataset has been prepared.

    Args:
        config: plain and checked.

    Raises:
        UserError: names the group, its settings and what was said of them.
    """
    import torch

    weight = torch.nn.Parameter(torch.zeros(1, 1))
    optimizer = _made("optim", config["optim"], [weight])
    if config["scheduler"]:
        _made("scheduler", config["scheduler"], optimizer)


def _made(group: str, node: Mapping[str, Any], subject: Any) -> Any:
    try:
        return build(node)(subject)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{group}.{k}={v}" for k, v in node.items() if not k.startswith("_"))
        raise UserError(
            f"{group}: {node['_target_']} cannot be made with {given}: {error}"
        ) from error
