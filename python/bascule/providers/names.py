# SPDX-License-Identifier: Apache-2.0
"""Provider names: which exist, which this machine has, and what a caller asked for."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# Every name that code written for onnxruntime may ask for, by falling preference.
_ALL = (
    "TensorrtExecutionProvider",
    CUDA,
    "MIGraphXExecutionProvider",
    "OpenVINOExecutionProvider",
    "DnnlExecutionProvider",
    "VitisAIExecutionProvider",
    "QNNExecutionProvider",
    "NnapiExecutionProvider",
    "VSINPUExecutionProvider",
    "JsExecutionProvider",
    "CoreMLExecutionProvider",
    "DmlExecutionProvider",
    "RknpuExecutionProvider",
    "WebNNExecutionProvider",
    "WebGpuExecutionProvider",
    "XnnpackExecutionProvider",
    "CANNExecutionProvider",
    "AzureExecutionProvider",
    CPU,
)


def all_providers() -> list[str]:
    """Every known provider name, best first, the CPU last."""
    return list(_ALL)


def available_providers() -> list[str]:
    """The providers that this installation has, best first, the CPU last."""
    return [CUDA, CPU] if _has_gpu() else [CPU]


def _has_gpu() -> bool:
    """Whether CuPy is installed and finds a GPU; imported only where there is a driver for one."""
    if importlib.util.find_spec("cupy") is None or not has_driver():
        return False
    try:
        import cupy

        return bool(cupy.cuda.is_available())
    except Exception:  # a wheel for another CUDA, a broken driver: a session that asks says which
        return False


def has_driver() -> bool:
    """Whether the library of NVIDIA's driver can be loaded, without which CuPy finds no GPU."""
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def resolve_providers(
    providers: Sequence[Any] | None,
    provider_options: Sequence[Mapping[str, Any]] | None,
    fallback: bool,
) -> list[tuple[str, dict[str, str]]]:
    """(name, options) of the providers to use. The CPU is always among them, last by default.

    With `fallback`, an argument that cannot be understood is reported and the CPU is used.
    """
    try:
        chosen = _parse(providers, provider_options)
    except (RuntimeError, ValueError) as error:
        if not fallback:
            raise
        print("*************** EP Error ***************")
        print(f"EP Error {error} when using {providers}")
        print(f"Falling back to ['{CPU}'] and retrying.")
        print("****************************************")
        chosen = []
    if all(name != CPU for name, _ in chosen):
        chosen.append((CPU, {}))
    return chosen


def _parse(
    providers: Sequence[Any] | None, provider_options: Sequence[Mapping[str, Any]] | None
) -> list[tuple[str, dict[str, str]]]:
    if providers is None or (isinstance(providers, (list, tuple)) and not providers):
        return [(name, {}) for name in available_providers()]
    chosen: dict[str, dict[str, str]] = {}
    for name, options in _pairs(providers, provider_options):
        if name not in _ALL:
            is_text = isinstance(providers, str)
            hint = f" (providers are a list: ['{providers}'])" if is_text else similar_name(name)
            raise RuntimeError(f"Unknown Provider Type: {name}{hint}")
        if name not in (CPU, CUDA):  # a session that asks for CUDA says what is missing
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names. "
                f"Available providers: '{', '.join(available_providers())}'",
                stacklevel=4,
            )
        elif name in chosen:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=4)
        else:
            chosen[name] = {str(key): str(value) for key, value in options.items()}
    return list(chosen.items())


def similar_name(name: str) -> str:
    """The end of an error about an unknown provider: which was meant, perhaps."""
    meant = [each for each in _ALL if each.lower().startswith(name.lower())]
    return f" (did you mean '{meant[0]}'?)" if len(meant) == 1 else ""


def _pairs(
    providers: Sequence[Any], provider_options: Sequence[Mapping[str, Any]] | None
) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, options) of each entry; ValueError for what is malformed."""
    if not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    if provider_options is not None:
        if not isinstance(provider_options, Sequence):
            raise ValueError("'provider_options' should be a sequence.")
        if len(provider_options) != len(providers):
            raise ValueError(
                "'providers' and 'provider_options' should be the same length if both are given."
            )
        if not all(isinstance(options, Mapping) for options in provider_options):
            raise ValueError("'provider_options' values must be dicts.")
    pairs: list[tuple[str, Mapping[str, Any]]] = []
    for index, entry in enumerate(providers):
        if isinstance(entry, str):
            name, options = entry, provider_options[index] if provider_options else {}
        elif (
            isinstance(entry, tuple)
            and len(entry) == 2
            and isinstance(entry[0], str)
            and isinstance(entry[1], Mapping)
        ):
            if provider_options is not None:
                raise ValueError(
                    "When providers are given as (name, options), 'provider_options' must be None."
                )
            name, options = entry
        else:
            raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
        pairs.append((name, options))
    return pairs


def check_and_normalize_provider_args(
    providers: Sequence[Any] | None,
    provider_options: Sequence[Mapping[str, Any]] | None,
    available_provider_names: Sequence[str],
) -> tuple[list[str], list[dict[str, str]]]:
    """(names, options) of a session's arguments, with a warning for what is not available.

    Args:
        providers: names, or (name, options), by falling preference.
        provider_options: options of each, where `providers` holds names.
        available_provider_names: the names that give no warning.

    Raises:
        ValueError: an argument is malformed.
    """
    chosen: dict[str, dict[str, str]] = {}
    for name, options in _pairs(providers or [], provider_options):
        if name not in available_provider_names:
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names. "
                f"Available providers: '{', '.join(available_provider_names)}'",
                stacklevel=2,
            )
        if name in chosen:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=2)
        else:
            chosen[name] = {str(key): str(value) for key, value in options.items()}
    return list(chosen), list(chosen.values())
