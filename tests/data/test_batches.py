"""A step's batches are a pure function of (seed, step), whoever makes them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sltdino.core.distributed import World
from sltdino.data.loader import BatchBuilder, LoadedBatch
from sltdino.data.masking import Masking
from sltdino.errors import DataError

Build = Callable[..., BatchBuilder]


def assert_same(ours: LoadedBatch, theirs: LoadedBatch) -> None:
    assert len(ours.batches) == len(theirs.batches)
    for one, other in zip(ours.batches, theirs.batches, strict=True):
        for name in one._fields:
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(ours.indices, theirs.indices)
    assert ours.bad == theirs.bad


def images_of(crops: torch.Tensor, batch_size: int, images: slice) -> torch.Tensor:
    """The rows of some images in a crop-major stack."""
    return crops.unflatten(0, (-1, batch_size))[:, images].flatten(0, 1)


def test_shapes_and_types(build: Build) -> None:
    loaded = build(accumulate_steps=2)[0]
    assert len(loaded.batches) == 2
    for batch in loaded.batches:
        assert batch.global_crops.shape == (8, 3, 32, 32)
        assert batch.local_crops.shape == (12, 3, 16, 16)
        assert batch.masks_GN.shape == (8, 16)
        assert (batch.global_crops.dtype, batch.masks_GN.dtype) == (torch.float32, torch.bool)
        assert batch.global_crops.isfinite().all()
    assert loaded.indices.shape == (8,)
    assert loaded.bad == ()


def test_an_item_depends_on_the_step_only_and_differs_between_steps(build: Build) -> None:
    builder, again = build(), build()
    first = [builder[step] for step in range(7)]
    for step in (6, 2, 5, 0):
        assert_same(again[step], first[step])
    assert not torch.equal(first[0].batches[0].global_crops, first[1].batches[0].global_crops)
    other_seed = build(seed=1)[0]
    assert not torch.equal(first[0].indices, other_seed.indices)


def test_an_epoch_visits_every_image_at_most_once_in_a_new_order(build: Build) -> None:
    builder = build()
    assert builder.steps_per_epoch == len(builder) == 5
    epochs = [torch.cat([builder[5 * epoch + step].indices for step in range(5)]) for epoch in range(2)]
    for indices in epochs:
        assert len(indices.unique()) == 20
    assert not torch.equal(*epochs)


def test_the_crops_of_an_image_differ_between_epochs_passes_and_images(build: Build) -> None:
    builder = build(shuffle=False, pseudo_epochs=2)
    steps = [builder[step].batches[0].global_crops[0] for step in (0, builder.steps_per_epoch)]
    assert not torch.equal(*steps)
    assert builder.samples(0)[0].image == builder.samples(builder.steps_per_epoch)[0].image == 0


def test_pseudo_epochs_follow_one_another_within_an_epoch(build: Build) -> None:
    builder = build(pseudo_epochs=3)
    assert builder.steps_per_epoch == 22 * 3 // 4
    images = [sample.image for step in range(builder.steps_per_epoch) for sample in builder.samples(step)]
    for start in (0, 22):
        assert sorted(images[start : start + 22]) == list(range(22))
    assert images[:22] != images[22:44]


def test_without_shuffling_images_come_in_order(build: Build) -> None:
    builder = build(shuffle=False)
    assert [sample.image for sample in builder.samples(1)] == [4, 5, 6, 7]
    assert builder.samples(6)[0].image == 4


def test_ranks_have_the_slices_of_a_single_process_s_batch(build: Build) -> None:
    """Two batches a step of 4 images in one process are 2 and 2 images in each of two processes."""
    for step in (0, 8):
        whole = build(batch_size=4, accumulate_steps=2)[step]
        for rank in range(2):
            part = build(batch_size=2, accumulate_steps=2, world=World(rank=rank, size=2))[step]
            images = slice(2 * rank, 2 * rank + 2)
            for ours, theirs in zip(part.batches, whole.batches, strict=True):
                for name in ours._fields:
                    assert torch.equal(getattr(ours, name), images_of(getattr(theirs, name), 4, images)), name
            assert torch.equal(part.indices.view(2, 2), whole.indices.view(2, 4)[:, images])


def test_accumulated_batches_are_parts_of_the_big_one(build: Build) -> None:
    big, parts = build(batch_size=8)[1], build(batch_size=4, accumulate_steps=2)[1]
    for number, part in enumerate(parts.batches):
        images = slice(4 * number, 4 * number + 4)
        for name in part._fields:
            assert torch.equal(getattr(part, name), images_of(getattr(big.batches[0], name), 8, images)), name


def test_masks_are_the_asked_share_and_none_at_probability_0(build: Build) -> None:
    assert build()[3].batches[0].masks_GN.any(dim=1).sum() == 4
    assert not build(masking=Masking(0.3, 0.0))[3].batches[0].masks_GN.any()


def test_a_bad_image_is_replaced_by_the_same_other_one_and_reported(
    build: Build, picture_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    sound = build(folder)
    step = next(step for step in range(5) if 3 in sound[step].indices)
    place = sound[step].indices.tolist().index(3)
    before = sound[step]
    path = folder / "3.png"
    path.write_bytes(path.read_bytes()[:500])

    after = build(folder)[step]
    assert_same(build(folder)[step], after)
    assert len(after.bad) == 1
    assert after.bad[0][0] == str(path)
    assert "truncated" in after.bad[0][1] or "damaged" in after.bad[0][1]
    assert after.indices[place] != 3
    kept = [row for row in range(4) if row != place]
    assert torch.equal(after.indices[kept], before.indices[kept])
    ours, theirs = (loaded.batches[0].global_crops.view(2, 4, 3, 32, 32)[:, kept] for loaded in (after, before))
    assert torch.equal(ours, theirs)
    others = [build(folder)[other] for other in range(5) if other != step]
    assert all(loaded.bad == () for loaded in others)


def test_a_vanished_image_counts_as_bad(build: Build, picture_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    builder = build(folder)
    (folder / "0.jpg").unlink()
    bad = [entry for step in range(6) for entry in builder[step].bad]
    assert (str(folder / "0.jpg"), "No such file or directory") in bad


def test_too_many_bad_images_give_up(build: Build, picture_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="20 images tried in its place are bad too"):
        build(folder)[0]


def test_too_few_images_name_both_numbers_and_the_largest_batch(build: Build) -> None:
    with pytest.raises(DataError, match=r"22 images are fewer than the 24 of one step: use --batch-size 11 or less"):
        build(batch_size=12, accumulate_steps=2)
    assert build(batch_size=11, accumulate_steps=2).steps_per_epoch == 1
    with pytest.raises(DataError, match=r"24 of one step: use --batch-size 2, or add images$"):
        build(batch_size=3, accumulate_steps=8)
    with pytest.raises(DataError, match=r"40 of one step: add images; a --batch-size of 1 needs --no-head-batch-norm"):
        build(batch_size=2, accumulate_steps=20)
    with pytest.raises(DataError, match="add images, or accumulate fewer steps"):
        build(batch_size=1, accumulate_steps=23)


def test_the_cache_gives_the_same_batches(build: Build, picture_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:300])
    plain, cached = build(folder), build(folder, cache="ram")
    steps = [plain[step] for step in range(6)]
    shutil.rmtree(folder)
    for step, expected in enumerate(steps):
        assert_same(cached[step], expected)
    assert any(expected.bad for expected in steps)


def test_the_number_of_torch_threads_does_not_matter(build: Build) -> None:
    before = torch.get_num_threads()
    try:
        items = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            items.append(build()[2])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_same(items[0], items[1])
    assert_same(items[0], items[2])
