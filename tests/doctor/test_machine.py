"""What is said about a machine."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from svc.doctor.machine import Device, fitting_batch_size, inspect_machine, recommend
from svc.doctor.report import machine_lines

CPU = Device("cpu", "a processor", 16.0, ("fp32",))


def test_this_machine_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVC_CHECKPOINT_DIR", str(tmp_path))
    (tmp_path / "rmvpe.pt").touch()
    machine = inspect_machine(tmp_path / "not" / "there")
    assert machine.disk == str(tmp_path)
    assert machine.free_disk_gib > 0
    assert machine.cores >= 1
    assert machine.devices[0].name == "cpu"
    assert machine.versions["torch"]
    assert "gradio" in machine.versions
    assert {item.name for item in machine.weights if item.present} == {"rmvpe"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells what is available")
def test_free_memory_is_what_a_container_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svc.memory._left_by_control_groups", lambda: [2**28])
    machine = inspect_machine(tmp_path)
    assert machine.free_memory_gib == pytest.approx(0.25, abs=0.06)
    assert machine.memory_gib is not None
    assert machine.memory_gib > 0.25


def test_without_a_gpu_training_elsewhere_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVC_CHECKPOINT_DIR", str(tmp_path))
    machine = replace(
        inspect_machine(tmp_path), devices=(CPU,), free_memory_gib=2.0, free_disk_gib=3.0
    )
    advice = recommend(machine, "cpu", 4, "32-true", ["cpu"])
    assert (advice.trainer, advice.batch_size) == ("cpu", 4)
    lines = machine_lines(asdict(machine), asdict(advice))
    assert "Train with: trainer=cpu data.batch_size=4 (32-true)" in lines
    assert "  cpu: a processor, 16.0 GiB, computes fp32" in lines
    assert any("svc-download rmvpe" in line for line in lines)
    gpu, memory, disk = advice.remarks
    assert "train elsewhere" in gpu
    assert "2.0 GiB of memory" in memory
    assert "3.0 GiB are free" in disk


@pytest.mark.parametrize(
    ("memory_gib", "batch_size"), [(139.0, 32), (14.6, 32), (11.0, 16), (7.7, 16), (4.0, 8)]
)
def test_the_batch_size_fits_the_gpu(memory_gib: float, batch_size: int, tmp_path: Path) -> None:
    gpus = tuple(
        Device(f"cuda:{i}", "a GPU", m, ("fp16",)) for i, m in enumerate((139, memory_gib))
    )
    machine = replace(
        inspect_machine(tmp_path), devices=(CPU, *gpus), free_memory_gib=50.0, free_disk_gib=500.0
    )
    advice = recommend(machine, "ddp_fp16", 32, "16-mixed", ["cpu", "ddp_fp16"])
    assert advice.batch_size == batch_size
    assert bool(advice.remarks) == (batch_size < 32)
    assert fitting_batch_size(32, 0.1) == 1
