"""The section that shows a run's own crops and masks as the student saw them."""

from pathlib import Path

from sltdino.core.run_files import read_params
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.data.decode import decode
from sltdino.data.image_folder import ImageFolder
from sltdino.objectives.algorithms import masks_patches
from sltdino.report.pictures.captions import how_to_read
from sltdino.report.pictures.crop_sheet import CropViews, crop_views
from sltdino.report.pictures.raster import picture
from sltdino.report.text.page import short
from sltdino.report.web.html import NOTHING, Html, element, join, paragraph, table
from sltdino.training.batches import CroppedImage, first_crops

_IMAGES = 4
_SIDE, _SIDE_OF_MANY, _MANY = 112, 96, 5  # CSS pixels of a global crop, also beside so many local ones
_NAME_WIDTH = 28


def crops(run: Path, settings: PretrainSettings, images: ImageFolder) -> list[Html]:
    """The first images of the run's first step: each whole, then its crops, masked as they were.

    Raises:
        DataError: the training images are unreadable, or too few for one step now.
    """
    masked = masks_patches(settings.algorithm)
    cropped = first_crops(settings, images, count=_IMAGES)
    rows = [row for image in cropped for row in _rows(image, images, settings, masked=masked)]
    num_local = known(settings.augmentation.num_local_crops)
    seen_by = ["seen by"] if masked else []
    columns = ["image", *seen_by, "global 1", "global 2", *(f"local {i + 1}" for i in range(num_local))]
    return [
        _changed(run, images),
        _how_to_read(settings, masked=masked),
        table(columns, rows, caption=f"Crops of {len(cropped)} images of step 1 (epoch 1)"),
    ]


def _rows(
    cropped: CroppedImage, images: ImageFolder, settings: PretrainSettings, *, masked: bool
) -> list[list[object]]:
    """Of one image: what the student sees; beneath it the teacher's view where a mask makes that another one."""
    augmentation, path = settings.augmentation, images.path(cropped.number)
    [views] = crop_views(
        cropped.batch,
        mean=augmentation.mean,
        std=augmentation.std,
        patch_size=known(settings.vit.patch_size),
        num_images=1,
    )
    name = short(path.name, _NAME_WIDTH)
    side = _SIDE if len(views.local_crops) < _MANY else _SIDE_OF_MANY
    whole = picture(decode(path, at_least=2 * side), alt=f"{name} before cropping", side=side)
    hides = any(mask.any() for mask in views.masks)
    seen_by = ["student" if hides else "both"] if masked else []
    about = join([whole, element("small", name)])
    rows: list[list[object]] = [[about, *seen_by, *_student(views, name, side)]]
    if hides:
        seen = [
            picture(crop, alt=f"Global crop {number} of {name}, whole", side=side)
            for number, crop in enumerate(views.global_crops, 1)
        ]
        rows.append([element("small", name), "teacher", *seen, *[None] * len(views.local_crops)])
    return rows


def _student(views: CropViews, name: str, side: int) -> list[Html]:
    num_global, whole_side = len(views.global_crops), views.global_crops[0].shape[0]
    pictures = []
    for number, crop in enumerate(views.student):
        alt = f"Local crop {number - num_global + 1} of {name}"
        if number < num_global:
            hidden = views.masks[number]
            alt = f"Global crop {number + 1} of {name}"
            alt += f", {hidden.sum()} of {hidden.size} patches masked" if hidden.any() else ""
        pictures.append(picture(crop, alt=alt, side=round(side * crop.shape[0] / whole_side)))
    return pictures


def _how_to_read(settings: PretrainSettings, *, masked: bool) -> Html:
    crops, num_local = settings.augmentation, known(settings.augmentation.num_local_crops)
    what = (
        "What the student learns from: it has to give each crop the features that the teacher gives the global crops."
    )
    if masked:
        what += " Striped patches are hidden from the student, which has to say what the teacher sees there."
    made = (
        f"The crops of the run's first step, drawn again from its seed ({settings.seed}) and its settings, before "
        "mean and standard deviation. Global crops take "
        f"{_share(crops.global_crop_scale)} of the image's area at {crops.image_size} px"
    )
    if num_local:
        made += f"; local crops take {_share(crops.local_crop_scale)} at {crops.local_crop_size} px, to the same scale"
    if masked:
        loss = settings.loss
        made += (
            f". Masks hide {loss.patch_mask_ratio:.0%} of the patches on average, in {loss.patch_mask_prob:.0%} of a "
            "step's global crops"
        )
    return how_to_read(
        what,
        good="the hand or face stays recognisable in every crop, while light and framing differ.",
        bad="crops that miss it; colour or blur that hides the handshape or the eyes; mirrored crops where left and "
        "right mean something (see --aug-hflip-prob); black or broken images.",
        made=f"{made}.",
    )


def _share(scale: tuple[float, float]) -> str:
    return f"{scale[0]:.0%} to {scale[1]:.0%}"


def _changed(run: Path, images: ImageFolder) -> Html:
    before = read_params(run).get("images", {}).get("fingerprint")
    if before in (None, images.fingerprint):
        return NOTHING
    text = (
        "The training folders hold other images than when the run began, so these are not the crops that it saw: they "
        "are what its settings would draw now."
    )
    return paragraph(text, kind="warn")
