"""What differs between TensorRT 10, TensorRT 11 and TensorRT for RTX, found by asking the library, never its version.

Enum members are taken by name: TensorRT 11 numbers them anew.
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
    """The sizes of one input: the smallest, the one to be fastest at, and the largest."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A built engine as bytes, with what its builder said."""

    data: Any
    """Bytes-like, as ``deserialize_cuda_engine`` takes them."""
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape of every output of the parsed network; -1 where it is dynamic."""
    log: tuple[str, ...]
    """Every message of the builder, down to VERBOSE."""


def library() -> Any | None:
    """The TensorRT that is installed, the full one before the one for RTX; None without any.

    Raises EngineError when one is there and none can be loaded.
    """
    reasons = []
    for name in LIBRARIES:
        if find_spec(name) is not None:
            try:
                return import_module(name)
            except (ImportError, OSError) as error:
                line = (str(error).splitlines() or [type(error).__name__])[0]
                reasons.append(
                    f"{name} cannot be loaded ({line}); install the version for this driver and its CUDA"
                )
    if reasons:
        raise EngineError(reasons[0])
    return None


def listener(trt: Any) -> Any:
    """The process's one logger, with ``lines`` to read and to clear: TensorRT keeps the first it was given."""
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
    """Strong typing: precision is the graph's. Only TensorRT 10 knows weak typing, and explicit batches by a flag."""
    flags = trt.NetworkDefinitionCreationFlag
    wanted = [
        getattr(flags, name)
        for name in ("STRONGLY_TYPED", "EXPLICIT_BATCH")
        if hasattr(flags, name)
    ]
    return sum(1 << int(flag) for flag in wanted)


def parsed(trt: Any, model: Path) -> tuple[Any, Any, Any]:
    """Builder, network and parser of an ONNX file; the parser owns the weights, so keep it. Raises EngineError."""
    log = listener(trt)
    log.lines.clear()
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        first = parser.get_error(0)
        raise EngineError(
            f"{trt.__name__} {trt.__version__} cannot read {model}: {first.node_operator()} at {first.node_name()} "
            f"({first.desc()}); use another engine, or another version of TensorRT"
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
    """Build the engine of an ONNX file for the sizes in ``profile`` (by input), with exactly the outputs ``names``.

    ``capability`` names a card to build for, such as ``SM89``; TensorRT for RTX builds for it without any card.
    None builds for the card at hand. Raises EngineError with what the builder said.
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
    found = [name for name, _ in outputs]
    if names is not None and found != list(names):
        raise EngineError(f"TensorRT reads outputs {found}, not {list(names)}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if hasattr(trt.BuilderFlag, "TF32"):
        # fp32 means fp32: TF32 rounds every factor to 10 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # TensorRT for RTX would allocate while it runs, and then no CUDA graph can be captured.
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
        said = errors[0].splitlines()[0] if errors else "it gave no reason"
        raise EngineError(f"{trt.__name__} {trt.__version__} cannot build {model}: {said}")
    return Plan(data, outputs, lines)


def _aim_at(trt: Any, config: Any, capability: str) -> None:
    if not hasattr(config, "set_compute_capability"):
        raise EngineError(
            f"{trt.__name__} builds for the card at hand only; use tensorrt_rtx to build for {capability}"
        )
    if not hasattr(trt.ComputeCapability, capability):
        known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
        raise EngineError(
            f"{trt.__name__} {trt.__version__} does not build for {capability}; it knows {known}"
        )
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0):
        raise EngineError(f"{trt.__name__} {trt.__version__} refuses to build for {capability}")


def torch_type(trt: Any, dtype: Any) -> Any:
    """The torch type of a TensorRT type: ``trt.nptype`` raises for bfloat16, which numpy lacks."""
    import torch

    names = {
        "FLOAT": "float32",
        "HALF": "float16",
        "BF16": "bfloat16",
        "INT32": "int32",
        "INT64": "int64",
    }
    for ours, theirs in names.items():
        if hasattr(trt.DataType, ours) and dtype == getattr(trt.DataType, ours):
            return getattr(torch, theirs)
    raise EngineError(f"TensorRT's type {dtype} has no counterpart here; known: {', '.join(names)}")


def context_of(trt: Any, engine: Any) -> Any | None:
    """An execution context of an engine whose scratch memory the caller gives; None if there is no memory for it."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    kernels = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if kernels is None or not hasattr(engine, "create_runtime_config"):
        return engine.create_execution_context(strategy)
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    # TensorRT for RTX would begin with slower kernels and compile better ones on the side, which no graph would hold.
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
    return engine.create_execution_context(config)


def is_capturable(context: Any, stream: int) -> bool:
    """Whether a CUDA graph can be captured of what a context runs; only TensorRT for RTX has plans that say no."""
    return not hasattr(context, "is_stream_capturable") or bool(
        context.is_stream_capturable(stream)
    )


def scratch_bytes(engine: Any) -> int:
    """Device memory that one execution context of an engine needs for activations."""
    return int(
        engine.device_memory_size_v2
        if hasattr(engine, "device_memory_size_v2")
        else engine.device_memory_size
    )


def gibibytes(size: int) -> str:
    """A size for people, such as ``1.7 GiB``."""
    return f"{math.ceil(size / 2**30 * 10) / 10:.1f} GiB"
