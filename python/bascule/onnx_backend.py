# SPDX-License-Identifier: Apache-2.0
"""The ONNX backend interface: a model is prepared once and then run on lists of arrays."""

from __future__ import annotations

import os
import unittest
from typing import Any

import numpy as np

from bascule.build_info import get_device
from bascule.options import RunOptions, SessionOptions
from bascule.providers.names import CPU, available_providers
from bascule.session import InferenceSession

# Attributes that write files are left out: a test runner passes its keywords on unseen.
_SESSION_OPTIONS = frozenset(
    {
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
        "enable_mem_reuse",
        "execution_mode",
        "execution_order",
        "graph_optimization_level",
        "inter_op_num_threads",
        "intra_op_num_threads",
        "log_severity_level",
        "log_verbosity_level",
        "logid",
        "use_deterministic_compute",
        "use_per_session_threads",
    }
)
_RUN_OPTIONS = frozenset(
    {"log_severity_level", "log_verbosity_level", "logid", "only_execute_path_to_fetches"}
)


class BackendRep:
    """A prepared model."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    def run(self, inputs: Any, **kwargs: Any) -> list[Any]:
        """Run on a list with a value for each input, or on the one input's array.

        Args:
            inputs: in the order of the model's inputs, with their shapes and element types.
            **kwargs: RunOptions attributes for logging and ``only_execute_path_to_fetches``.

        Returns:
            The outputs in graph order.

        Raises:
            RuntimeError: the number of inputs is wrong, or an option may not be set here.
            Others: as InferenceSession.run raises.
        """
        options = RunOptions()
        _set_options(options, kwargs, _RUN_OPTIONS)
        names = [argument.name for argument in self._session.get_inputs()]
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if len(values) != len(names):
            raise RuntimeError(f"Model expect {len(names)} inputs, but {len(values)} were given")
        feeds = {name: _array(value) for name, value in zip(names, values, strict=True)}
        return self._session.run(None, feeds, options)


class Backend:
    """The functions of the ONNX backend interface, as onnx.backend's test runner calls them."""

    @classmethod
    def is_compatible(cls, model: Any, device: str | None = None, **kwargs: Any) -> bool:
        """Whether the model's device is one of this build; the model itself is not looked at.

        Args:
            model: not read.
            device: 'CPU', 'GPU' or 'CUDA'; None for what the build has.
            **kwargs: ignored.
        """
        return cls.supports_device(device if device is not None else get_device())

    @classmethod
    def is_opset_supported(cls, model: Any) -> tuple[bool, str]:
        """Whether all operator sets a ModelProto imports are released ones; else also why not."""
        from onnx.helper import OP_SET_ID_VERSION_MAP

        for opset in model.opset_import:
            domain = opset.domain or "ai.onnx"
            if (domain, opset.version) not in OP_SET_ID_VERSION_MAP:
                return False, (
                    "Only released onnx opsets are supported. "
                    f"Got Domain '{domain}' version '{opset.version}'."
                )
        return True, ""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether this installation runs on `device`: 'CPU', 'GPU' or 'CUDA'."""
        return device == "CPU" or ("GPU" if device == "CUDA" else device) == get_device()

    @classmethod
    def prepare(cls, model: Any, device: str | None = None, **kwargs: Any) -> BackendRep:
        """Make a model ready to be run.

        Args:
            model: a path, the bytes of a model, a ModelProto (which onnx.checker checks), a
                session, or what this function has returned.
            device: 'CPU', 'GPU' or 'CUDA'; None for the best there is.
            **kwargs: SessionOptions attributes that write no files; unknown ones are ignored.

        Raises:
            RuntimeError: the build has no such device, or an option may not be set here.
            unittest.SkipTest: a ModelProto imports an operator set that is not released.
            Others: as InferenceSession raises.
        """
        if isinstance(model, BackendRep):
            return model
        if isinstance(model, InferenceSession):
            return BackendRep(model)
        if not isinstance(model, (str, os.PathLike, bytes)):
            model = cls._checked(model)
        if device is not None and not cls.supports_device(device):
            raise RuntimeError(f"Incompatible device expected '{device}', got '{get_device()}'")
        options = SessionOptions()
        _set_options(options, kwargs, _SESSION_OPTIONS)
        providers = [CPU] if device == "CPU" else available_providers()
        session = InferenceSession(model, options, providers=providers)
        session.disable_fallback()
        return BackendRep(session)

    @classmethod
    def _checked(cls, model: Any) -> bytes:
        from onnx.checker import check_model

        serialized: bytes = model.SerializeToString()
        check_model(serialized)
        supported, reason = cls.is_opset_supported(model)
        if not supported:
            raise unittest.SkipTest(reason)
        return serialized

    @classmethod
    def run_model(
        cls, model: Any, inputs: Any, device: str | None = None, **kwargs: Any
    ) -> list[Any]:
        """Prepare a model and run it once.

        Args:
            model: as for `prepare`.
            inputs: as for BackendRep.run: a value for each input, in order.
            device: as for `prepare`.
            **kwargs: attributes of SessionOptions and RunOptions.

        Returns:
            The outputs in graph order.

        Raises:
            Others: as `prepare` and BackendRep.run raise.
        """
        rep = cls.prepare(model, device, **kwargs)
        allowed = {name: value for name, value in kwargs.items() if name not in _SESSION_OPTIONS}
        allowed |= {name: kwargs[name] for name in kwargs if name in _RUN_OPTIONS}
        return rep.run(inputs, **allowed)

    @classmethod
    def run_node(cls, node: Any, inputs: Any, device: str | None = None, **kwargs: Any) -> Any:
        """Not offered: a node alone says nothing of its operator set.

        Args:
            node: not read.
            inputs: not read.
            device: not read.
            **kwargs: not read.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("It is much more efficient to run a whole model than every node")


def _set_options(options: Any, values: dict[str, Any], allowed: frozenset[str]) -> None:
    for name, value in values.items():
        if name in allowed:
            setattr(options, name, value)
        elif hasattr(options, name):
            raise RuntimeError(
                f"{type(options).__name__} attribute '{name}' is not permitted via the backend "
                f"API. Allowed attributes: {', '.join(sorted(allowed))}"
            )


def _array(value: Any) -> Any:
    """NumPy scalars as the arrays of rank 0 that they stand for in the backend's test data."""
    return np.asarray(value) if isinstance(value, np.generic) else value
