"""From a block's activations and labels to sums: the reducer for training images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.labels import Labels
from probes.blocks import Blocks
from probes.moments import CPU, Moments, copied, merged, moments_of, pack, unpack
from probes.position import position_columns
from probes.task import Task

Site = tuple[str, str]
"""Where an activation was read: (network, layer)."""

DRAWS = 5
"""Permutations of the labels among the images of a block, each a set of further target columns; fewer where the
smallest block has fewer."""

_KINDS = ("moments", "pooled")
_ENTRIES_AT_ONCE = 1 << 25
"""Float64 entries of rows held at once while moments are taken: a quarter of a gigabyte."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a place's moments: channels, position, then per task the true and the permuted targets.

    Whole images have no position: there it takes no column.
    """

    channels: int
    position: int
    widths: dict[str, int]
    """Channels of each task's target, in the order of the tasks' names."""
    draws: int

    @property
    def activations(self) -> Tensor:
        """Feature columns: the activations."""
        return torch.arange(self.channels)

    @property
    def site(self) -> Tensor:
        """Feature columns: the token's position."""
        return torch.arange(self.channels, self.channels + self.position)

    def targets(self, wanted: Sequence[tuple[str, int]]) -> Tensor:
        """Target columns of (task, draw) pairs: draw 0 is the truth, 1 and up are permutations."""
        starts, start = {}, self.channels + self.position
        for task, width in self.widths.items():
            starts[task] = start
            start += width * (1 + self.draws)
        return torch.cat(
            [
                torch.arange(self.widths[task]) + starts[task] + draw * self.widths[task]
                for task, draw in wanted
            ]
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one image's activation."""

    tokens: int
    channels: int

    @property
    def side(self) -> int:
        """Tokens along one side."""
        return isqrt(self.tokens)


@dataclass(frozen=True, slots=True)
class SufficientStatistics:
    """All that the probes need of a set of training images."""

    images: int
    shapes: dict[Site, Shape]
    """Of every place, also where the moments are of some places alone."""
    moments: dict[Site, Moments]
    """Per place, with one set per probed step along the leading axis; of tasks of maps, a row is a token."""
    pooled: dict[Site, Moments]
    """The same of tasks of whole images: a row is an image, its activations the means over its tokens."""
    target: dict[str, Float[Tensor, "_k _h _w"]]
    """Per task, the sum of the images' targets."""
    within: dict[tuple[str, int], Float[Tensor, " _k"]]
    """Per task and grid side, the sum of the variances inside blocks."""
    draws: int
    """Permutations of the labels among the target columns."""

    def is_of_images(self, task: str) -> bool:
        """Whether a task is of whole images: its map is a single pixel."""
        return self.target[task].shape[-1] == 1

    def only(self, of_images: bool) -> SufficientStatistics:
        """The sums of the tasks of whole images, or of the others."""
        target = {
            task: value
            for task, value in self.target.items()
            if self.is_of_images(task) is of_images
        }
        moments = self.pooled if of_images else self.moments
        return SufficientStatistics(
            self.images, self.shapes, moments, {}, target, self.within, self.draws
        )

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors, for a file."""
        flat = {"images": torch.tensor(self.images), "draws": torch.tensor(self.draws)}
        flat |= {
            _named("shape", site): torch.tensor([s.tokens, s.channels])
            for site, s in self.shapes.items()
        }
        for kind, sites in (("moments", self.moments), ("pooled", self.pooled)):
            for site, moments in sites.items():
                name = _named(kind, site)
                flat[f"{name}/n"] = torch.tensor(moments.n)
                flat[f"{name}/mean"] = moments.mean.contiguous()
                flat[f"{name}/scatter"] = pack(moments.scatter).contiguous()
        flat |= {f"target/{task}": value for task, value in self.target.items()}
        flat |= {f"within/{task}/{side}": value for (task, side), value in self.within.items()}
        return flat


def _named(kind: str, site: Site) -> str:
    network, layer = site
    return f"{kind}/{network}/{layer}"


def at_sites(sites: Collection[Site]) -> Callable[[str], bool]:
    """Which of the tensors of sums are those of some places, or belong to no place."""
    stems = {f"{_named(kind, site)}/" for kind in _KINDS for site in sites}

    def wanted(name: str) -> bool:
        return name.partition("/")[0] not in _KINDS or name[: name.rindex("/") + 1] in stems

    return wanted


def sums_of_tensors(flat: Mapping[str, Tensor]) -> SufficientStatistics:
    """Undo :meth:`SufficientStatistics.tensors`; other tensors may lie beside them, and those of some places be missing."""
    shapes, target, within = {}, {}, {}
    sites: dict[str, dict[Site, Moments]] = {kind: {} for kind in _KINDS}
    for name, value in flat.items():
        kind, *rest = name.split("/")
        if kind in sites and rest[2] == "mean":
            stem = _named(kind, (rest[0], rest[1]))
            scatter = unpack(flat[f"{stem}/scatter"], value.shape[-1])
            sites[kind][rest[0], rest[1]] = Moments(int(flat[f"{stem}/n"]), value, scatter)
        elif kind == "shape":
            shapes[rest[0], rest[1]] = Shape(*value.tolist())
        elif kind == "target":
            target[rest[0]] = value
        elif kind == "within":
            within[rest[0], int(rest[1])] = value
    draws = int(flat["draws"])
    return SufficientStatistics(
        int(flat["images"]), shapes, sites["moments"], sites["pooled"], target, within, draws
    )


class Total:
    """Adds up sums, in place: they are the largest thing that a run holds, and one of them should be enough."""

    def __init__(self) -> None:
        self._sums: SufficientStatistics | None = None

    def add(self, part: SufficientStatistics) -> None:
        """Add a part. Its memory is taken over and must not be used any more."""
        mine = self._sums
        if mine is None:
            self._sums = part
            return
        self._sums = SufficientStatistics(
            mine.images + part.images,
            mine.shapes,
            {site: merged(moments, part.moments[site]) for site, moments in mine.moments.items()},
            {site: merged(moments, part.pooled[site]) for site, moments in mine.pooled.items()},
            {task: value + part.target[task] for task, value in mine.target.items()},
            {key: value + part.within[key] for key, value in mine.within.items()},
            mine.draws,
        )

    @property
    def sums(self) -> SufficientStatistics:
        """The sums of all parts."""
        if self._sums is None:
            raise RuntimeError("nothing was added: there are no sums")
        return self._sums


def total_sums(parts: Iterable[SufficientStatistics]) -> SufficientStatistics:
    """Add up sums in the given order. The parts stay as they are."""
    iterator, total = iter(parts), Total()
    first = next(iterator)
    moments = {site: copied(own) for site, own in first.moments.items()}
    pooled = {site: copied(own) for site, own in first.pooled.items()}
    total.add(
        replace(
            first,
            moments=moments,
            pooled=pooled,
            target=dict(first.target),
            within=dict(first.within),
        )
    )
    for part in iterator:
        total.add(part)
    return total.sums


class Accumulator:
    """Holds one block's activations until its labels are known, then turns them into sums and lets them go.

    SufficientStatistics are computed on ``device`` and given on the CPU.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        permutations: Sequence[Sequence[int]],
        device: torch.device = CPU,
    ) -> None:
        self.tasks = tasks
        self.permutations = permutations
        self.device = device
        self._held: dict[Site, list[Tensor]] = defaultdict(list)
        self._sums: SufficientStatistics | None = None

    def see(self, step: int, network: str, layer: str, activation: Float[Tensor, "n t c"]) -> None:
        """Keep an activation until the block is finished; steps come in order."""
        # A copy: an activation is often a view that would keep the other half of its batch alive.
        self._held[network, layer].append(activation.clone())

    def finish(self, labels: Labels) -> None:
        """Take the moments of everything held."""
        # In the order of their names: it decides the columns, and survives a trip through a file.
        targets = {name: self.tasks[name].target(labels).double() for name in sorted(self.tasks)}
        maps = [name for name in targets if not self.tasks[name].per_image]
        whole = [name for name in targets if self.tasks[name].per_image]
        sides = sorted({side_of(held[0]) for held in self._held.values()})
        blocks = {(name, side): Blocks(targets[name], side) for name in maps for side in sides}
        blocks |= {(name, 1): Blocks(targets[name], 1) for name in whole}
        columns = {
            side: self._target_columns([blocks[name, side] for name in maps])
            for side in sides
            if maps
        }
        of_images = self._target_columns([blocks[name, 1] for name in whole]) if whole else None
        shapes, moments, pooled = {}, {}, {}
        for site in list(self._held):
            activations = self._held.pop(site)
            side = side_of(activations[0])
            shapes[site] = Shape(*activations[0].shape[1:])
            if of_images is not None:
                means = torch.stack(
                    [
                        activation.to(self.device).double().mean(1).cpu()
                        for activation in activations
                    ]
                )
                rows = of_images.flatten(0, 1).expand(len(means), -1, -1)
                pooled[site] = moments_of(torch.cat([means, rows], dim=-1))
            if maps:
                moments[site] = _moments(
                    activations, position_columns(side), columns[side], self.device
                )
        self._sums = SufficientStatistics(
            images=len(labels.disparity),
            shapes=shapes,
            moments=moments,
            pooled=pooled,
            target={name: target.sum(0) for name, target in targets.items()},
            within={key: seen.within.sum(0) for key, seen in blocks.items()},
            draws=len(self.permutations),
        )

    def sums(self) -> SufficientStatistics:
        """The block's sums, once it is finished."""
        if self._sums is None:
            raise RuntimeError("the block is not finished: its labels are not known yet")
        return self._sums

    def _target_columns(self, blocks: Sequence[Blocks]) -> Float[Tensor, "n t y"]:
        orders = [list(range(len(blocks[0].target))), *self.permutations]
        return torch.cat([seen.mean[order].mT for seen in blocks for order in orders], dim=-1)


def side_of(activation: Float[Tensor, "n t c"]) -> int:
    """Tokens along one side of a square grid."""
    tokens = activation.shape[1]
    side = isqrt(tokens)
    if side * side != tokens:
        raise ValueError(f"{tokens} tokens do not form a square grid")
    return side


def _moments(
    activations: Sequence[Float[Tensor, "n t c"]],
    position: Float[Tensor, "t q"],
    targets: Float[Tensor, "n t y"],
    device: torch.device,
) -> Moments:
    n, tokens, _ = targets.shape
    fixed = torch.cat([position.expand(n, -1, -1), targets], dim=-1).flatten(0, 1).to(device)
    width = activations[0].shape[-1] + fixed.shape[-1]
    at_once = max(1, _ENTRIES_AT_ONCE // (n * tokens * width))
    parts = []
    for start in range(0, len(activations), at_once):
        chunk = (
            torch.stack(list(activations[start : start + at_once]))
            .to(device)
            .double()
            .flatten(1, 2)
        )
        parts.append(
            moments_of(torch.cat([chunk, fixed.expand(len(chunk), -1, -1)], dim=-1)).to(CPU)
        )
    return Moments(
        n * tokens,
        torch.cat([part.mean for part in parts]),
        torch.cat([part.scatter for part in parts]),
    )
