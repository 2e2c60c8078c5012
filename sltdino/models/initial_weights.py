"""Put imported weights into a student and its teacher: what does not fit as it is gets adapted, and said."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sltdino.models.head import PrototypeHead
from sltdino.models.import_weights import ImportedBackbone
from sltdino.models.normalisation import fold_normalisation
from sltdino.models.student_teacher import StudentTeacher
from sltdino.models.vit import VisionTransformer


@torch.no_grad()
def start_from(
    model: StudentTeacher, imported: ImportedBackbone, *, mean: Sequence[float], std: Sequence[float]
) -> list[str]:
    """Give student and teacher the imported backbone, and its heads where they fit; what was done, a line each.

    Args:
        model: changed in place; its backbone has the imported one's width, depth and heads.
        mean, std: what the run feeds its networks; the weights are made to compute the same from it.
    """
    student, notes = model.student, list[str]()
    student.backbone.load_state_dict(_fitted(imported, student.backbone, mean, std, notes))
    for name, head in (("head", student.head), ("patch_head", student.patch_head)):
        if head is not None:
            notes.append(_start_head(name, head, imported.heads.get(name, {})))
        elif name in imported.heads:
            notes.append(f"{name}: left out, because the run has no patch head of its own")
    model.teacher.load_state_dict(student.state_dict())
    return notes


def _fitted(
    imported: ImportedBackbone,
    backbone: VisionTransformer,
    mean: Sequence[float],
    std: Sequence[float],
    notes: list[str],
) -> dict[str, Tensor]:
    """The imported weights in the shapes of `backbone`."""
    source = imported.network
    weights = {key: value.clone() for key, value in source.state_dict().items()}
    if fold_normalisation(weights, fed=(mean, std), expected=(imported.mean, imported.std)):
        notes.append(
            f"patch embedding: rewritten for the run's mean and std, from {_shown(imported.mean)} and "
            f"{_shown(imported.std)}; it computes the same"
        )
    old, new = source.patch_embed.patch_size, backbone.patch_embed.patch_size
    if old != new:
        kernel = weights["patch_embed.proj.weight"]
        weights["patch_embed.proj.weight"] = resample_kernel(kernel, new)
        notes.append(f"patch embedding: kernels resampled from {old} to {new} pixels")
    if source.grid_size != backbone.grid_size:
        grid = backbone.grid_size
        weights["pos_embed"] = source.positions(grid, grid).clone()
        notes.append(
            f"positions: resampled bicubically from {source.grid_size} × {source.grid_size} to {grid} × {grid}"
        )
    _fit_registers(weights, backbone, notes)
    theirs, ours = source.vit.layer_norm_eps, backbone.vit.layer_norm_eps
    if theirs != ours:
        notes.append(f"LayerNorm: the run computes with epsilon {ours}, the weights were trained with {theirs}")
    return weights


def _fit_registers(weights: dict[str, Tensor], backbone: VisionTransformer, notes: list[str]) -> None:
    """Keep the first registers, in place; those that are missing start at random, as in a fresh network."""
    found = weights.pop("reg_token", torch.zeros(1, 0, backbone.embed_dim))
    have, need = found.shape[1], backbone.num_registers
    if backbone.reg_token is not None:
        weights["reg_token"] = torch.cat([found[:, :need], backbone.reg_token[:, have:]], dim=1)
    if have < need:
        notes.append(f"registers: {need - have} added, which start at random")
    elif have > need:
        notes.append(f"registers: {have - need} of {have} dropped, without which the network computes something else")


def _start_head(name: str, head: PrototypeHead, weights: dict[str, Tensor]) -> str:
    if not weights:
        return f"{name}: starts at random, because the file has none that fits"
    expected = head.state_dict()
    if weights.keys() != expected.keys():
        return f"{name}: starts at random, because the file's has {'' if _has_norms(weights) else 'no '}batch norm"
    for key, value in expected.items():
        if weights[key].shape != value.shape:
            shapes = f"{list(weights[key].shape)} in the file and {list(value.shape)} here"
            return f"{name}: starts at random, because {key} is {shapes}"
    head.load_state_dict(weights)
    return f"{name}: as in the file"


def _has_norms(weights: dict[str, Tensor]) -> bool:
    return any(".bn." in key for key in weights)


def resample_kernel(kernel: Tensor, side: int) -> Tensor:
    """Patch kernels `[D, 3, P, P]` for patches of another side: the same products with resized patches, nearly.

    With B the bilinear resizing of a patch, the pseudo-inverse of its transpose times w solves `<Bx, w'> = <x, w>` for
    all x when enlarging, and in the least squares when reducing (Beyer et al. 2023, "FlexiViT", section 3.4).
    """
    old = kernel.shape[-1]
    pixels = torch.eye(old * old, dtype=torch.float64).view(-1, 1, old, old)
    resized = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=False)
    inverse_NO = torch.linalg.pinv(resized.flatten(1))  # B transposed is [old², side²]
    fitted_DCN: Tensor = kernel.double().flatten(2) @ inverse_NO.T
    return fitted_DCN.view(*kernel.shape[:2], side, side).float()


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
