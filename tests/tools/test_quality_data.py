"""The folds of a study: who is judged by whom, and that `val` is not looked at."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from quality_data import FINAL, Source, final_part, fold_parts, sources_of

from sltdino.errors import SettingsError

SIGNERS, LABELS = 7, "abc"


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Seven signers who show three labels in `train`, and two others in `val`."""
    folder = tmp_path / "crops"
    for signer in range(SIGNERS + 2):
        for label in LABELS:
            place = folder / ("train" if signer < SIGNERS else "val") / label
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (signer * 20, ord(label), 0)).save(place / f"signer{signer}-{label}.png")
    return folder


def source_of(folder: Path, work: Path, group_regex: str = "") -> Source:
    return sources_of([str(folder)], stream="hands", group_regex=group_regex, work=work)[0]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.png")}


def test_no_signer_stands_on_both_sides_of_a_fold_and_each_is_judged_once(crops: Path, tmp_path: Path) -> None:
    parts = fold_parts(source_of(crops, tmp_path, "^(signer[0-9]+)"), 3, tmp_path)
    assert [part.name for part in parts] == ["1/3", "2/3", "3/3"]
    judged = [name for part in parts for name in names(part.val)]
    assert sorted(judged) == sorted(names(crops / "train"))
    for part in parts:
        assert names(part.train) | names(part.val) == names(crops / "train")
        assert not {name[:7] for name in names(part.train)} & {name[:7] for name in names(part.val)}
        assert (part.num_train, part.num_val) == (len(names(part.train)), len(names(part.val)))


def test_without_groups_every_fold_judges_images_of_every_label(crops: Path, tmp_path: Path) -> None:
    parts = fold_parts(source_of(crops, tmp_path), 3, tmp_path)
    assert sorted(name for part in parts for name in names(part.val)) == sorted(names(crops / "train"))
    assert all({path.name for path in part.val.iterdir()} == set(LABELS) for part in parts)


def test_folds_are_the_same_in_every_study_and_read_nothing_of_val(crops: Path, tmp_path: Path) -> None:
    source = source_of(crops, tmp_path, "^(signer[0-9]+)")
    before = [names(part.val) for part in fold_parts(source, 2, tmp_path)]
    shutil.rmtree(crops / "val")
    assert [names(part.val) for part in fold_parts(source, 2, tmp_path / "other")] == before


def test_the_final_part_is_all_of_train_against_val(crops: Path, tmp_path: Path) -> None:
    part = final_part(source_of(crops, tmp_path, "^(signer[0-9]+)"))
    assert part == (FINAL, crops / "train", crops / "val", SIGNERS * 3, 2 * 3)


def test_more_folds_than_signers_are_refused(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--folds: 8 folds need as many groups .* has 7"):
        fold_parts(source_of(crops, tmp_path, "^(signer[0-9]+)"), 8, tmp_path)


def test_two_folders_of_one_name_are_refused(crops: Path, tmp_path: Path) -> None:
    other = shutil.copytree(crops, tmp_path / "other" / "crops")
    with pytest.raises(SettingsError, match="two are called crops"):
        sources_of([str(crops), str(other)], stream="hands", group_regex="", work=tmp_path)


def test_drawn_crops_are_grouped_by_their_signers(tmp_path: Path) -> None:
    (source,) = sources_of(["synthetic:face:30"], stream="hands", group_regex="", work=tmp_path)
    assert (source.name, source.stream) == ("synthetic:face:30", "face")
    drawn = sorted((source.folder / "train").rglob("*.jpg"))
    assert drawn
    for part in fold_parts(source, 2, tmp_path):
        sides = [{path.name[:8] for path in side.rglob("*.jpg")} for side in (part.train, part.val)]
        assert not sides[0] & sides[1]
        assert sides[0] | sides[1] == {path.name[:8] for path in drawn}
    assert sources_of(["synthetic:face:30"], stream="hands", group_regex="", work=tmp_path) == [source]
    assert sorted((source.folder / "train").rglob("*.jpg")) == drawn


@pytest.mark.parametrize("text", ["synthetic:feet", "synthetic:hands:many", "synthetic:"])
def test_drawn_crops_that_there_are_none_of_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="synthetic:hands or synthetic:face"):
        sources_of([text], stream="hands", group_regex="", work=tmp_path)
