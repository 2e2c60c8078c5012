"""What the sections of the settings are made of."""

from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Auto = Literal["auto"]
ChangeClass = Literal["identity", "trajectory", "free"]
"""Whether a resumed run may change a setting: never, only with `--allow-change`, or freely."""

T = TypeVar("T")


class Knob(NamedTuple):
    """How a field differs from its section's rule `--<flag prefix><field name>` and from its section's change class."""

    flag: str = ""
    keys: tuple[str, ...] = ()
    """Other spellings accepted in a file, inside the section and at the top level."""
    resume: ChangeClass | None = None


class Section(BaseModel):
    """A frozen group of settings in which an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )
    title: ClassVar[str] = "Run"
    flag_prefix: ClassVar[str] = ""
    file_aliases: ClassVar[tuple[str, ...]] = ()
    resume: ClassVar[ChangeClass] = "trajectory"


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Epochs = Annotated[float, Field(gt=0)] | Positive
"""A whole number where it is one, as files have it: of these two pydantic writes either without a warning."""
Count = Annotated[int, Field(ge=0)]
Scale = tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]]


def whole(value: float) -> float:
    """A number of epochs as people write it, and as older files have it: `5`, not `5.0`."""
    return int(value) if value == int(value) else value


def known(value: T | Auto) -> T:
    """The value of a setting that `core.auto.settle` has made concrete."""
    assert value != "auto", "an auto setting was read before it was settled"
    return value
