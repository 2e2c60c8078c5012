"""The student and its EMA teacher."""

import copy

import torch
from torch import Tensor, nn

from sltdino.core.rng import fold_in
from sltdino.core.settings_base import known
from sltdino.core.settings_network import HeadSettings, VitSettings
from sltdino.models.head import PrototypeHead
from sltdino.models.vit import VisionTransformer
from sltdino.types import Outputs


class Network(nn.Module):
    """A backbone with the head of its CLS token and, unless shared, another for its patch tokens."""

    def __init__(self, backbone: VisionTransformer, head: PrototypeHead, patch_head: PrototypeHead | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.patch_head = patch_head

    def forward(self, global_crops: Tensor, local_crops: Tensor, *, masks_GN: Tensor, hide_masked: bool) -> Outputs:
        """Scores of the CLS token of every crop and of the patch tokens under the mask.

        Args:
            global_crops: `[2B, 3, S, S]`, crop-major.
            local_crops: `[C_local·B, 3, s, s]`, or no rows.
            masks_GN: True for the patches to score.
            hide_masked: put the mask token in their place (the student), or let the network see them (the teacher).
        """
        seen = self.backbone.forward_features(global_crops, masks_GN if hide_masked else None)
        cls = [seen.cls_BD]
        if len(local_crops):
            cls.append(self.backbone.forward_features(local_crops).cls_BD)
        batch = len(global_crops) // 2
        cls_CBD = torch.cat(cls).view(-1, batch, self.backbone.embed_dim)
        patch_head = self.head if self.patch_head is None else self.patch_head
        return Outputs(
            cls_CBD=cls_CBD,
            cls_logits_CBK=self.head(cls_CBD.flatten(0, 1)).view(len(cls_CBD), batch, -1),
            patch_logits_MK=patch_head(seen.patches_BND[masks_GN]),
            masks_GN=masks_GN,
        )


class StudentTeacher(nn.Module):
    """Two copies of one network: gradients move the student, an EMA of the student moves the teacher."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.student = network
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    def train(self, mode: bool = True) -> "StudentTeacher":
        """Put the student in training mode; the teacher never drops paths, its targets must not be noisy."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher to `momentum * teacher + (1 - momentum) * student`."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1.0 - momentum)


def build_student_teacher(
    vit: VitSettings, head: HeadSettings, *, image_size: int, num_patch_prototypes: int, seed: int
) -> StudentTeacher:
    """A fresh pair on the CPU, its weights a function of `seed` alone.

    Args:
        num_patch_prototypes: of a separate patch head; 0 shares the CLS token's head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold_in(seed, "weights"))
        backbone = VisionTransformer(vit, image_size=image_size)
        cls_head = PrototypeHead(backbone.embed_dim, known(head.out_dim), head)
        patch_head = PrototypeHead(backbone.embed_dim, num_patch_prototypes, head) if num_patch_prototypes else None
        return StudentTeacher(Network(backbone, cls_head, patch_head))
