"""Decoded pixels of a whole data set in memory (`--dataset-cache ram`)."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sltdino.core.machine import usable_cores
from sltdino.data.decode import BadImage, count_pixels, decode_loudly, quiet
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import ResourceError


class ImageCache:
    """Every image decoded, in one uint8 tensor; images that cannot be decoded keep their reason.

    Nothing is written after the filling, so forked workers share the pages without a byte of /dev/shm; where workers
    are spawned, pickling moves the tensor to shared memory once.
    """

    def __init__(
        self, pixels: Tensor, starts: NDArray[np.int64], sizes_N2: NDArray[np.int32], bad: dict[int, str]
    ) -> None:
        self._pixels, self._starts, self._sizes_N2 = pixels, starts, sizes_N2
        self.bad = bad
        """Reason of every image that could not be decoded, by index."""

    @classmethod
    def fill(cls, images: ImageFolder, *, max_bytes: int, at_least: int = 0) -> "ImageCache":
        """Decode all images, on all cores.

        Args:
            max_bytes: memory they may take.
            at_least: as for `decode`.

        Raises:
            ResourceError: they need more, found from their headers before anything is decoded.
        """
        sizes_N2 = np.zeros((len(images), 2), dtype=np.int32)
        lengths = np.zeros(len(images), dtype=np.int64)
        bad: dict[int, str] = {}

        def measure(index: int) -> None:
            try:
                lengths[index] = 3 * count_pixels(images.path(index), at_least=at_least)
            except BadImage as error:
                bad[index] = error.reason

        def read(index: int) -> None:
            if index in bad:
                return
            try:
                decoded = decode_loudly(images.path(index), at_least=at_least)
            except BadImage as error:
                bad[index] = error.reason
                return
            if decoded.size != lengths[index]:
                bad[index] = "changed while it was read"
                return
            sizes_N2[index] = decoded.shape[:2]
            flat[starts[index] : starts[index + 1]] = decoded.reshape(-1)

        with quiet(), ThreadPoolExecutor(usable_cores()) as pool:  # Pillow decodes without holding Python's lock
            list(pool.map(measure, range(len(images))))
            starts = np.concatenate(([0], np.cumsum(lengths)))
            if starts[-1] > max_bytes:
                raise ResourceError(
                    f"the decoded images need {starts[-1] / 2**30:.2f} GiB and {max_bytes / 2**30:.2f} GiB of memory "
                    "are free for them: use --dataset-cache none, or smaller images"
                )
            pixels = torch.empty(int(starts[-1]), dtype=torch.uint8)
            flat = pixels.numpy()
            list(pool.map(read, range(len(images))))
        return cls(pixels, starts, sizes_N2, dict(sorted(bad.items())))

    def read(self, index: int) -> Tensor:
        """The `[H, W, 3]` uint8 pixels of an image.

        Raises:
            BadImage: it could not be decoded when the cache was filled.
        """
        if index in self.bad:
            raise BadImage(self.bad[index])
        height, width = self._sizes_N2[index].tolist()
        return self._pixels[int(self._starts[index]) : int(self._starts[index + 1])].view(height, width, 3)


def free_memory() -> int:
    """Bytes this process may still take: of the machine, and of its control group where it has a limit."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # macOS
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        free = min(free, int(limit) - int((group / "memory.current").read_text()))
    return max(0, free)
