# SPDX-License-Identifier: Apache-2.0
"""Operators that Python functions run (docs/custom_operators.md)."""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from bascule.errors import ALL, Fail, InvalidArgument, InvalidGraph
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.infer_uncovered import add_type_rule
from bascule.ir.types import TensorType, Type
from bascule.providers.cpu.host.registry import (
    HostFunction,
    Unavailable,
    host_operator,
    remove_host_operator,
)
from bascule.providers.cuda.registry import Kernel, device_operator

if TYPE_CHECKING:
    from bascule.gradient.build import Builder, Term
    from bascule.operator_libraries import LibraryOperator

_RESERVED = frozenset(
    ("", "ai.onnx", "ai.onnx.ml", "bascule", "com.microsoft", "com.microsoft.nchwc")
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Element type and shape of a tensor, as a rule of an operator sees it before anything is run.

    Attributes:
        dtype: the NumPy element type; strings are ``object``.
        shape: a whole number, a name or None for each size, or None if the rank is not known.
    """

    dtype: Any
    shape: Union[tuple[Union[int, str, None], ...], None] = None


TypeRule = Callable[..., Any]


class Operator:
    """An operator that a Python function runs; `operator` makes one.

    It is called like the function.

    Args:
        function: what runs it.
        domain: of the operator.
        name: the operator's.
        since: the version of the domain that brought it in this form.

    Attributes:
        domain, name, since: what models call it, and the opset version of the domain that brought
            it in its present form.
    """

    def __init__(self, function: Callable[..., Any], domain: str, name: str, since: int) -> None:
        self.domain = domain
        self.name = name
        self.since = since
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._signature = inspect.signature(function)
        self._numba: Callable[..., Any] | None = None
        self._cuda: Callable[..., Any] | None = None
        self._is_captured = False
        self._types: TypeRule | None = None
        self._gradient: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Operator {self.domain}.{self.name} since {self.since}{self._signature}>"

    def types(self, rule: TypeRule) -> TypeRule:
        """Decorate the rule for element types and shapes.

        It is called as the operator's function is, with a TensorSpec for each input that is known,
        and None for those that are left out; it returns a TensorSpec, or a tuple with one for each
        output, None for what it does not know. Without a rule, outputs have the element type of the
        first input, and any shape.
        """
        self._types = rule
        return rule

    def gradient(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate the rule that `bascule.grad` uses.

        It is called as ``rule(build, dy, *inputs, **attributes)``. `dy` is the gradient with
        respect to the output (a list, with None where there is none, for several), and `inputs` are
        terms: arithmetic on them, and ``build.Exp(x)`` for any standard operator, makes nodes. It
        returns a gradient for each input, None for those that it does not depend on.
        """
        self._gradient = rule
        return rule

    def numba(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a version that Numba compiles where it is installed (``bascule[numba]``).

        It is called with the inputs, then the attributes, in the order of its parameters; it has no
        keyword-only parameters, and takes no None unless Numba can type it.
        """
        self._numba = function
        return function

    def cuda(
        self, function: Callable[..., Any] | None = None, *, captured: bool = False
    ) -> Callable[..., Any]:
        """Decorate a version for sessions on a GPU, written with CuPy.

        It is called like the operator's function, with a CuPy array over device memory for each
        input, which it must not write into, and returns new CuPy arrays. The session's stream is
        the current one, so what CuPy starts needs no waiting for. Inputs and outputs are not
        copied to the host. Element types that CuPy has not (bfloat16, float8, int4) go to the CPU.

        Args:
            function: the version; ``@op.cuda`` and ``@op.cuda(captured=True)`` both do.
            captured: whether the function may be called once for a set of shapes, and what it
                started be replayed from then on: it starts the same work for the same shapes,
                waits for nothing, and keeps no array.
        """

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            self._cuda, self._is_captured = function, captured
            return function

        return decorate if function is None else decorate(function)

    # --- what the compiler asks

    def _function_for(self, node: Node) -> HostFunction:
        """The function that runs `node`.

        Raises:
            InvalidGraph: its inputs and attributes are none that the function takes.
        """
        attributes = self._checked_attributes(node)
        several = len(node.outputs) > 1
        compiled = None if self._numba is None else _compiled(self._numba)
        if compiled is not None:
            assert self._numba is not None
            rest = list(inspect.signature(self._numba).parameters.values())[len(node.inputs) :]
            values = [attributes.get(p.name, self._default(p)) for p in rest]
            return lambda *inputs: _outputs(compiled(*inputs, *values), several)
        function = self.__wrapped__
        return lambda *inputs: _outputs(function(*inputs, **attributes), several)

    def _checked_attributes(self, node: Node) -> dict[str, Any]:
        """The attributes of a node that the function takes."""
        attributes = _attributes(node)
        arguments = [None] * len(node.inputs)
        try:
            self._signature.bind(*arguments, **attributes)
        except TypeError as error:
            raise InvalidGraph(
                f"{self.domain}.{self.name} node '{node.name}': {error}; the function takes "
                f"{self._signature}"
            ) from None
        return attributes

    def _kernel_for(self, node: Node) -> Kernel | str:
        """What runs `node` on a GPU, or why nothing does."""
        if self._cuda is None:
            return "the operator has no version for CUDA"
        # Imported here: only sessions on a GPU need it.
        from bascule.providers.cuda.python_kernel import python_kernel

        function, attributes = self._cuda, _attributes(node)
        return python_kernel(
            node, lambda *inputs: function(*inputs, **attributes), self._is_captured
        )

    def _default(self, parameter: inspect.Parameter) -> Any:
        """What the compiled version gets where a node says nothing: as the function itself."""
        if parameter.default is not parameter.empty:
            return parameter.default
        own = self._signature.parameters.get(parameter.name)
        return None if own is None or own.default is own.empty else own.default

    def _types_of(self, node: Node) -> tuple[Type | None, ...]:
        inputs = [_spec(value) for value in node.inputs]
        if self._types is None:
            first = next((spec for spec in inputs if spec is not None), None)
            found: Any = None if first is None else (TensorSpec(first.dtype),) * len(node.outputs)
        elif any(v is not None and s is None for v, s in zip(node.inputs, inputs)):
            return ()  # a later round knows more
        else:
            attributes = self._checked_attributes(node)
            try:
                found = self._types(*inputs, **attributes)
            except Exception as error:
                raise InvalidGraph(
                    f"{self.domain}.{self.name} node '{node.name}': the rule for its types raised "
                    f"{type(error).__name__}: {error}"
                ) from error
        specs = found if isinstance(found, tuple) else (found,)
        try:
            return tuple(None if spec is None else _type(spec) for spec in specs)
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidGraph(
                f"{self.domain}.{self.name} node '{node.name}': the rule for its types returned "
                f"{found!r}, which is no TensorSpec: {error}"
            ) from None

    def _differentiate(self, node: Node, dy: Any, build: Builder) -> Sequence[Term | None]:
        assert self._gradient is not None
        inputs = [build.optional(value) for value in node.inputs]
        from bascule.gradient.build import Term
        from bascule.gradient.registry import Refusal

        attributes = self._checked_attributes(node)
        problem = f"{self.domain}.{self.name} node '{node.name}': the rule for its gradient"
        try:
            found = self._gradient(build, dy, *inputs, **attributes)
        except (*ALL, Refusal):
            raise
        except Exception as error:
            raise Fail(f"{problem} raised {type(error).__name__}: {error}") from error
        slopes = list(found) if isinstance(found, (list, tuple)) else [found]
        if len(slopes) < len(inputs):
            raise Fail(f"{problem} returned {len(slopes)} of {len(inputs)}, one for each input")
        for slope in slopes:
            if slope is not None and not isinstance(slope, Term):
                raise Fail(f"{problem} returned {slope!r}, which is no term")
        return slopes


def check_domain(operator: Operator | LibraryOperator) -> None:
    """Refuse an operator in a domain of the standard, or of ours."""
    if operator.domain in _RESERVED or operator.domain.startswith("ai.onnx."):
        raise InvalidArgument(
            f"operator '{operator.name}' cannot be of domain '{operator.domain}', whose "
            "operators are given; choose a domain of your own"
        )


class OperatorRegistry:
    """Operators by domain, name and the version that brought them.

    The kernels, types and gradients of the standard's operators stand in such tables, too: what a
    model calls is looked up wherever a session, a gradient or a tool needs it, in any thread.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], dict[int, Operator | LibraryOperator]] = {}

    def __iter__(self) -> Any:
        return (o for versions in self._versions.values() for o in versions.values())

    def add(self, operator: Operator | LibraryOperator, replace: bool = False) -> None:
        """Let models call the operator.

        Raises:
            InvalidArgument: there is one of this name and version, and `replace` is not set, or the
                domain is one of the standard.
        """
        key = operator.domain, operator.name
        check_domain(operator)
        if operator.since < 1:
            raise InvalidArgument(f"since={operator.since}: opset versions begin with 1")
        versions = self._versions.setdefault(key, {})
        if operator.since in versions and not replace:
            raise InvalidArgument(
                f"there is an operator {'.'.join(key)} since {operator.since} already; pass "
                "replace=True to put another in its place"
            )
        versions[operator.since] = operator
        self._publish(key)

    def remove(self, operator: Operator | LibraryOperator) -> None:
        """Forget the operator; sessions that use it go on."""
        key = operator.domain, operator.name
        versions = self._versions.get(key, {})
        if versions.get(operator.since) is operator:
            del versions[operator.since]
        if not versions:
            self._versions.pop(key, None)
        self._publish(key)

    def find(self, node: Node) -> Operator | LibraryOperator | None:
        """The version of the node's operator that is in force."""
        versions = self._versions.get((node.domain, node.op_type), {})
        allowed = [v for v in versions if node.opset is None or v <= node.opset]
        return versions[max(allowed)] if allowed else None

    def bind(self, model: Model) -> None:
        """Write the version that is in force into nodes of operators that have several."""
        for graph, imports in [
            (model.graph, model.opset_imports),
            *((f.body, f.opset_imports) for f in model.functions.values()),
        ]:
            for node in graph.walk_nodes():
                if (node.domain, node.op_type) in self._versions and node.opset is None:
                    node.opset = imports.get(node.domain)

    def _publish(self, key: tuple[str, str]) -> None:
        """Enter the operator in the tables of kernels, types and gradients, or take it out."""
        from bascule.gradient.registry import ALL, gradient, remove_gradient

        domain, name = key
        remove_host_operator(name, domain)
        add_type_rule(domain, name, None)
        remove_gradient(name, domain)
        device_operator(name, domain, None)
        if key not in self._versions:
            return

        def factory(node: Node) -> HostFunction:
            found = self.find(node)
            if found is None:
                first = min(self._versions.get(key, {0: None}))
                raise Unavailable(
                    f"the operator is there since version {first} of its domain; the model is for "
                    f"version {node.opset}"
                )
            return found._function_for(node)

        def types(node: Node) -> tuple[Type | None, ...]:
            found = self.find(node)
            return () if found is None else found._types_of(node)

        def derivative(node: Node, dy: Any, build: Builder) -> Any:
            found = self.find(node)
            assert found is not None
            if not isinstance(found, Operator) or found._gradient is None:
                from bascule.gradient.registry import Refusal

                raise Refusal(f"operator {domain}.{name} was registered without a gradient")
            one = isinstance(dy, list) and len(node.outputs) == 1
            return found._differentiate(node, dy[0] if one else dy, build)

        def kernel(node: Node) -> Kernel | str:
            found = self.find(node)
            if not isinstance(found, Operator):
                return "libraries run on the CPU" if found is not None else "no such version"
            return found._kernel_for(node)

        host_operator(name, domain)(factory)
        device_operator(name, domain, kernel)
        add_type_rule(domain, name, types)
        gradient(name, domain=domain, outputs=ALL)(derivative)


registry = OperatorRegistry()
"""What `operator` registers in. One for the process, as models are compiled in many places (by
sessions, `load`, `grad`, tools, other libraries), none of which could hand on a table of its own.
"""


def operator(
    domain: str, name: str, since: int = 1, *, replace: bool = False
) -> Callable[[Callable[..., Any]], Operator]:
    """Make a Python function an operator that models can call.

    The function takes a read-only array for each input, None for one that is left out, and the
    node's attributes as keyword arguments (numbers, strings, lists, arrays). It returns an array,
    or a tuple with one for each output. Sessions call it from any thread, several at once perhaps.
    What it raises ends the run as Fail, which names the node and has the exception as its cause.

    Args:
        domain: of your own, such as ``"my.domain"``; models import it in some version.
        name: the operator's.
        since: the version of the domain that brought the operator in this form. Of several, the
            last that the model's version knows is in force.
        replace: whether one of the same name and version may be there already.

    Raises:
        InvalidArgument: it is there already, or the domain is one of the standard.

    Examples:
        >>> @bascule.operator("my.domain", "Scale")
        ... def scale(x, bias=None, *, factor=1.0):
        ...     return x * np.float32(factor) if bias is None else x * np.float32(factor) + bias
        >>> @scale.types
        ... def _(x, bias=None, *, factor=1.0):
        ...     return x
        >>> @scale.gradient
        ... def _(build, dy, x, bias=None, *, factor=1.0):
        ...     return [dy * factor, dy]
    """

    def register(function: Callable[..., Any]) -> Operator:
        made = Operator(function, domain, name, since)
        registry.add(made, replace)
        return made

    return register


def _attributes(node: Node) -> dict[str, Any]:
    """Attributes as the function gets them."""
    found: dict[str, Any] = {}
    for name, value in node.attributes.items():
        if isinstance(value, Constant):
            value = value.numpy()
        elif isinstance(value, array):
            value = list(value)
        elif isinstance(value, Graph):
            raise InvalidGraph(
                f"{node.domain}.{node.op_type} node '{node.name}': attribute '{name}' is a graph, "
                "which no function takes"
            )
        found[name] = value
    return found


def _spec(value: Value | None) -> TensorSpec | None:
    if value is None or not isinstance(value.type, TensorType):
        return None
    return TensorSpec(value.type.dtype.numpy, value.type.shape)


def _type(spec: TensorSpec) -> TensorType:
    shape = None if spec.shape is None else tuple(spec.shape)
    return TensorType(DataType.from_numpy(spec.dtype), shape)


def _outputs(returned: Any, several: bool) -> Any:
    """What the function returned as the runtime takes it: arrays, in a tuple if several."""
    if several and isinstance(returned, (list, tuple)):
        return tuple(None if item is None else np.asarray(item) for item in returned)
    return np.asarray(returned) if isinstance(returned, (bool, int, float, str)) else returned


def _compiled(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function compiled by Numba; None where that is not installed."""
    try:
        # Imported here: it takes long, and few operators are compiled.
        import numba
    except ImportError:
        return None
    made: Callable[..., Any] = numba.njit(nogil=True)(function)
    return made
