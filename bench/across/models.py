"""What differs between the models of several runs: architecture, objective, seed and training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.model import model_spec
from bench.options.validation import Record, read_record
from bench.runs.conditions import stored_conditions
from bench.runs.results import Results
from bench.verdicts.cells import is_unet
from engines.cache import hash_of_config
from engines.samplers import is_flow

TRAINING = "training.json"
_ARCHITECTURES = {
    "UNet2DConditionModel": "UNet",
    "SD3Transformer2DModel": "MMDiT",
    "FluxTransformer2DModel": "MMDiT",
    "PixArtTransformer2DModel": "DiT",
    "SanaTransformer2DModel": "DiT",
}
"""Class of a denoiser -> its kind: joint attention with the words (MMDiT) or cross-attention."""
OF_SAMPLING = ("sampler", "guidance", "precision")
"""Conditions in which models may differ, as they are compared at equal noise levels."""
FLOW, NOISE = "flow", "noise"
ARCHITECTURE, OBJECTIVE, CONFIGURATION = "architecture", "objective", "configuration"
"""In what models can differ, by the names of the fields of :class:`Model`."""
_DENOISERS = ("unet", "transformer")


class TrainingRecord(Record):
    """``training.json`` in the folder of a model."""

    seed: int
    training_images: int


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One finished run and what is known of its model."""

    name: str
    results: Results
    architecture: str
    """UNet, MMDiT, DiT, or transformer where the class is not known."""
    objective: str
    """noise or flow: what the network was trained to predict."""
    configuration: str
    """Hash of the denoiser's configuration; empty where it is not at hand, as for a hub id."""
    seed: int | None
    """Of its training; None if its folder does not say it."""
    training_images: int | None

    @property
    def sampling(self) -> dict[str, str | int | float | None]:
        """Condition of ``OF_SAMPLING`` -> its value; None where the run did not record it."""
        stored = stored_conditions(self.results)
        return {name: stored.get(name) for name in OF_SAMPLING}

    @property
    def design(self) -> tuple[str, str, str]:
        """Networks that are equal in this are one network, trained by one objective."""
        return self.architecture, self.configuration, self.objective

    @property
    def kind(self) -> tuple[tuple[str, str, str], int | None]:
        """Networks that are equal in this differ by their seed alone."""
        return self.design, self.training_images


def unlike(one: Model, other: Model, names: Sequence[str]) -> list[str]:
    """Return in which of the named fields two models differ.

    The configuration is added where the architecture is the same and its size, for one, is not.
    """
    found = [name for name in names if getattr(one, name) != getattr(other, name)]
    if one.architecture == other.architecture and one.configuration != other.configuration:
        found.append(CONFIGURATION)
    return found


def models_of(runs: Sequence[Results]) -> list[Model]:
    """Describe the models of runs. Raises UserError unless there are several, each once."""
    if len(runs) < 2:
        raise UserError("one run shows one model; give the run folders of two or more models")
    models = [described(results) for results in runs]
    names = [model.name for model in models]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"two of the runs are of the model {twice[0]}; give one run of each model")
    return models


def described(results: Results) -> Model:
    """Describe the model of a run. Raises UserError for random weights or a damaged record."""
    if results.untrained:
        raise UserError(f"{results.path} is of random weights; give runs of trained models")
    folder = Path(model_spec(results.config.model).source)
    training = _training(folder)
    return Model(
        name=Path(results.config.model).name,
        results=results,
        architecture=_architecture(folder) or ("UNet" if is_unet(results) else "transformer"),
        objective=_objective(folder, results),
        configuration=_configuration(folder),
        seed=None if training is None else training.seed,
        training_images=None if training is None else training.training_images,
    )


def _training(folder: Path) -> TrainingRecord | None:
    """Return the record of a model's training; None where there is none."""
    try:
        return read_record(TrainingRecord, folder / TRAINING)
    except OSError:
        return None
    except ValueError as error:
        raise UserError(
            f"{folder / TRAINING} is no record of a training ({error}); mend it or remove it"
        ) from error


def _json(path: Path) -> dict[str, object]:
    """Return a model's configuration; empty where it is not at hand, as for a hub id."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _architecture(folder: Path) -> str | None:
    index = _json(folder / "model_index.json")
    for entry in map(index.get, _DENOISERS):
        if isinstance(entry, list) and len(entry) == 2 and entry[1] in _ARCHITECTURES:
            return _ARCHITECTURES[entry[1]]
    return None


def _configuration(folder: Path) -> str:
    for name in _DENOISERS:
        if found := _json(folder / name / "config.json"):
            return hash_of_config(found)
    return ""


def _objective(folder: Path, results: Results) -> str:
    schedule = _json(folder / "scheduler" / "scheduler_config.json")
    if not schedule:
        schedule = {"_class_name": results.record.conditions.get("sampler", "")}
    return FLOW if is_flow(schedule) else NOISE
