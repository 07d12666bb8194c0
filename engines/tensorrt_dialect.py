"""Differences of TensorRT 10, 11 and TensorRT for RTX, by attributes, not version numbers.

Enum members are looked up by name: TensorRT 11 has other values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engines.errors import EngineError

LIBRARIES = ("tensorrt", "tensorrt_rtx")
_loggers: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Range:
    """Sizes of one input: the smallest, the one to optimise for, and the largest."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialised engine, with its builder's log."""

    data: Any
    """Bytes-like, for ``deserialize_cuda_engine``."""
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape of every output of the parsed network; -1 is a dynamic size."""
    log: tuple[str, ...]
    """All messages of the builder, down to VERBOSE."""


def library() -> Any | None:
    """The installed TensorRT, the full one before the one for RTX; None if there is none.

    Raises EngineError if one is installed and none can be loaded.
    """
    reasons = []
    for name in LIBRARIES:
        if find_spec(name) is not None:
            try:
                return import_module(name)
            except (ImportError, OSError) as error:
                line = (str(error).splitlines() or [type(error).__name__])[0]
                reasons.append(
                    f"{name} cannot be loaded ({line}); "
                    "install the version for this driver and its CUDA"
                )
    if reasons:
        raise EngineError(reasons[0])
    return None


def listener(trt: Any) -> Any:
    """The process's one logger, with its ``lines``: TensorRT keeps the first that it gets."""
    if trt.__name__ not in _loggers:

        class Listener(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                self.lines.append(f"{severity.name} {message}")

        _loggers[trt.__name__] = Listener()
    return _loggers[trt.__name__]


def network_flags(trt: Any) -> int:
    """Flags for strong typing and explicit batches, which only TensorRT 10 makes optional."""
    flags = trt.NetworkDefinitionCreationFlag
    names = [name for name in ("STRONGLY_TYPED", "EXPLICIT_BATCH") if hasattr(flags, name)]
    return sum(1 << int(getattr(flags, name)) for name in names)


def parsed(trt: Any, model: Path) -> tuple[Any, Any, Any]:
    """Builder, network and parser of an ONNX file; the parser owns the weights, so keep it.

    Raises EngineError if TensorRT cannot read the file.
    """
    log = listener(trt)
    log.lines.clear()
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        first = parser.get_error(0)
        raise EngineError(
            f"{trt.__name__} {trt.__version__} cannot read {model}: {first.node_operator()} "
            f"at {first.node_name()} ({first.desc()}); "
            "use another engine, or another version of TensorRT"
        )
    return builder, network, parser


def build_plan(
    model: Path,
    profile: Mapping[str, Range],
    capability: str | None = None,
    *,
    trt: Any = None,
    names: Sequence[str] | None = None,
) -> Plan:
    """Build the engine of an ONNX file for the input sizes in ``profile``, with outputs ``names``.

    ``capability`` is a card to build for, such as ``SM89``; TensorRT for RTX needs no card for it.
    None is the present card. Raises EngineError with the builder's message.
    """
    trt = trt or library()
    if trt is None:
        raise EngineError(
            "TensorRT is not installed; install the extra: pip install 'scenebench[tensorrt]'"
        )
    builder, network, _parser = parsed(trt, model)
    outputs = tuple(
        (tensor.name, tuple(tensor.shape))
        for tensor in map(network.get_output, range(network.num_outputs))
    )
    parsed_names = [name for name, _ in outputs]
    if names is not None and parsed_names != list(names):
        raise EngineError(f"TensorRT reads outputs {parsed_names}, not {list(names)}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if hasattr(trt.BuilderFlag, "TF32"):
        # TF32 rounds every factor to 10 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # If TensorRT for RTX allocates while it runs, no CUDA graph can be captured.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if capability is not None:
        _aim_at(trt, config, capability)
    sizes = builder.create_optimization_profile()
    for name, size in profile.items():
        sizes.set_shape(name, size.least, size.best, size.most)
    config.add_optimization_profile(sizes)
    data = builder.build_serialized_network(network, config)
    log = listener(trt)
    lines = tuple(log.lines)
    log.lines.clear()
    if data is None:
        errors = [line for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
        reason = errors[0].splitlines()[0] if errors else "it gave no reason"
        raise EngineError(f"{trt.__name__} {trt.__version__} cannot build {model}: {reason}")
    return Plan(data, outputs, lines)


def _aim_at(trt: Any, config: Any, capability: str) -> None:
    if not hasattr(config, "set_compute_capability"):
        raise EngineError(
            f"{trt.__name__} builds for the card at hand only; "
            f"use tensorrt_rtx to build for {capability}"
        )
    if not hasattr(trt.ComputeCapability, capability):
        choices = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
        raise EngineError(
            f"{trt.__name__} {trt.__version__} does not build for {capability}; it knows {choices}"
        )
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0):
        raise EngineError(f"{trt.__name__} {trt.__version__} refuses to build for {capability}")


def torch_type(trt: Any, dtype: Any) -> Any:
    """The torch type of a TensorRT type; ``trt.nptype`` fails for bfloat16, which numpy lacks."""
    import torch

    names = {
        "FLOAT": "float32",
        "HALF": "float16",
        "BF16": "bfloat16",
        "INT32": "int32",
        "INT64": "int64",
    }
    for trt_name, torch_name in names.items():
        if hasattr(trt.DataType, trt_name) and dtype == getattr(trt.DataType, trt_name):
            return getattr(torch, torch_name)
    raise EngineError(f"TensorRT's type {dtype} has no counterpart here; known: {', '.join(names)}")


def context_of(trt: Any, engine: Any) -> Any | None:
    """An execution context that uses the caller's scratch memory; None if out of memory."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    kernels = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if kernels is None or not hasattr(engine, "create_runtime_config"):
        return engine.create_execution_context(strategy)
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    # Otherwise TensorRT for RTX starts with slower kernels, and a graph would keep them.
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
    return engine.create_execution_context(config)


def is_capturable(context: Any, stream: int) -> bool:
    """Whether a CUDA graph of a context can be captured; only TensorRT for RTX may say no."""
    return not hasattr(context, "is_stream_capturable") or bool(
        context.is_stream_capturable(stream)
    )


def scratch_bytes(engine: Any) -> int:
    """Device memory for the activations of one execution context."""
    return int(
        engine.device_memory_size_v2
        if hasattr(engine, "device_memory_size_v2")
        else engine.device_memory_size
    )


def gibibytes(size: int) -> str:
    """A size as text, such as ``1.7 GiB``, rounded up."""
    return f"{math.ceil(size / 2**30 * 10) / 10:.1f} GiB"
