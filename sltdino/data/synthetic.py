"""Write a folder of drawn crops, so that everything can be tried before there are data.

The drawings come from (seed, number of the image) alone. Signers differ in skin, proportions, clothes and room; a clip
is one signer showing one label under one light. Validation holds signers that training does not have.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sltdino.core.rng import generator
from sltdino.data.synthetic_faces import EXPRESSIONS, draw_face
from sltdino.data.synthetic_hand_shapes import HAND_SHAPES
from sltdino.data.synthetic_hands import draw_hand
from sltdino.data.synthetic_scene import Frame
from sltdino.errors import CannotCreateError, RunFolderError, SettingsError

NUM_SIGNERS = 20
FRAMES_PER_CLIP = 5


class Demo(NamedTuple):
    """What a stream's drawings show, and who draws them."""

    labels: tuple[str, ...]
    draw: Callable[[str, Frame], Image.Image]


DEMOS: dict[str, Demo] = {
    "face": Demo(tuple(EXPRESSIONS), draw_face),
    "hands": Demo(tuple(HAND_SHAPES), draw_hand),
}


class DemoCrop(NamedTuple):
    """One image of the demo, before it is drawn."""

    split: str
    label: str
    name: str
    frame: Frame


def demo_crop(stream: str, *, index: int, seed: int) -> DemoCrop:
    """What image `index` shows, in which file.

    A fifth of the signers is held out. Labels and signers take turns; as their numbers have no common divisor, every
    signer comes to show every label.
    """
    labels = DEMOS[stream].labels
    number, place = divmod(index, FRAMES_PER_CLIP)
    signer, clip = (number + 3) % NUM_SIGNERS, number // NUM_SIGNERS
    # at least a fifth of a step between frames, so that no two have one name
    moment = (place + 0.8 * generator(seed, "moment", index).random()) / FRAMES_PER_CLIP
    frame = Frame(seed=seed, number=index, signer=signer, clip=clip, moment=moment)
    name = f"signer{signer:02d}-clip{clip:02d}_f{round(100 * moment):06d}.jpg"
    return DemoCrop("val" if signer % 5 == 4 else "train", labels[(signer + clip) % len(labels)], name, frame)


def write_demo_crops(stream: str, folder: Path, *, count: int, seed: int) -> int:
    """Draw `count` JPEG crops of 128 pixels into `folder/train/<label>/` and `folder/val/<label>/`.

    Returns:
        How many were written: `count`.

    Raises:
        SettingsError: no such stream, or too few images for both splits.
        RunFolderError: the folder holds something already.
        CannotCreateError: the folder or a file cannot be written.
    """
    if stream not in DEMOS:
        raise SettingsError(f"no demo crops of {stream!r}; choose one of {', '.join(DEMOS)}")
    if count <= FRAMES_PER_CLIP:
        raise SettingsError(f"--count: must be at least {FRAMES_PER_CLIP + 1}, to have held-out signers (got {count})")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunFolderError(f"{folder} is not empty: demo crops go to a new or empty folder; name another one")
        for index in range(count):
            crop = demo_crop(stream, index=index, seed=seed)
            path = folder / crop.split / crop.label / crop.name
            path.parent.mkdir(parents=True, exist_ok=True)
            DEMOS[stream].draw(crop.label, crop.frame).save(path, quality=90)
    except OSError as error:
        raise CannotCreateError(f"cannot write demo crops to {folder}: {error.strerror or error}") from error
    return count
