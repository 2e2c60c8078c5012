"""The whitened start of the patch embedding."""

import pytest
import torch

from sltdino.models import whitening
from sltdino.models.vit import PatchEmbed, patches
from sltdino.models.whitening import OUTPUT_STD, whiten_patch_embedding


def photographs() -> torch.Tensor:
    """Smooth images under lights of very different strength, as photographs are."""
    generator = torch.Generator().manual_seed(0)
    detail = torch.randn(64, 3, 32, 32, generator=generator)
    return 3.0 + 5 * torch.randn(64, 3, 1, 1, generator=generator) + detail


def embedding(width: int) -> PatchEmbed:
    torch.manual_seed(1)
    return PatchEmbed(4, width)


@pytest.mark.parametrize("width", [32, 96])  # fewer and more than the 48 numbers of a patch
def test_embedded_patches_have_zero_mean_and_the_stated_deviation(width: int) -> None:
    embed, images = embedding(width), photographs()
    whiten_patch_embedding(embed, images)
    tokens = embed(images).flatten(0, 1)
    torch.testing.assert_close(tokens.mean(dim=0), torch.zeros(width), atol=1e-3, rtol=0)
    assert tokens.square().mean().sqrt().item() == pytest.approx(OUTPUT_STD, rel=1e-3)


def test_embedded_patches_are_nearly_white() -> None:
    embed, images = embedding(32), photographs()

    def flatness() -> float:
        variances = torch.linalg.eigvalsh(embed(images).flatten(0, 1).detach().T.cov())
        return (variances.max() / variances.min()).item()

    before = flatness()
    whiten_patch_embedding(embed, images)
    assert before > 100
    assert flatness() < 4


def test_the_seed_still_decides_and_the_result_is_repeatable() -> None:
    images, first, second, other = photographs(), embedding(32), embedding(32), PatchEmbed(4, 32)
    for embed in (first, second, other):
        whiten_patch_embedding(embed, images)
    assert torch.equal(first.proj.weight, second.proj.weight)
    assert not torch.allclose(first.proj.weight, other.proj.weight)


def test_images_without_any_detail_leave_finite_weights() -> None:
    embed = embedding(32)
    whiten_patch_embedding(embed, torch.ones(2, 3, 32, 32))
    assert embed.proj.weight.isfinite().all()


def test_patches_are_summed_in_chunks_whose_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def counting(images: torch.Tensor, patch_size: int) -> torch.Tensor:
        held.append(len(images))
        return patches(images, patch_size)

    monkeypatch.setattr(whitening, "patches", counting)
    images, chunked, whole = photographs()[:45], embedding(32), embedding(32)
    whiten_patch_embedding(chunked, images)
    assert max(held) == 16
    assert held[-1] == 45 - 2 * 16
    monkeypatch.setattr(whitening, "_CHUNK", 64)
    whiten_patch_embedding(whole, images)
    torch.testing.assert_close(chunked.proj.weight, whole.proj.weight, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(chunked.proj.bias, whole.proj.bias, atol=1e-7, rtol=1e-6)
