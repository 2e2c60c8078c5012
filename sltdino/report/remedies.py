"""What can be wrong with a machine, and what to do about each. One rule, one function, one row of the table."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sltdino.core.auto import FEW_IMAGES, settle
from sltdino.core.machine import MOST_WORKERS, Facts
from sltdino.core.settings import PretrainSettings

_GIB = 2**30
_LEAST_ROOM, _LEAST_MEMORY = 2 * _GIB, 4 * _GIB
_SLOW_DISK = 20 * 2**20  # bytes per second: a ViT-S checkpoint of 350 MB then takes 18 s
_FEW_FILES = 512  # each batch on its way from a worker holds some
_BROKEN = 71
"""Exit code where the machine cannot train; the folder's own errors bring 73 and 74."""


class Problem(NamedTuple):
    """Something wrong, and what to do."""

    what: str
    what_to_do: str
    exit_code: int = 0
    """Of a run that would be started here; 0 where it can train all the same."""


Sections = dict[str, Facts]


def find_problems(facts: Sections) -> list[Problem]:
    """Every problem in the facts. What was not found counts for nothing, unless one cannot train without it."""
    return [problem for rule in RULES for problem in rule(facts)]


def _platform(facts: Sections) -> Iterator[Problem]:
    if "Windows" in str(facts["system"].get("platform")):
        yield Problem("training on Windows is not supported: its file systems lack what a run needs", "use WSL 2", 2)


def _broken(facts: Sections) -> Iterator[Problem]:
    for section, package in (("torch", "torch"), ("images", "pillow")):
        reason = facts[section].get("not_found", "")
        if reason.startswith("no answer"):
            yield Problem(
                f"{package}: {reason}", "try again: a slow disk answers then, a driver that hangs does not", _BROKEN
            )
        elif reason:
            yield Problem(f"{package} does not work ({reason})", f"pip install --force-reinstall {package}", _BROKEN)


def _folder(facts: Sections) -> Iterator[Problem]:
    folder = facts["output_folder"]
    if reason := folder.get("not_found"):
        what_to_do = "name another one with --output-dir, or look at its permissions and the disk"
        yield Problem(f"the output folder: {reason}", what_to_do, folder.get("exit_code", 74))
        return
    if folder["free_bytes"] < _LEAST_ROOM:
        yield Problem(
            f"the output folder's disk has {_size(folder['free_bytes'])} left; a run of a ViT-S needs about 1.5 GiB",
            "free some space, or name another folder with --output-dir",
        )
    if not folder["flock"]:
        yield Problem(
            "the output folder's file system has no flock: a killed run leaves its lock behind",
            "keep runs on a local disk, or remove the file that the error then names",
        )
    if not folder["hard_links"]:
        yield Problem("the output folder's file system has no hard links: checkpoints are copied", "use a local disk")
    if folder["written_bytes_per_second"] < _SLOW_DISK:
        speed = _size(folder["written_bytes_per_second"])
        yield Problem(
            f"the output folder takes only {speed}/s", "use a local disk, or save less often (--save-every-minutes 60)"
        )


def _gpu(facts: Sections) -> Iterator[Problem]:
    devices, build = facts["devices"], str(facts["torch"].get("build", ""))
    driver = devices.get("nvidia_smi")
    if driver and build == "CPU":
        yield Problem(
            f"torch is built without CUDA, and there is a GPU ({driver[0]})",
            "install the CUDA build of torch: https://pytorch.org/get-started/locally",
        )
    elif driver and build.startswith("CUDA") and not devices["cuda"]:
        why = devices["cuda_warning"] or "CUDA_VISIBLE_DEVICES may hide it, or the driver be too old for this build"
        yield Problem(
            f"torch ({build}) finds no GPU, and the driver does ({driver[0]}): {why}",
            "update the driver, or install a torch built for an older CUDA: https://pytorch.org/get-started/previous-versions",
        )
    for gpu in devices.get("cuda", ()):
        if not gpu["runs_this_build"]:
            yield Problem(
                f"torch ({build}) has no code for {gpu['name']} ({gpu['architecture']})",
                "install a build of torch that has, or train with --device cpu",
            )


def _cores(facts: Sections) -> Iterator[Problem]:
    processor, threads = facts["processor"], facts["torch"].get("threads")
    usable, quota = processor.get("usable_cores"), processor.get("cgroup_cores")
    if usable is None:
        return
    if usable == 1:
        yield Problem("one core: loader workers and training share it", "pass --num-workers 0, or ask for more cores")
    if quota is not None and quota < usable:
        yield Problem(
            f"this control group may use {quota:g} cores and {usable} are seen: threads will wait for one another",
            f"export OMP_NUM_THREADS={max(1, int(quota))} and pass --num-workers {max(0, int(quota) - 1)}",
        )
    elif threads is not None and threads > usable:
        yield Problem(f"torch starts {threads} threads on {usable} core(s)", f"export OMP_NUM_THREADS={usable}")


def _memory(facts: Sections) -> Iterator[Problem]:
    memory = facts["memory"]
    if "not_found" in memory:
        return
    limits = [size for size in (memory["installed_bytes"], memory["cgroup_bytes"]) if size is not None]
    if min(limits) < _LEAST_MEMORY:
        yield Problem(f"{_size(min(limits))} of memory", "use a smaller --batch-size with --accumulate-steps")
    free, workers = memory["shared_free_bytes"], min(MOST_WORKERS, facts["processor"].get("usable_cores") or 1)
    if free is None or "not_found" in facts["torch"]:  # the loader is torch's
        return
    if free < (needed := shared_memory_needed(workers)):
        yield Problem(
            f"/dev/shm has {_size(free)} free; {workers} loader workers with the default settings need {_size(needed)}",
            "docker run --shm-size=2g (or --ipc=host), or pass --num-workers 0",
        )


def shared_memory_needed(workers: int) -> int:
    """Bytes that so many loader workers hold under the default settings, local crops among them."""
    from sltdino.data.batches import bytes_per_step
    from sltdino.data.loader import bytes_in_flight

    settings = settle(PretrainSettings.model_validate({"train_dir": "."}), num_images=FEW_IMAGES).settings
    return bytes_in_flight(workers, bytes_per_step(settings.augmentation, settings.dataset.batch_size))


def _codecs(facts: Sections) -> Iterator[Problem]:
    images = facts["images"]
    if "not_found" in images:
        return
    missing = images["codecs_missing"]
    if missing:
        yield Problem(
            f"this Pillow cannot read {', '.join(missing)}", "pip install --force-reinstall pillow, which has them all"
        )
    if "jpeg" not in missing and not images["jpeg_library"].startswith("libjpeg-turbo"):
        yield Problem(
            "Pillow decodes JPEG without libjpeg-turbo, more slowly than it could",
            "pip install --force-reinstall --only-binary=:all: pillow",
        )


def _session(facts: Sections) -> Iterator[Problem]:
    session = facts["session"]
    if "not_found" in session:
        return
    limit = session["open_files_limit"]
    if limit is not None and limit < _FEW_FILES:
        yield Problem(f"at most {limit} open files, few for loader workers", "ulimit -n 4096")
    if "utf" not in session["encoding"].lower():
        yield Problem(
            f"the language settings say {session['encoding']}: names in other alphabets are shown as codes",
            "export LC_ALL=C.UTF-8",
        )


def _requirements(facts: Sections) -> Iterator[Problem]:
    for missing in facts["versions"].get("missing") or ():
        yield Problem(
            f"a required package is missing: {missing}", f"pip install --upgrade {missing.split()[0]}", _BROKEN
        )


def _size(size: float) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"


RULES: tuple[Callable[[Sections], Iterator[Problem]], ...] = (
    _platform, _requirements, _broken, _folder, _gpu, _cores, _memory, _codecs, _session,
)  # fmt: skip
