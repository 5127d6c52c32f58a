# SPDX-License-Identifier: Apache-2.0
"""Types and shapes of all values of a ModelProto, sizes by name: SymbolicShapeInference."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence

import onnx

from bascule.compiler import canonical_form
from bascule.ir.deserialize import read_type
from bascule.ir.graph import Model
from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from bascule.ir.merge import merge_types
from bascule.ir.serialize import write_type
from bascule.ir.types import TensorType, Type

_OLDEST_OPSET = 7
_log = logging.getLogger(__name__)


class SymbolicShapeInference:
    """The class of onnxruntime's tool, over bascule's own inference."""

    @staticmethod
    def infer_shapes(
        in_mp: onnx.ModelProto,
        int_max: int = 2**31 - 1,
        auto_merge: bool = False,
        guess_output_rank: bool = False,
        verbose: int = 0,
    ) -> onnx.ModelProto | None:
        """A copy of a model with the type and shape of each value of its main graph.

        Operators of com.microsoft are known, too. Sizes are numbers, names of the inputs' sizes,
        or names of their own.

        Args:
            in_mp: the model; None is returned for one of an opset before 7.
            int_max: accepted; indices are never taken for sizes here.
            auto_merge: accepted; where names contradict each other, the declared ones hold.
            guess_output_rank: do not raise for values of unknown rank.
            verbose: above 0, values without a shape are logged.

        Raises:
            Exception: a value has no shape that could be inferred.
            InvalidGraph, Fail: the model is wrong.
        """
        versions = {each.domain: each.version for each in in_mp.opset_import}
        if versions.get("", _OLDEST_OPSET) < _OLDEST_OPSET:
            _log.warning("Only support models of onnx opset 7 and above.")
            return None
        result = onnx.ModelProto()
        result.CopyFrom(in_mp)
        found = _types(in_mp.SerializeToString())
        unknown = list(_write(result.graph, found))
        if unknown and verbose > 0:
            _log.warning("no shape is known of %s", ", ".join(unknown))
        if unknown and not guess_output_rank:
            raise Exception(f"Incomplete symbolic shape inference: {', '.join(unknown[:10])}")
        return result


def _types(data: bytes) -> dict[str, Type]:
    """The types of the main graph's values, by name.

    The canonical form, in which operators of other domains are functions of the standard's, knows
    more of values that keep their names in it.
    """
    found: dict[str, Type] = {}
    for is_canonical in (False, True):
        model = load_model(data)
        if is_canonical:
            canonical_form(model)
        else:
            infer_types(model, check=False)
        for name, type in _named(model):
            merged = merge_types(found.get(name), type, keep_names=False)
            assert merged is not None
            found[name] = merged
    return found


def _named(model: Model) -> Iterator[tuple[str, Type]]:
    for node in model.graph:
        for value in node.outputs:
            if value.name and value.type is not None:
                yield value.name, value.type


def _write(graph: onnx.GraphProto, found: dict[str, Type]) -> Iterator[str]:
    """Declare what was found; the names of values without a shape."""
    outputs = {value.name: value for value in graph.output}
    infos = {value.name: value for value in graph.value_info}
    for node in graph.node:
        for name in node.output:
            if not name:
                continue
            info = outputs.get(name) or infos.get(name)
            declared = read_type(info.type) if info is not None else None
            type = merge_types(found.get(name), declared, keep_names=name in outputs)
            if type is None or (isinstance(type, TensorType) and type.shape is None):
                yield name
            if type is None:
                continue
            if info is None:
                info = graph.value_info.add(name=name)
            info.type.Clear()
            write_type(type, info.type)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``--input IN --output OUT``."""
    parser = argparse.ArgumentParser(description=SymbolicShapeInference.infer_shapes.__doc__)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--auto_merge", action="store_true")
    parser.add_argument("--int_max", type=int, default=2**31 - 1)
    parser.add_argument("--guess_output_rank", action="store_true")
    parser.add_argument("--verbose", type=int, default=0)
    given = parser.parse_args(arguments)
    result = SymbolicShapeInference.infer_shapes(
        onnx.load(given.input),
        given.int_max,
        given.auto_merge,
        given.guess_output_rank,
        given.verbose,
    )
    if result is not None:
        onnx.save(result, given.output)


if __name__ == "__main__":
    main()
