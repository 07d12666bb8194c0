"""Sufficient statistics: all that the probes need of a set of images, as sums that add up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import Grid
from probes.moments import CPU, Moments, copied, merged, pack, unpack

Site = tuple[str, str]
"""Where an activation is read: (network, layer)."""

_KINDS = ("moments", "pooled")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a site's moments: channels, position, then targets per task.

    The targets of a task are the true ones, followed by those of every permutation.
    """

    channels: int
    position: int
    """Number of position columns; 0 for whole images, which have no position."""
    widths: dict[str, int]
    """Channels of each task's target, in the order of the tasks' names."""
    draws: int

    @property
    def activation_columns(self) -> Tensor:
        """Indices of the activations' channels."""
        return torch.arange(self.channels)

    @property
    def position_columns(self) -> Tensor:
        """Indices of the token's position features."""
        return torch.arange(self.channels, self.channels + self.position)

    def targets(self, task_draws: Sequence[tuple[str, int]]) -> Tensor:
        """Indices of the targets of (task, draw) pairs; draw 0 is the truth, others permuted."""
        starts, start = {}, self.channels + self.position
        for task, width in self.widths.items():
            starts[task] = start
            start += width * (1 + self.draws)
        return torch.cat(
            [
                torch.arange(self.widths[task]) + starts[task] + draw * self.widths[task]
                for task, draw in task_draws
            ]
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of one image's activation."""

    grid: Grid
    channels: int

    def tensor(self) -> Tensor:
        """For a file: tokens and channels; rows, columns and channels if it is not square."""
        rows, columns = self.grid.shape
        sizes = [self.grid.tokens] if rows == columns else [rows, columns]
        return torch.tensor([*sizes, self.channels])

    @staticmethod
    def of(stored: Tensor) -> Shape:
        """Invert :meth:`tensor`."""
        *sizes, channels = stored.tolist()
        grid = Grid(*sizes) if len(sizes) == 2 else Grid.of(sizes[0], 1, 1)
        return Shape(grid, channels)


@dataclass(frozen=True, slots=True)
class SufficientStatistics:
    """All that the probes need of a set of training images."""

    images: int
    shapes: dict[Site, Shape]
    """Of every site, even if the moments are of some sites only."""
    moments: dict[Site, Moments]
    """For tasks of maps, where a row is a token; one set per probed step on the leading axis."""
    pooled: dict[Site, Moments]
    """For tasks of whole images, where a row is an image with its mean activation over tokens."""
    target: dict[str, Float[Tensor, "_k _h _w"]]
    """Per task, the sum of the images' targets."""
    within: dict[tuple[str, Grid], Float[Tensor, " _k"]]
    """Per task and grid, the sum of the variances inside blocks."""
    draws: int
    """Permutations of the labels among the target columns."""

    def is_of_images(self, task: str) -> bool:
        """Whether a task is of whole images: its map is a single pixel."""
        return self.target[task].shape[-1] == 1

    def only(self, of_images: bool) -> SufficientStatistics:
        """The statistics of the tasks of whole images, or of the tasks of maps."""
        target = {
            task: value
            for task, value in self.target.items()
            if self.is_of_images(task) is of_images
        }
        moments = self.pooled if of_images else self.moments
        return replace(self, moments=moments, pooled={}, target=target)

    def cpu(self) -> SufficientStatistics:
        """The same on the CPU, sharing memory if they are there already."""
        return replace(
            self,
            moments={site: moments.to(CPU) for site, moments in self.moments.items()},
            pooled={site: moments.to(CPU) for site, moments in self.pooled.items()},
            target={task: value.cpu() for task, value in self.target.items()},
            within={key: value.cpu() for key, value in self.within.items()},
        )

    def tensors(self) -> dict[str, Tensor]:
        """The statistics as named tensors, for a file; they stay on their device."""
        flat = {"images": torch.tensor(self.images), "draws": torch.tensor(self.draws)}
        for site, shape in self.shapes.items():
            flat[_named("shape", site)] = shape.tensor()
        for kind, sites in (("moments", self.moments), ("pooled", self.pooled)):
            for site, moments in sites.items():
                name = _named(kind, site)
                flat[f"{name}/n"] = torch.tensor(moments.n)
                flat[f"{name}/mean"] = moments.mean.contiguous()
                flat[f"{name}/scatter"] = pack(moments.scatter).contiguous()
        flat |= {f"target/{task}": value for task, value in self.target.items()}
        flat |= {f"within/{task}/{grid.key}": value for (task, grid), value in self.within.items()}
        return flat


def _named(kind: str, site: Site) -> str:
    network, layer = site
    return f"{kind}/{network}/{layer}"


def at_sites(sites: Collection[Site]) -> Callable[[str], bool]:
    """A predicate on tensor names: whether a tensor belongs to one of these sites or to no site."""
    stems = {f"{_named(kind, site)}/" for kind in _KINDS for site in sites}

    def belongs(name: str) -> bool:
        return name.partition("/")[0] not in _KINDS or name[: name.rindex("/") + 1] in stems

    return belongs


def sums_of_tensors(flat: Mapping[str, Tensor]) -> SufficientStatistics:
    """Invert :meth:`SufficientStatistics.tensors`, ignoring other tensors.

    The moments of some sites may be missing.
    """
    shapes, target, within = {}, {}, {}
    sites: dict[str, dict[Site, Moments]] = {kind: {} for kind in _KINDS}
    for name, value in flat.items():
        kind, *rest = name.split("/")
        if kind in sites and rest[2] == "mean":
            stem = _named(kind, (rest[0], rest[1]))
            scatter = unpack(flat[f"{stem}/scatter"], value.shape[-1])
            sites[kind][rest[0], rest[1]] = Moments(int(flat[f"{stem}/n"]), value, scatter)
        elif kind == "shape":
            shapes[rest[0], rest[1]] = Shape.of(value)
        elif kind == "target":
            target[rest[0]] = value
        elif kind == "within":
            within[rest[0], Grid.parse(rest[1])] = value
    draws = int(flat["draws"])
    return SufficientStatistics(
        int(flat["images"]), shapes, sites["moments"], sites["pooled"], target, within, draws
    )


class Total:
    """A running sum of statistics, added in place: they are the largest objects of a run."""

    def __init__(self) -> None:
        self._sums: SufficientStatistics | None = None

    def add(self, part: SufficientStatistics) -> None:
        """Add a part. The total takes over its memory, so it must not be used afterwards."""
        total = self._sums
        if total is None:
            self._sums = part
            return
        self._sums = SufficientStatistics(
            total.images + part.images,
            total.shapes,
            {site: merged(moments, part.moments[site]) for site, moments in total.moments.items()},
            {site: merged(moments, part.pooled[site]) for site, moments in total.pooled.items()},
            {task: value + part.target[task] for task, value in total.target.items()},
            {key: value + part.within[key] for key, value in total.within.items()},
            total.draws,
        )

    @property
    def sums(self) -> SufficientStatistics:
        """The statistics of all parts. Raises RuntimeError when nothing was added."""
        if self._sums is None:
            raise RuntimeError("nothing was added, so there is no total; call add first")
        return self._sums


def total_sums(parts: Iterable[SufficientStatistics]) -> SufficientStatistics:
    """Add up statistics in the given order, leaving the parts unchanged."""
    iterator, total = iter(parts), Total()
    first = next(iterator)
    # Only moments are added in place, so only they are copied.
    moments = {site: copied(value) for site, value in first.moments.items()}
    pooled = {site: copied(value) for site, value in first.pooled.items()}
    total.add(replace(first, moments=moments, pooled=pooled))
    for part in iterator:
        total.add(part)
    return total.sums
