"""Pre-train on hands crops: `sltdino pretrain hands` under its old name."""

import sys
from pathlib import Path


def main() -> None:
    """Run with the arguments of this process."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from _pretrain_dino import run

    run(default_stream="hand")


if __name__ == "__main__":
    main()
