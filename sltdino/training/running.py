"""What is usual, and how long something has held, in a few numbers."""

STREAK = 3
"""Records in a row that begin or end what is judged by them: one batch proves nothing."""


class RunningMean:
    """A running mean: of all values at first, then of about the last 1 / share."""

    def __init__(self, share: float) -> None:
        self._share = share
        self.count = 0
        self.value = 0.0

    def feed(self, value: float) -> None:
        """Take one more value."""
        self.count += 1
        self.value += (value - self.value) * max(self._share, 1.0 / self.count)


class Streak:
    """In force from some records in a row for which something holds, until as many for which it does not."""

    def __init__(self) -> None:
        self.since = 0
        """First step of the streak in force; 0: none is."""
        self.num_held = 0
        """Records in a row, up to now, for which it holds."""
        self.first = 0
        """Step of the first of them."""
        self._num_clear = 0

    def feed(self, step: int, holds: bool, *, may_begin: bool = True, needed: int = STREAK, began: int = 0) -> int:
        """The first step of the streak in force, or 0.

        Args:
            may_begin: without it, records are counted and nothing comes into force yet.
            needed: records in a row that begin or end it.
            began: step at which it began where that is known to be earlier; 0: it is not.
        """
        if holds:
            self.first = self.first if self.num_held else min(step, began or step)
        self.num_held, self._num_clear = (self.num_held + 1, 0) if holds else (0, self._num_clear + 1)
        if self.num_held >= needed and may_begin:
            self.since = self.since or self.first
        elif self._num_clear >= needed:
            self.since = 0
        return self.since
