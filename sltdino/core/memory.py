"""Keep the memory that a training step frees for the next one."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc's malloc not to give large freed blocks back to the system; whether this C library has the knob.

    By default every block over 32 MB is mapped anew each time, and the step pays a page fault for each 4 KB of it: a
    fifth of a ViT-S step on the CPU. For the whole process; a process that trains needs the memory again at once.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # macOS, musl
        return False
    kept = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)]
    return all(result == 1 for result in kept)
