"""Read a model folder's configurations, with the defaults of the classes that they name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import EngineError

if TYPE_CHECKING:
    from transformers import CLIPTextConfig

INDEX = "model_index.json"
SAMPLER_KEYS = (
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "num_train_timesteps",
    "prediction_type",
    "steps_offset",
)
"""What the sampler takes from the model's own scheduler."""
_LARGEST = 1 << 16
"""No network has a size beyond it."""
_LARGEST_NUMBER, _MOST_LAYERS, _MOST_LEVELS = 1 << 24, 256, 64
"""Beyond these, making a network takes hours or more memory than there is."""

Configuration = dict[str, Any]


def read_object(path: Path) -> Configuration:
    """Read a JSON object. Raises EngineError without one: the libraries would use defaults."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(
            f"cannot read {path} ({error}); fetch or export the model again"
        ) from error
    if not isinstance(content, dict):
        raise EngineError(f"{path} holds no JSON object; fetch or export the model again")
    for key, value in content.items():
        _refuse_absurd(path, key, value)
    return content


def _refuse_absurd(path: Path, key: str, value: object) -> None:
    """Raise EngineError for a size with which the libraries would compute for hours."""
    if isinstance(value, list):
        if "block" in key and len(value) > _MOST_LEVELS:
            raise EngineError(
                f"{path}: {key} lists {len(value)} levels, where at most {_MOST_LEVELS} are "
                "expected; correct it, or fetch the file again"
            )
        for entry in value:
            _refuse_absurd(path, key, entry)
    most = _MOST_LAYERS if "layers" in key else _LARGEST_NUMBER
    if isinstance(value, int) and abs(value) > most:
        raise EngineError(
            f"{path}: {key} is {str(value)[:60]}, where at most {most} is expected; "
            "correct it, or fetch the file again"
        )


def is_double(index: Configuration) -> bool:
    """Whether a model's index names a second text encoder; an absent part is a pair of nulls."""
    second = index.get("text_encoder_2")
    return isinstance(second, list) and bool(second) and second[0] is not None


def text_parts(index: Configuration, name: str = "text_encoder") -> tuple[str, ...]:
    """Folders of the text encoders, or of what else there is one of for each of them."""
    return (name, f"{name}_2") if is_double(index) else (name,)


def class_in(index: Configuration, part: str) -> str | None:
    """The class that a model's index gives for a part; None where it says nothing."""
    entry = index.get(part)
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
        return entry[1]
    return None


def names_of(config: Configuration) -> list[str]:
    """The classes that a part's configuration names."""
    names: Any = config.get("_class_name", config.get("architectures"))
    return [
        name for name in (names if isinstance(names, list) else [names]) if isinstance(name, str)
    ]


def require_folder(folder: Path, part: str) -> None:
    """Raise EngineError if a part's folder is missing, or holds a tokenizer without vocabulary."""
    site = folder / part
    if not site.is_dir():
        raise EngineError(f"{folder} is not a whole model: its folder {part}/ is missing")
    if part.startswith("tokenizer") and not (
        (site / "tokenizer.json").is_file()
        or any(site.glob("*.model"))
        or all((site / name).is_file() for name in ("vocab.json", "merges.txt"))
    ):
        raise EngineError(
            f"{site} holds no vocabulary: it has no tokenizer.json; fetch or export the model again"
        )


def read_configurations(folder: Path, parts: Sequence[str]) -> dict[str, Configuration]:
    """The configurations of networks, and the scheduler's. Raises EngineError if one is missing."""
    found = {part: read_object(folder / part / "config.json") for part in parts}
    return found | {"scheduler": read_object(folder / "scheduler" / "scheduler_config.json")}


def filled(kind: type, found: Configuration) -> Configuration:
    """A diffusers configuration with the defaults of its class where it says nothing."""
    return defaults_of(kind) | found


def defaults_of(kind: type) -> Configuration:
    """The defaults of a class, by the name of the argument."""
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def filled_schedule(folder: Path, found: Configuration, index: Configuration) -> Configuration:
    """The scheduler's configuration with its own class's defaults for what the sampler takes.

    Raises EngineError if something is missing and no class is known that would say it.
    """
    import diffusers

    name = found.get("_class_name") or class_in(index, "scheduler")
    kind = getattr(diffusers, str(name), None)
    defaults = defaults_of(kind) if isinstance(kind, type) else {}
    schedule = found | {
        key: defaults[key] for key in SAMPLER_KEYS if key not in found and key in defaults
    }
    optional = ("trained_betas", "steps_offset", "prediction_type")
    needed = [key for key in SAMPLER_KEYS if key not in (*optional, *schedule)]
    if needed and schedule.get("trained_betas") is None:
        raise EngineError(
            f"{folder / 'scheduler' / 'scheduler_config.json'} says no {needed[0]}, and the "
            f"defaults of its class ({name}) are not known here; add it to the file"
        )
    return schedule


def text_configuration(folder: Path, part: str) -> CLIPTextConfig:
    """A text encoder's configuration. Raises EngineError if it cannot be used."""
    from transformers import CLIPTextConfig

    try:
        config = CLIPTextConfig.from_pretrained(folder / part)
    except Exception as error:
        raise EngineError(
            f"{folder / part / 'config.json'} holds no configuration of a text encoder "
            f"({' '.join(str(error).split())}); fetch or export it again"
        ) from error
    for key in ("hidden_size", "projection_dim", "max_position_embeddings", "vocab_size"):
        whole(getattr(config, key, None), folder / part / "config.json", key)
    return config


def whole(value: object, file: Path, key: str) -> int:
    """A size in a configuration. Raises EngineError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST:
        raise EngineError(
            f"{file}: {key} is {str(value)[:60]}, where a whole number from 1 to {_LARGEST} is "
            "expected; correct it, or fetch the file again"
        )
    return value


def side_of(value: object, file: Path) -> int:
    """The side of square latents from ``sample_size``. Raises EngineError if it says none."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if value is None:
        raise EngineError(
            f"{file}: sample_size is null, so that the size of the latents is not known; "
            "set it to the side of the latents that the model was trained on"
        )
    return whole(value, file, "sample_size")
