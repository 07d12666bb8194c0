"""A family of denoisers: what a diffusers folder must hold, and how its networks are used."""

from __future__ import annotations

import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.configurations import (
    Configuration,
    class_in,
    names_of,
    read_object,
    require_folder,
    whole,
)
from engines.errors import EngineError
from engines.stored_weights import adapter_in, quantised_in

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.conditioning import Conditioning, Inputs
    from engines.denoiser import Denoiser
    from engines.engine import Tap

PIPELINE = "pipeline"
Classes = Mapping[str, tuple[str, ...]]
"""Part of a model -> names of the classes that it may have; the first is the one that loads it."""


class Family(ABC):
    """Each file or package of ``engines/families`` defines one as ``FAMILY``."""

    title: str
    """What it is in words, such as ``Stable Diffusion 3 and 3.5``."""
    pipelines: tuple[str, ...]
    """Classes of diffusers pipelines that it stands for."""
    denoiser: str = "transformer"
    """The part that is probed."""
    networks: ClassVar[Classes]
    """Parts with weights, the denoiser among them."""
    tokenizers: ClassVar[Classes]
    """Parts that split text into tokens."""
    optional: tuple[str, ...] = ()
    """Parts that a model may lack."""
    kinds: tuple[str, ...] = ("attention",)
    """Kinds of taps that the denoiser has."""
    samplers: tuple[str, ...] = ("model", "flow-euler", "dpm", "unipc")
    """Samplers that can run it; the first is the default."""
    guidance: float = 4.5
    """Default strength of classifier-free guidance."""
    guides_by_rows: bool = True
    """Whether guidance is a second half of the batch with the empty prompt by default."""
    most_shift: float = 1.15
    """Largest shift of a schedule that depends on the image's size, where it names none."""
    spaced_sigmas: bool = False
    """Whether the sigmas of a flow are spaced evenly, whatever the schedule says."""

    def configurations(self, folder: Path, index: Configuration) -> dict[str, Configuration]:
        """Every part's configuration, and the scheduler's, checked as far as files can tell.

        Raises EngineError for a part that is missing or of another class, and for a kind of model
        that is not supported.
        """
        found: dict[str, Configuration] = {}
        pipeline = index.get("_class_name")
        if pipeline not in (None, "DiffusionPipeline", *self.pipelines):
            self.refuse(folder, f"is made for {pipeline}")
        self.refuse(folder, self._lacking(index))
        for part in self.present(index):
            require_folder(folder, part)
            if part in self.tokenizers:
                name, known = class_in(index, part), self.tokenizers[part]
                if name not in (*known, *_ANY_TOKENIZER):
                    self.refuse(folder, f"has {name} as its {part}, where {known[0]} is supported")
                continue
            config = read_object(folder / part / "config.json")
            self.refuse(folder, self._other_class(part, config, index))
            if adapter := adapter_in(folder / part):
                self.refuse(folder, f"holds an adapter such as a LoRA in its {part} ({adapter})")
            if name := quantised_in(folder / part):
                self.refuse(folder, f"has quantised weights in its {part} ({name})")
            found[part] = config
        for part in index:
            if class_in(index, part) and part not in (*self.networks, *self.tokenizers, *UNUSED):
                self.refuse(folder, f"has a {part} ({class_in(index, part)})")
        require_folder(folder, "scheduler")
        found["scheduler"] = read_object(folder / "scheduler" / "scheduler_config.json")
        found["scheduler"].setdefault("_class_name", class_in(index, "scheduler"))
        self._require_sizes(folder, found)
        self.refuse(folder, self.reason(found))
        self.refuse(folder, self._other_channels(found))
        return found

    def present(self, index: Configuration) -> tuple[str, ...]:
        """Parts that a model with this index has."""
        return tuple(part for part in (*self.networks, *self.tokenizers) if class_in(index, part))

    def _lacking(self, index: Configuration) -> str | None:
        for part in (*self.networks, *self.tokenizers):
            if part not in self.optional and class_in(index, part) is None:
                return f"has no {part}"
        return None

    def _other_class(self, part: str, config: Configuration, index: Configuration) -> str | None:
        if config.get("quantization_config"):
            return f"has quantised weights in its {part}"
        known = self.networks[part]
        for name in (class_in(index, part), *names_of(config)):
            if name is not None and name not in known:
                return f"has {name} as its {part}, where {known[0]} is supported"
        return None

    def _require_sizes(self, folder: Path, found: dict[str, Configuration]) -> None:
        for part, keys in ((self.denoiser, _SIZES), ("vae", ("latent_channels",))):
            for key in keys:
                value = found[part].get(key)
                # Null channels are those that go in.
                if key in found[part] and (value is not None or key != "out_channels"):
                    whole(value, folder / part / "config.json", key)

    def _other_channels(self, found: dict[str, Configuration]) -> str | None:
        channels = self.latent_shape(found)[0]
        decoded = found["vae"].get("latent_channels", channels)
        if decoded != channels:
            return f"takes {channels} channels where its autoencoder has {decoded}"
        taken, given = (found[self.denoiser].get(key) for key in ("in_channels", "out_channels"))
        # Twice as many hold a variance beside the prediction.
        if taken is not None and given not in (None, taken, 2 * taken):
            return f"gives {given} channels where it takes {taken}"
        return None

    def refuse(self, folder: Path, reason: str | None) -> None:
        """Raise EngineError if there is a reason, the end of a sentence about the model."""
        if reason:
            raise EngineError(
                f"the model in {folder} is not supported: it {reason}; supported is "
                f"{self.title} that generates from text and noise alone"
            )

    def reason(self, found: dict[str, Configuration]) -> str | None:
        """Why configurations of the right classes are not supported; None if they are."""
        return None

    def wrapped(self, module: Any, latent_shape: tuple[int, int, int]) -> Denoiser:
        """A network of this family in the form that engines run."""
        from engines.denoiser import Denoiser

        return Denoiser(module, self.predict, latent_shape, self.inputs(module.config))

    def pipeline(self, parts: Any, scheduler: Any) -> Any:
        """The model's :class:`Components` as diffusers' own pipeline, with this scheduler."""
        import diffusers

        lacking = {name: None for name in self.optional if name not in parts.parts}
        kind = getattr(diffusers, str(parts.settings.get(PIPELINE, self.pipelines[0])))
        return kind(**parts.parts, **lacking, scheduler=scheduler)

    @abstractmethod
    def latent_shape(self, found: dict[str, Configuration]) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent of the model's own size."""

    def settings(self, index: Configuration) -> dict[str, Any]:
        """Facts of the index that conditioning depends on."""
        named = str(index.get("_class_name"))
        return {PIPELINE: named if named in self.pipelines else self.pipelines[0]}

    def embeds_guidance(self, config: Any) -> bool:
        """Whether the strength of guidance is an input of the denoiser."""
        return False

    def patch(self, config: Any) -> int:
        """Rows and columns of a latent must be multiples of this."""
        return int(config.patch_size)

    def lengths(self, parts: Any) -> dict[str, int]:
        """Tokens of a prompt, padded, that each text encoder of the model reads."""
        return {
            name.replace("tokenizer", "text_encoder"): (
                int(parts.parts[name].model_max_length)
                if kinds[0].startswith("CLIP")
                else self.longest(parts)
            )
            for name, kinds in self.tokenizers.items()
            if name in parts.parts
        }

    def longest(self, parts: Any) -> int:
        """Tokens that diffusers' pipeline passes to a language model such as T5."""
        import diffusers

        kind = getattr(diffusers, str(parts.settings.get(PIPELINE, self.pipelines[0])))
        return int(inspect.signature(kind.encode_prompt).parameters["max_sequence_length"].default)

    def words(self, parts: Any) -> int:
        """Words that the denoiser reads of a prompt, as :meth:`embed` would give them."""
        return list(self.lengths(parts).values())[-1]

    @abstractmethod
    def embed(self, parts: Any, prompts: Sequence[str]) -> Conditioning:
        """The conditioning of prompts, on the CPU, by the parts of the model's :class:`Components`.

        An empty prompt is the unconditional branch.
        """

    @abstractmethod
    def predict(
        self, module: Any, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Call the denoiser once; the prediction has the latents' shape."""

    @abstractmethod
    def inputs(self, config: Any) -> Inputs:
        """The conditioning tensors that the denoiser reads."""

    @abstractmethod
    def taps(self, module: nn.Module, kind: str, shape: tuple[int, int, int]) -> tuple[Tap, ...]:
        """The taps of one kind in the order of computation, for latents of ``shape``.

        Raises EngineError for a kind that the denoiser does not have.
        """


_ANY_TOKENIZER = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes that say nothing of the tokens."""
_SIZES = ("in_channels", "out_channels", "sample_size", "patch_size")
UNUSED = ("scheduler", "safety_checker", "feature_extractor", "image_encoder")
"""Parts that generating from text and noise does not need."""


def families() -> Iterator[tuple[str, Family]]:
    """Every family with its name."""
    package = import_module("engines.families")
    for entry in pkgutil.iter_modules(package.__path__):
        yield entry.name, import_module(f"engines.families.{entry.name}").FAMILY


def family_of(folder: Path, index: Configuration) -> Family:
    """The family of a model, by the class of its pipeline, or else by the class of its denoiser.

    Raises EngineError if there is none.
    """
    pipeline = str(index.get("_class_name") or "")
    found = [family for _, family in families()]
    for family in found:
        if pipeline in family.pipelines:
            return family
    for family in found:
        if class_in(index, family.denoiser) in family.networks[family.denoiser]:
            return family
    for family in found:
        # Its own check says what is wrong with a folder that has this part.
        if family.denoiser in index and family.denoiser != Family.denoiser:
            return family
    raise EngineError(
        f"the model in {folder} is not supported: it is made for {pipeline or 'no pipeline'}; "
        f"supported are {', '.join(family.title for family in found)}"
    )
