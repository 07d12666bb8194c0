"""The grid of tokens that stand for an image: their rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, isqrt


@dataclass(frozen=True, order=True, slots=True)
class Grid:
    """Rows and columns of tokens, which tile an image row by row into blocks of one size."""

    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """Tokens of the grid."""
        return self.rows * self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def side(self) -> int | str:
        """Tokens along a side if the grid is square, else text such as ``12x16``."""
        return self.rows if self.rows == self.columns else str(self)

    @property
    def key(self) -> str:
        """The grid in names and files: ``16`` if it is square, else ``12x16``."""
        return str(self.side)

    def __str__(self) -> str:
        """Rows and columns, such as ``12x16``."""
        return f"{self.rows}x{self.columns}"

    @staticmethod
    def of(tokens: int, height: int, width: int) -> Grid:
        """The grid of so many tokens with the proportions of a ``height`` x ``width`` image.

        A single token stands for the whole image. Raises ValueError if no grid fits.
        """
        if tokens == 1:
            return WHOLE
        common = gcd(height, width)
        rows, columns = height // common, width // common
        factor = isqrt(tokens // (rows * columns))
        grid = Grid(rows * factor, columns * factor)
        if not factor or grid.tokens != tokens:
            raise ValueError(
                f"{tokens} tokens do not form a grid with the proportions of {height} x {width}"
            )
        return grid

    @staticmethod
    def parse(key: str) -> Grid:
        """Invert :attr:`key` and ``str``. Raises ValueError for other text."""
        rows, _, columns = key.partition("x")
        return Grid(int(rows), int(columns or rows))


WHOLE = Grid(1, 1)
"""A whole image as one token."""
