"""Freed memory stays with the process."""

import ctypes
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has mallopt")
@pytest.mark.parametrize("keep", [False, True])
def test_a_large_block_is_not_mapped_anew_once_it_is_kept(keep: bool) -> None:
    script = textwrap.dedent(f"""
        import resource
        import numpy as np
        from sltdino.core.memory import keep_freed_memory
        if {keep}:
            assert keep_freed_memory()
        faults = []
        for _ in range(4):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            np.empty(2**26, dtype=np.uint8).fill(1)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        print(faults[-1])
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (int(done.stdout) < 10) == keep
