"""What follows the features of a run: k-NN where there are labels, measures that need none always."""

import hashlib
from typing import NamedTuple

from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.data.held_out import refuse_shared_images
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.errors import SettingsError
from sltdino.evaluation.features import Pixels
from sltdino.evaluation.knn_probe import KnnProbe
from sltdino.evaluation.label_free_probe import LabelFreeProbe


class UnreadableImage(NamedTuple):
    """An image that a probe left out."""

    path: str
    reason: str


class Probes(NamedTuple):
    """The probes of a run; both look at the same images every time."""

    knn: KnnProbe | None
    """None without labelled validation images."""
    label_free: LabelFreeProbe
    unreadable: list[UnreadableImage]
    """What the probes could not read since the list was last emptied; they append to it."""
    judged_on: str
    """Digest of the images that are looked at, and of how k-NN judges them."""
    judges: str
    """By what and on what they judge, for people."""

    @property
    def num_images(self) -> int:
        """Images that are decoded at every evaluation."""
        return self._num_for_knn + self.label_free.num_images

    @property
    def num_inputs(self) -> int:
        """Images that go through the network at every evaluation; each view of one counts."""
        return self._num_for_knn + self.label_free.num_inputs

    @property
    def _num_for_knn(self) -> int:
        if self.knn is None:
            return 0
        return len(self.knn.queries.paths) + (0 if self.knn.leave_one_out else len(self.knn.bank.paths))


def build_probes(settings: PretrainSettings, images: ImageFolder) -> Probes:
    """The probes over `evaluation.val_dir`, or over the training images where it is not given.

    Raises:
        MissingInputError, DataError: as `scan`. SettingsError: validation images are training images too, or lie in a
            single sub-folder, which is no label.
    """
    folder, crops, width = settings.evaluation.val_dir, settings.augmentation, known(settings.vit.embed_dim)
    unreadable = list[UnreadableImage]()

    def on_bad(path: object, reason: str) -> None:
        unreadable.append(UnreadableImage(str(path), reason))

    if folder is None:
        label_free = LabelFreeProbe(images, crops, width=width, use="training", on_bad=on_bad)
        return Probes(None, label_free, unreadable, images.fingerprint, _judges(None, label_free, "no --val-dir"))
    val = scan([folder])
    labels = [label for label in val.labels if label]
    if len(labels) == 1:
        raise SettingsError(
            f"--val-dir: {folder} has images in one sub-folder alone, {labels[0]!r}: k-NN needs one for each of at "
            f"least two labels; if they lie deeper, or there are none, name {folder / labels[0]}"
        )
    refuse_shared_images(images, val)
    label_free, knn = LabelFreeProbe(val, crops, width=width, use="validation", on_bad=on_bad), None
    judged_on = val.fingerprint
    if labels:
        votes = settings.evaluation
        pixels = Pixels(crops.image_size, crops.mean, crops.std)
        knn = KnnProbe(images, val, pixels, k=votes.knn_k, temp=votes.knn_temp, on_bad=on_bad)
        facts = f"{val.fingerprint} {images.fingerprint} {votes.knn_k} {votes.knn_temp}"
        judged_on = hashlib.sha256(facts.encode()).hexdigest()[:16]
    no_labels = f"no labels, which are sub-folders, in {folder}"
    return Probes(knn, label_free, unreadable, judged_on, _judges(knn, label_free, no_labels))


def evaluation_plan(settings: PretrainSettings, probes: Probes) -> str:
    """When and on what the features are judged, for people."""
    every = known(settings.evaluation.eval_every)
    when = "every epoch" if every == 1 else f"every {every:.6g} epochs"
    return f"{when}: {probes.judges}"


def _judges(knn: KnnProbe | None, label_free: LabelFreeProbe, no_labels: str) -> str:
    by = f"k-NN not measured ({no_labels})" if knn is None else knn.protocol
    return f"{by}; RankMe and others of {label_free.sample}"
