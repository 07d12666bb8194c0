"""Test doubles: an engine that records its calls, and a reducer that records activations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from datasets.grid import Grid
from datasets.labels import Labels
from engines.conditioning import Conditioning
from engines.engine import Engine, Prediction

PROMPTS = [
    "a red sphere on a sand floor with a blue wall and light from the left",
    "an orange cone on a snow floor with a mint wall and light from the right",
    "a black box on a grass floor with a pink wall and light from the left",
    "a cyan cylinder on a clay floor with a white wall and light from the right",
]
SEEDS = [11, 22, 33, 44]


class RecordingEngine:
    """Records the inputs of every call; ``spoil`` may change the prediction of a numbered call."""

    def __init__(
        self, engine: Engine, spoil: Callable[[int, Prediction], None] | None = None
    ) -> None:
        self.engine = engine
        self.spoil = spoil
        self.calls: list[tuple[Tensor, float, Conditioning]] = []

    def __call__(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        prediction = self.engine(latents, timestep, conditioning)
        if self.spoil:
            self.spoil(len(self.calls), prediction)
        copied = Conditioning({name: value.clone() for name, value in conditioning.tensors.items()})
        self.calls.append((latents.clone(), timestep, copied))
        return prediction


class Recorder:
    """Records activations by (step, network, layer), their order, and the labels."""

    def __init__(self) -> None:
        self.activations: dict[tuple[int, str, str], Tensor] = {}
        self.labels: list[Labels] = []

    @property
    def order(self) -> list[tuple[int, str, str]]:
        return list(self.activations)

    def update(self, step: int, network: str, layer: str, activation: Tensor, grid: Grid) -> None:
        assert not self.labels
        assert (step, network, layer) not in self.activations
        self.activations[step, network, layer] = activation.clone()

    def finish(self, labels: Labels) -> None:
        self.labels.append(labels)


def label(images: Tensor) -> Labels:
    return Labels(images.mean(1), images[:, 0] > 0.5)
