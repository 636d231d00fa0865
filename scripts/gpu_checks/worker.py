"""One process's share of the check: prints a line of JSON for every finished measurement.

    python -m gpu_checks.worker rates DEVICE SIZE
    python -m gpu_checks.worker training DEVICE SIZE ARCH CUDNN BATCH MODE[,MODE...] PRECISION
    python -m gpu_checks.worker conversion DEVICE SIZE ARCH PRECISION[,PRECISION...]

A process that dies or hangs takes its own measurements with it and no others. Ways to compile
share one, because what cuDNN has measured once holds for all of them.
"""

import json
import sys
import traceback
from dataclasses import replace
from typing import Any

PROFILED = ("off", "default")
"""Compile modes whose kernels are told, in bf16, or in fp16 on what has no bf16."""


def main() -> None:
    """See the module."""
    kind, device_name, size_name, *rest = sys.argv[1:]
    import torch

    from gpu_checks.cases import SIZES
    from svc.memory import keep_freed_memory

    keep_freed_memory()
    device, size = torch.device(device_name), SIZES[size_name]
    if kind == "rates":
        from gpu_checks.rates import measure_rates

        _tell(measure_rates(device, size_name == "full"))
    elif kind == "training":
        _train(device, size, *rest)
    else:
        from gpu_checks.conversion import run_conversions

        arch, precisions = rest
        for result in run_conversions(arch, size, device, tuple(precisions.split(","))):
            _tell(result)


def _train(
    device: Any, size: Any, arch: str, cudnn_benchmark: str, batch: str, modes: str, precision: str
) -> None:
    import torch

    from gpu_checks.cases import Case
    from svc.device_memory import release

    size = replace(size, batch=int(batch))
    for mode in modes.split(","):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        _tell(_trained(Case(arch, precision, mode), size, device, cudnn_benchmark == "on"))
        release(device)


def _trained(case: Any, size: Any, device: Any, cudnn_benchmark: bool) -> dict[str, Any]:
    """Figures, or why there are none."""
    from gpu_checks.cases import problem_of
    from gpu_checks.training import run_case
    from svc.training.out_of_memory import is_out_of_memory, told

    profiled = "fp16" if problem_of("bf16", device.type) else "bf16"
    try:
        return run_case(
            case,
            size,
            device,
            profile=case.precision == profiled and case.compile in PROFILED,
            count_flop=(case.precision, case.compile) == ("fp32", "off"),
            cudnn_benchmark=cudnn_benchmark,
        )
    except Exception as error:
        if is_out_of_memory(error):
            smaller = (
                f"--batch {size.batch // 2} takes less" if size.batch > 1 else "it is too small"
            )
            reason = f"out of memory at batch {size.batch}, {smaller} ({told(error)})"[:500]
            return {**case.as_dict(), "status": "not run", "reason": reason}
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"[:500]
        return {**case.as_dict(), "status": "failed", "reason": reason}


def _tell(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
