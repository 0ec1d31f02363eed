"""Peak memory: what is alive, not what the allocator keeps."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from admin_fairseq.benchmarks import peaks

peaks.return_freed_memory()
torch.ones(2**22)  # having freed 16 MiB, glibc would keep what is smaller in its heap
pairs = [(torch.ones(2**18), torch.ones(2**8)) for _ in range(100)]
peaks.reset_peak(on_gpu=False)
full = peaks.peak(on_gpu=False)
small = [pair[1] for pair in pairs]  # among the large ones, so that the heap could not shrink
del pairs
print(full - peaks._status("VmRSS"))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_tensors_leave_the_process():
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout.split()[-1]) > 90 * 2**20  # of 100 MiB
