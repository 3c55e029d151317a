"""Freed memory stays with the process, where the C library can be told to keep it."""

import os
import platform
import subprocess
import sys

import pytest

CALLS = """
import resource, sys
import torch
from itscale.allocator import keep_freed_memory

torch.set_num_threads(1)
done = keep_freed_memory() if sys.argv[1] == "kept" else None


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def work():
    parts = [torch.ones(2 << 20) for _ in range(3)]  # 8 MB each
    return sum(float(p[0]) for p in parts)


for _ in range(5):  # the first ones touch what the process holds from then on
    work()
before = faults()
for _ in range(10):
    work()
print(done, faults() - before)
"""


def count(mode):
    # the threshold that a process begins with, for good: else it depends on the layout of the heap
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
    command = [sys.executable, "-c", CALLS, mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    was_set, faults = done.stdout.split()
    return was_set, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_memory_that_was_freed_is_not_asked_for_again():
    was_set, faults = count("kept")
    assert was_set == "True"
    assert faults < count("returned")[1] / 10


def test_elsewhere_nothing_is_done(monkeypatch):
    from itscale import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
