# SPDX-License-Identifier: Apache-2.0
"""What a session says of its model, without its weights in memory."""

from __future__ import annotations

from bascule.feeds import Signature
from bascule.metadata import NodeArg
from bascule.session import InferenceSession


class DescribedSession(InferenceSession):
    """A session that was not compiled: it knows its inputs, options and providers, and cannot run.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, InvalidArgument, Fail: as InferenceSession, but
            that nodes for which there is no kernel are not noticed.
    """

    def _compile(self) -> None:
        # Imported here: they import onnx.
        from bascule.compiler import take_defaults
        from bascule.overrides import load_with

        model = load_with(self._source, self._options)
        defaults = take_defaults(model)
        inputs, outputs = model.graph.inputs, model.graph.outputs
        arguments = [NodeArg.of(value) for value in inputs]
        self._inputs_meta = [arg for arg in arguments if arg.name not in defaults]
        self._signature = Signature(
            [(value.name, value.type) for value in inputs],
            [value.name for value in outputs],
            {name: constant.numpy() for name, constant in defaults.items()},
        )

    def compiled(self) -> InferenceSession:
        """The same session with all that it needs to run, its weights included."""
        return InferenceSession(
            self._source, self._options, *self._asked, disabled_optimizers=self._disabled
        )
