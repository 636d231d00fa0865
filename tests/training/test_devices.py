from types import SimpleNamespace

import pytest
import torch

from svc.training.devices import choose_trainer, supports


def pretend(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], memory_gib: float = 16.0
) -> None:
    cuda = torch.cuda
    properties = SimpleNamespace(total_memory=memory_gib * 2**30)
    monkeypatch.setattr(cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(cuda, "get_device_capability", lambda index=0: capabilities[index])
    monkeypatch.setattr(cuda, "get_device_name", lambda index=0: f"device {index}")
    monkeypatch.setattr(cuda, "get_arch_list", lambda: ["sm_70", "sm_75", "sm_80", "sm_90"])


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(7, 0)], "v100_fp16"),
        ([(7, 5)], "t4_fp16"),
        ([(8, 0)], "a100_bf16"),
        ([(9, 0)], "a100_bf16"),
        ([(8, 0), (8, 6)], "ddp_bf16"),
        ([(8, 0), (7, 5)], "ddp_fp16"),
    ],
)
def test_choice_by_capability(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], expected: str
) -> None:
    pretend(monkeypatch, capabilities)
    assert choose_trainer() == expected


@pytest.mark.parametrize(("memory_gib", "expected"), [(79.1, "h100_bf16"), (23.0, "a100_bf16")])
def test_large_batches_want_memory(
    monkeypatch: pytest.MonkeyPatch, memory_gib: float, expected: str
) -> None:
    pretend(monkeypatch, [(9, 0)], memory_gib)
    assert choose_trainer() == expected


def test_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [])
    assert "no Apple GPU" in str(supports("mps", 1, "32-true"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_trainer() == "mps"
    assert supports("mps", 1, "32-true") is None
    assert supports("mps", -1, "32-true") is None
    assert "trainer.precision=32-true, not bf16-mixed" in str(supports("mps", 1, "bf16-mixed"))
    assert "2 Apple GPUs" in str(supports("mps", 2, "32-true"))


@pytest.mark.parametrize(("bf16", "expected"), [(True, "cpu_bf16"), (False, "cpu")])
@pytest.mark.parametrize("capabilities", [[], [(6, 1)]])
def test_choice_without_a_suitable_gpu(
    monkeypatch: pytest.MonkeyPatch,
    capabilities: list[tuple[int, int]],
    bf16: bool,
    expected: str,
) -> None:
    pretend(monkeypatch, capabilities)
    monkeypatch.setattr("svc.training.devices.cpu_has_bf16_units", lambda: bf16)
    assert choose_trainer() == expected


def test_without_cuda_only_the_cpu_trainers_work(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [])
    assert supports("cpu", 1, "32-true") is None
    assert supports("cpu", 1, "bf16-mixed") is None
    assert supports("auto", "auto", "32-true") is None
    assert "fp16 is for GPUs" in str(supports("cpu", 1, "16-mixed"))
    assert "no CUDA device" in str(supports("gpu", 1, "16-mixed"))


def test_gpus_are_checked_for_number_and_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [(8, 0), (7, 5)])
    assert supports("gpu", 1, "bf16-mixed") is None
    assert supports("gpu", 2, "16-mixed") is None
    assert "device 1 has 7.5" in str(supports("gpu", 2, "bf16-mixed"))
    assert "wants 3 CUDA devices and this machine has 2" in str(supports("gpu", 3, "16-mixed"))


@pytest.mark.parametrize(
    ("built_for", "capability", "is_served"),
    [
        (["sm_75", "sm_80"], (7, 0), False),
        (["sm_75", "sm_80"], (7, 5), True),
        (["sm_75", "sm_80"], (8, 9), True),
        (["sm_86"], (8, 0), False),
        (["sm_80", "compute_90"], (12, 0), True),
        (["sm_80", "compute_90"], (9, 0), True),
        (["sm_80", "sm_90a"], (9, 0), True),
        (["sm_80", "sm_90a"], (12, 0), False),
        (["gfx90a", "gfx1100"], (9, 0), True),
        ([], (8, 0), True),
    ],
)
def test_what_this_pytorch_was_not_built_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    built_for: list[str],
    capability: tuple[int, int],
    is_served: bool,
) -> None:
    pretend(monkeypatch, [capability])
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
    problem = supports("gpu", 1, "32-true")
    if is_served:
        assert problem is None
    else:
        assert f"capability {capability[0]}.{capability[1]}" in str(problem)
        assert "install a build of PyTorch" in str(problem)


def test_a_number_of_devices_that_is_none_is_left_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, [(8, 0)])
    assert supports("gpu", "two", "32-true") is None
