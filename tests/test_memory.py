"""What the commands set about the process's memory."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from svc.memory import keep_freed_memory

if {keep}:
    assert keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_not_mapped_afresh() -> None:
    faults = {}
    for keep in (False, True):
        command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
        faults[keep] = int(subprocess.run(command, check=True, capture_output=True).stdout)
    # Pages may be of 4 KiB (16 384 of them) or, transparently, of 2 MiB (32).
    assert faults[False] >= 32
    assert faults[True] < faults[False] / 4
