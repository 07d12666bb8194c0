"""Bytes of a run by arithmetic: weights, activations of a block, and sums, exact or sketched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bench.networks import chosen_convolutions
from bench.study import Study
from datasets.grid import Grid
from datasets.splits import grouped
from engines.shapes import tap_shapes
from extract.networks import CLEAN, CONVOLUTION, INPUT, TRAINED
from extract.stream import RecordedModel
from probes.position import position_columns
from probes.statistics import Shape, Site

SKETCH = 512
"""Width of the sketch that a plan compares exact sums with."""
_SUM_BYTES, _ACTIVATION_BYTES = 8, 4
_NEIGHBOURHOOD = 9
_TEXT, _DECODER = "text", "vae"


@dataclass(frozen=True, slots=True)
class SumSizes:
    """Bytes of a run's sums and of the activations that they are made of."""

    width: int | None
    """Columns to which wide activations are projected; None for exact sums."""
    set_bytes: int
    """One set of sums in memory, of all networks: of a block, a shard or a fold alike."""
    trained_bytes: int
    """The trained network's share of a set."""
    activation_bytes: int
    """The largest block's activations, kept until its images are labelled."""
    folds: int
    shards: int
    shard_bytes: int
    """One set on disk: upper triangles only."""

    @property
    def memory_bytes(self) -> int:
        """Peak while images are generated and summed: the shard's sums, and a block's activations
        or what has become of them."""
        return self.set_bytes + max(self.activation_bytes, self.set_bytes)

    @property
    def trained_folds_bytes(self) -> int:
        """Sums of the trained network alone, of all folds."""
        return self.folds * self.trained_bytes

    @property
    def disk_bytes(self) -> int:
        """All shards of training images."""
        return self.shards * self.shard_bytes


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a run that need no measurement."""

    parameters: Mapping[str, int]
    """Weights by part of the model, the denoiser first."""
    engines: int
    """Denoisers that are opened: the trained one, controls and baselines."""
    tap_values: int
    """Values of all taps in one row of a call."""
    rows: int
    """Rows of a call."""
    exact: SumSizes
    sketched: SumSizes
    """At the run's own width, or at the one that is proposed."""

    @property
    def model_bytes(self) -> int:
        """Weights in single precision, with a denoiser for every engine."""
        denoiser, *others = self.parameters.values()
        return _ACTIVATION_BYTES * (denoiser * self.engines + sum(others))

    @property
    def call_bytes(self) -> int:
        """All taps of a call, as the engine returns them."""
        return _ACTIVATION_BYTES * self.tap_values * self.rows

    @property
    def half_bytes(self) -> tuple[int, int]:
        """Weights in half precision: of the denoiser, and of all parts."""
        denoiser, *others = self.parameters.values()
        return 2 * denoiser, 2 * (denoiser + sum(others))


def sizes_of(study: Study, recorded: RecordedModel, engines: int) -> Sizes:
    """Compute the sizes of a study from the shapes of its activations; weights are not needed.

    The baseline ``vae`` is left out: the shapes of a decoder are known once it has run.
    """
    parts = study.components
    shapes = _tap_shapes(study, recorded)
    sites = _sites(study, recorded, shapes)
    first = parts.family.denoiser
    counts = {name: _parameters(part) for name, part in parts.networks.items()}
    return Sizes(
        parameters={first: counts.pop(first), **counts},
        engines=engines,
        tap_values=sum(
            shapes[tap.layer].grid.tokens * shapes[tap.layer].channels for tap in study.taps
        ),
        rows=study.config.batch,
        exact=_sums(study, sites, None),
        sketched=_sums(study, sites, study.config.width or SKETCH),
    )


def site_shapes(study: Study, recorded: RecordedModel) -> dict[Site, Shape]:
    """Shapes of all activations that probes are fit to, but those of the baseline ``vae``."""
    return _sites(study, recorded, _tap_shapes(study, recorded))


def _tap_shapes(study: Study, recorded: RecordedModel) -> dict[str, Shape]:
    parts = study.components
    taps = (*study.taps, *(study.convolutions if CONVOLUTION in recorded.sources else ()))
    height, width = parts.latent_shape[1:]
    shapes = tap_shapes(parts.denoiser, taps, parts.family.words(parts))
    return {
        layer: Shape(Grid.of(tokens, height, width), channels)
        for layer, (tokens, channels) in shapes.items()
    }


def _sites(study: Study, recorded: RecordedModel, shapes: Mapping[str, Shape]) -> dict[Site, Shape]:
    channels, rows, columns = study.components.latent_shape
    attention = {layer: shapes[layer] for layer in study.layers}
    width = int(study.components.denoiser.inputs["text"][-1])
    neighbourhoods = Shape(Grid(rows, columns), _NEIGHBOURHOOD * channels)
    special: Mapping[str, Mapping[str, Shape]] = {
        INPUT: {"latent": neighbourhoods},
        CLEAN: {"predicted": neighbourhoods},
        _TEXT: {"pooled": Shape(Grid(rows // 2, columns // 2), width)},
        CONVOLUTION: {
            layer: shapes[tap.layer]
            for layer, tap in chosen_convolutions(study).items()
            if tap.layer in shapes
        },
        _DECODER: {},
    }
    return {
        (network, layer): shape
        for network in recorded.fitted.sources
        for layer, shape in special.get(network, attention).items()
    }


def _sums(study: Study, sites: Mapping[Site, Shape], width: int | None) -> SumSizes:
    steps = len(study.config.probed_steps)
    maps, images = _target_columns(study)
    whole = trained = packed = activations = 0
    position = position_columns(Grid(1, 1)).shape[1]
    for (network, _), shape in sites.items():
        channels = shape.channels if width is None else min(shape.channels, width)
        # Tasks of maps have columns of position as well; every kind of task has its own sums.
        for columns, others in ((maps, position), (images, 0)):
            if columns:
                d = channels + others + columns
                own = _SUM_BYTES * steps * (d * d + d)
                whole += own
                trained += own if network == TRAINED else 0
                packed += _SUM_BYTES * steps * (d * (d + 1) // 2 + d)
        # Tasks of whole images keep means over tokens, in double precision.
        kept = _ACTIVATION_BYTES * shape.grid.tokens if maps else _SUM_BYTES
        activations += steps * channels * kept
    block = max(len(block.items) for block in study.train)
    folds = [[block for block in study.train if block.fold == fold] for fold in range(study.folds)]
    return SumSizes(
        width=width,
        set_bytes=whole,
        trained_bytes=trained,
        activation_bytes=block * activations,
        folds=study.folds,
        shards=sum(len(grouped(blocks, study.config.shard)) for blocks in folds),
        shard_bytes=packed,
    )


def _target_columns(study: Study) -> tuple[int, int]:
    """Columns of targets, true and permuted: of tasks of maps, and of tasks of whole images."""
    columns = [0, 0]
    for name, width in target_widths(study).items():
        columns[study.tasks[name].per_image] += width * (1 + study.draws)
    return columns[0], columns[1]


def target_widths(study: Study) -> dict[str, int]:
    """Channels of every task's target."""
    # Rendered scenes have labels of their own.
    _, read = study.block_input(study.train[0].items[:1])
    labels = read(torch.zeros(1, 3, *study.components.image_size))
    return {name: int(task.target(labels).shape[1]) for name, task in study.tasks.items()}


def _parameters(part: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())
