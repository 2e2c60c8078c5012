"""Exported backbones in an encoder of face, hands and pose; a random clip goes through it.

    sltdino export work_dirs/face --format slt -o backbone_face.pt
    sltdino export work_dirs/hands --format slt -o backbone_hands.pt
    python examples/load_into_slt.py backbone_face.pt backbone_hands.pt

In SLT's own programs write `from slt.models import MultiStreamEncoder, load_dinov2_backbone`: the names, and the
arguments used here, are the same there.
"""

import argparse

import torch

from sltdino.models import MultiStreamEncoder, load_dinov2_backbone


def main() -> None:
    """Load, build, run, and print the shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("face", help="backbone of the face, exported with --format slt")
    parser.add_argument("hands", help="backbone of the hands, as wide as that of the face")
    parser.add_argument(
        "--image-size", type=int, default=224, help="side of the crops in pixels (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=8, help="length of the clips (default: %(default)s)")
    arguments = parser.parse_args()

    # the face learns along from its second block on; the hands are used as they were pre-trained
    face = load_dinov2_backbone(f"file::{arguments.face}:slt_vitsmall_patch16", freeze="patch_embed,blocks[:1]")
    hands = load_dinov2_backbone(f"file::{arguments.hands}:slt_vitsmall_patch16", freeze=True)
    encoder = MultiStreamEncoder(
        backbones={"face": face, "hand_left": hands, "hand_right": hands}, d_model=256, pose_dim=13 * 3
    ).eval()

    # pixels as SLT feeds them: RGB under ImageNet's mean and std
    batch, frames, size = 2, arguments.frames, arguments.image_size
    crops = torch.randn(3, batch, frames, 3, size, size)
    pose = torch.randn(batch, frames, 13 * 3)
    pad_mask = torch.ones(batch, frames, dtype=torch.bool)
    pad_mask[1, frames // 2 :] = False  # the second clip is half as long
    miss_mask_hl = torch.zeros(batch, frames, dtype=torch.bool)
    miss_mask_hl[0, 0] = True  # no left hand in the first frame

    with torch.no_grad():
        sequence = encoder(*crops, pose, pad_mask=pad_mask, miss_mask_hl=miss_mask_hl)
    print(f"crops of each stream: {list(crops.shape[1:])}")
    print(f"feature of a crop:    {list(face(crops[0, :, 0]).shape)}")
    print(f"sequence:             {list(sequence.shape)}")


if __name__ == "__main__":
    main()
