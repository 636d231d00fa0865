"""What the commands set about the process's memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from svc.device_memory import budget_bytes, free_bytes, peak_bytes, restart_peak
from svc.memory import _left_by_control_groups, resident_bytes

SCRIPT = """
import resource, torch
from svc.memory import keep_freed_memory

if {keep}:
    assert keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for megabytes in (40, 48, 64):  # freed at once
        torch.ones(megabytes * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# At first a hole may just be too small for its own size again, which asks for alignment too.
print(min(faults() for _ in range(8)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_not_mapped_afresh() -> None:
    faults = {}
    for keep in (False, True):
        command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
        faults[keep] = int(subprocess.run(command, check=True, capture_output=True).stdout)
    # Pages may be of 4 KiB (38 912 of them) or, transparently, of 2 MiB (76).
    assert faults[False] >= 76
    assert faults[True] < faults[False] / 4


def write_group(folder: Path, version: int, limit: int | str, usage: int, inactive: int) -> None:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {inactive}\nfile 9\n")


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_limit_what_is_available(tmp_path: Path, version: int) -> None:
    root = tmp_path / "root"
    hierarchy = root / "memory" if version == 1 else root
    line = "4:memory:/job/step" if version == 1 else "0::/job/step"
    groups = tmp_path / "cgroup"
    groups.write_text(f"7:blkio:/\n{line}\n")
    write_group(hierarchy / "job" / "step", version, 2**60 if version == 1 else "max", 50, 5)
    write_group(hierarchy / "job", version, 1000, 700, 100)
    left = _left_by_control_groups(groups, root)
    assert min(left) == 400
    write_group(hierarchy / "job", version, 1000, 1200, 100)
    assert min(_left_by_control_groups(groups, root)) == 0


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("0::/not/to/be/seen/from/here\n")
    write_group(tmp_path / "root", 2, 1000, 300, 0)
    assert _left_by_control_groups(groups, tmp_path / "root") == [700]
    assert _left_by_control_groups(tmp_path / "none", tmp_path / "root") == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells what is available")
def test_a_device_tells_what_it_has() -> None:
    cpu = torch.device("cpu")
    free = free_bytes(cpu)
    assert free is not None
    assert free > 0
    alone, shared = (budget_bytes(cpu, sharers) for sharers in (1, 4))
    assert alone is not None
    assert shared is not None
    assert resident_bytes() > 50 * 2**20
    assert shared < alone


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks can be restarted")
def test_a_peak_is_that_since_it_was_restarted() -> None:
    cpu = torch.device("cpu")
    torch.ones(100, 2**18)
    restart_peak(cpu)
    before = peak_bytes(cpu)
    torch.ones(60, 2**18)
    after = peak_bytes(cpu)
    assert after - before == pytest.approx(60 * 2**20, rel=0.1)
    assert free_bytes(torch.device("meta")) is None
