"""Numbers that a key may have."""

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a number may have, both ends included unless said."""

    low: float
    high: float = math.inf
    above: bool = False  # low itself is not allowed
    below: bool = True  # high itself is not allowed

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        lower = f"{'above' if self.above else 'at least'} {self.low:g}"
        upper = (
            ""
            if math.isinf(self.high)
            else f" and {'below' if self.below else 'at most'} {self.high:g}"
        )
        return f"a number {lower}{upper}"


Count = Annotated[int, Range(0)]
Some = Annotated[int, Range(1)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1, below=False)]
Below1 = Annotated[float, Range(0, 1)]
Part = Annotated[float, Range(0, 1, above=True, below=False)]
