"""What is said of a device that is not there."""

import pytest

from sltdino.core.distributed import World, join
from sltdino.errors import SettingsError


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "--device: gpu: write cuda; usable here: auto, cpu"),
        ("GPU:0", "--device: GPU:0: write cuda; usable here: auto, cpu"),
        ("tpux", "--device: tpux: no such device; usable here: auto, cpu"),
        ("cuda:99", "--device: cuda:99 cannot be used here ("),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_a_line_with_those_that_are(device: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        join(device)
    assert str(caught.value).startswith(said)
    assert "usable here: auto, cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_processor_is_always_there() -> None:
    assert join("cpu") == World(rank=0, size=1, device="cpu")
