"""Write a folder of drawn crops, so that everything can be tried before there are data.

The drawings come from (seed, number of the image) alone. Signers differ in skin, proportions and hair, and share rooms,
shirts and lamps; a clip is one signer showing one label. Validation holds signers that training does not have.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from sltdino.core import json_files
from sltdino.core.files import os_errors
from sltdino.core.rng import generator
from sltdino.data.synthetic_expressions import EXPRESSIONS
from sltdino.data.synthetic_faces import draw_face
from sltdino.data.synthetic_hand_shapes import HAND_SHAPES
from sltdino.data.synthetic_hands import draw_hand
from sltdino.data.synthetic_scene import Frame
from sltdino.errors import ResourceError, RunFolderError, SettingsError

NUM_SIGNERS = 20
FRAMES_PER_CLIP = 5
UNFINISHED = "unfinished.json"
"""Lies in a folder while it is drawn, and says what: the same call completes what an interrupted one left."""


class Demo(NamedTuple):
    """What a stream's drawings show, and who draws them."""

    labels: tuple[str, ...]
    draw: Callable[[str, Frame], Image.Image]


DEMOS: dict[str, Demo] = {
    "hands": Demo(tuple(HAND_SHAPES), draw_hand),
    "face": Demo(tuple(EXPRESSIONS), draw_face),
}


class DemoCrop(NamedTuple):
    """One image of the demo, before it is drawn."""

    split: str
    label: str
    name: str
    frame: Frame


class DemoFolder(NamedTuple):
    """What was written."""

    images: int
    folder: Path
    labels: dict[str, int]
    """Images of each label."""
    signers: dict[str, int]
    """How many people show them in training, and how many others in validation."""


def demo_crop(stream: str, *, index: int, seed: int) -> DemoCrop:
    """What image `index` shows, in which file.

    A fifth of the signers is held out. Signers take turns, and each goes from clip to clip through the labels; they
    start at different ones, so that few images show all labels too.
    """
    labels = DEMOS[stream].labels
    number, place = divmod(index, FRAMES_PER_CLIP)
    signer, clip = (number + 3) % NUM_SIGNERS, number // NUM_SIGNERS
    moment = (place + 0.8 * generator(seed, "moment", index).random()) / FRAMES_PER_CLIP
    frame = Frame(seed=seed, number=index, signer=signer, clip=clip, moment=moment)
    name = f"signer{signer:02d}-clip{clip:02d}_f{place:06d}.jpg"
    return DemoCrop("val" if signer % 5 == 4 else "train", labels[(signer + clip) % len(labels)], name, frame)


def write_demo_crops(
    stream: str,
    folder: Path,
    *,
    count: int,
    seed: int,
    workers: int = 1,
    on_drawn: Callable[[int], object] = lambda done: None,
) -> DemoFolder:
    """Draw `count` JPEG crops of 128 pixels into `folder/train/<label>/` and `folder/val/<label>/`.

    Args:
        workers: processes that draw; any number draws the same bits.
        on_drawn: called with the number of images that are there.

    Raises:
        SettingsError: no such stream, or too few images for both splits.
        RunFolderError: the folder holds something already, other than a part of the same drawing.
        CannotCreateError, StorageError: the folder or a file cannot be written.
        ResourceError: a process died.
    """
    if stream not in DEMOS:
        raise SettingsError(f"no demo crops of {stream!r}; choose one of {', '.join(DEMOS)}")
    if count <= FRAMES_PER_CLIP:
        raise SettingsError(f"--count: must be at least {FRAMES_PER_CLIP + 1}, to have held-out signers (got {count})")
    crops = [demo_crop(stream, index=index, seed=seed) for index in range(count)]
    with os_errors(folder), _unfinished(folder, {"stream": stream, "count": count, "seed": seed}):
        for path in {(folder / crop.split / crop.label) for crop in crops}:
            path.mkdir(parents=True, exist_ok=True)
        with _mapped(partial(_write, DEMOS[stream].draw, folder), crops, workers) as drawn:
            for done, _ in enumerate(drawn, 1):
                on_drawn(done)
    people = {split: len({crop.frame.signer for crop in crops if crop.split == split}) for split in ("train", "val")}
    return DemoFolder(count, folder, dict(sorted(Counter(crop.label for crop in crops).items())), people)


@contextmanager
def _unfinished(folder: Path, drawing: dict[str, Any]) -> Iterator[None]:
    """Mark the folder as the start of a drawing, until all of it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / UNFINISHED
    if marker.exists():
        if json_files.read(marker) != drawing:
            raise RunFolderError(f"{folder} holds a part of another drawing ({UNFINISHED} says which): delete it first")
    elif any(folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty: demo crops go to a new or empty folder; name another one")
    else:
        json_files.write(marker, drawing)
    yield
    marker.unlink()


def _write(draw: Callable[[str, Frame], Image.Image], folder: Path, crop: DemoCrop) -> None:
    path = folder / crop.split / crop.label / crop.name
    if not path.exists():
        whole_later = path.with_suffix(".tmp")
        draw(crop.label, crop.frame).save(whole_later, "JPEG", quality=90)
        os.replace(whole_later, path)


@contextmanager
def _mapped(work: Callable[[DemoCrop], None], crops: list[DemoCrop], workers: int) -> Iterator[Iterable[None]]:
    """`work` done on each of the crops, in order, by several processes where there is enough to do."""
    if workers == 1:
        yield map(work, crops)
        return
    # spawned, since the caller may have threads; Ctrl-C reaches the whole group, and the main process ends the others
    with ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            yield pool.map(work, crops, chunksize=8)
        except BrokenProcessPool as error:
            raise ResourceError("a drawing process died, most often for lack of memory; call again to go on") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
