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
    for megabytes in (40, 48, 64):  # freed at once
        torch.ones(megabytes * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# At first a hole may just be too small for its own size again, which asks for alignment too.
print(min(faults() for _ in range(8)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_not_mapped_afresh() -> None:
    faults = {}
    for keep in (False, True):
        command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
        faults[keep] = int(subprocess.run(command, check=True, capture_output=True).stdout)
    # Pages may be of 4 KiB (38 912 of them) or, transparently, of 2 MiB (76).
    assert faults[False] >= 76
    assert faults[True] < faults[False] / 4
