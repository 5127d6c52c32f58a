# SPDX-License-Identifier: Apache-2.0
"""Models that compute the gradient of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Union

from bascule.errors import InvalidArgument

if TYPE_CHECKING:
    from bascule.ir.graph import Graph, Model, Value
    from bascule.ir.load import Source

_IR_VERSION = 10
"""At least; older ones do not know all element types."""


def grad(
    model: Source,
    wrt: Union[str, Iterable[str]],
    of: Union[str, Iterable[str]],
    *,
    keep_outputs: bool = False,
    allow_unused: bool = False,
) -> bytes:
    """Differentiate a model, by reverse mode, to a model that computes the gradient.

    The result consists of standard operators of the newest opset: any runtime can run it, and it
    can be differentiated again.

    Source: reverse mode, as in A. Griewank, A. Walther, Evaluating Derivatives, 2nd ed., SIAM 2008,
    chapter 3; the rules of the operators follow from their definitions in the ONNX standard.

    Args:
        model: the path of an .onnx file, its bytes, a file object or an onnx.ModelProto.
        wrt: what to differentiate with respect to: the name, or names, of inputs, initializers or
            values in between, tensors of floating-point numbers. One that is computed from another
            counts towards the gradient of that one.
        of: the name, or names, of what is differentiated, an output or any other value. Of a tensor
            it is the sum of the elements, of several values the sum of all.
        keep_outputs: whether the outputs of `model` are outputs of the result too: before the
            gradients.
        allow_unused: make the gradient zeros where `of` does not depend on a name in `wrt`, instead
            of an error.

    Returns:
        The serialized model. Its inputs are those of `model`; it has an output ``<name>_grad`` for
        each name in `wrt`, in their order, of the type and shape of what is named.

    Raises:
        InvalidArgument: a name is unknown or not of a tensor of floating-point numbers, or `of`
            does not depend on it.
        NotImplemented: operators that are in the way have no derivative here; all are listed.

    Examples:
        >>> gradient = bascule.grad("model.onnx", wrt=["weight", "bias"], of="loss")
        >>> session = bascule.InferenceSession(gradient)
        >>> weight_grad, bias_grad = session.run(None, feeds)
    """
    from bascule.canonical import canonicalize
    from bascule.gradient import bind_gradients, expand_gradients, request_gradient
    from bascule.ir.infer import infer_types
    from bascule.ir.inline import inline_functions
    from bascule.ir.load import load_model
    from bascule.ir.save import to_bytes
    from bascule.native import block_size
    from bascule.operators import registry

    def settle(model: Model) -> None:
        canonicalize(model, block_size=block_size())
        infer_types(model)

    loaded = load_model(model)
    registry.bind(loaded)
    graph = loaded.graph
    names = [wrt] if isinstance(wrt, str) else list(wrt)
    xs = _values(graph, names, "wrt")
    ys = _values(graph, [of] if isinstance(of, str) else list(of), "of")
    bind_gradients(loaded)
    gradients = request_gradient(loaded, ys, xs)
    if not keep_outputs:
        while graph.outputs:
            graph.outputs.pop().output_count -= 1
    for name, gradient in zip(names, gradients):
        gradient.name = graph.fresh_name(f"{name}_grad")
        graph.add_output(gradient)
    inline_functions(loaded)
    settle(loaded)
    expand_gradients(loaded, settle, allow_unused=allow_unused)
    _drop_unused(loaded)
    loaded.ir_version = max(loaded.ir_version, _IR_VERSION)
    return to_bytes(loaded)


def _values(graph: Graph, names: Sequence[str], argument: str) -> list[Value]:
    known = {value.name: value for value in graph.inputs}
    known.update(graph.initializers)
    known.update((value.name, value) for node in graph for value in node.outputs)
    if not names:
        raise InvalidArgument(f"'{argument}' names no value")
    for name in names:
        if name not in known:
            inputs = ", ".join(value.name for value in graph.inputs)
            outputs = ", ".join(value.name for value in graph.outputs)
            raise InvalidArgument(
                f"'{argument}' names '{name}', which is no value of the model; "
                f"its inputs are {inputs or 'none'}, its outputs {outputs or 'none'}"
            )
    return [known[name] for name in names]


def _drop_unused(model: Model) -> None:
    """Take out what computes nothing that is asked for, and the domains of it."""
    graph = model.graph
    for node in reversed(graph):
        if all(value.is_unused for value in node.outputs):
            graph.remove(node)
    graph.remove_unused_initializers()
    used = {"", *(node.domain for node in graph.walk_nodes())}
    model.opset_imports = {d: v for d, v in model.opset_imports.items() if d in used}
