# SPDX-License-Identifier: Apache-2.0
"""bascule info: what is in a model file."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from bascule.cli.console import make_console
from bascule.cli.session_arguments import add_model_arguments, check_dimensions, dimensions


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "info",
        help="show inputs, outputs, operators, parameters, FLOPs and memory",
        description="What is in a model file, as it stands. Symbolic sizes that --dim does not "
        "give count as 1 for FLOPs and memory.",
    )
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument(
        "--text",
        action="store_true",
        help="print all of the graph, with a hash of each weight: git config diff.onnx.textconv "
        '"bascule info --text"',
    )
    add_model_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    if options.text:
        from bascule.tools.diff.listing import listing

        print("\n".join(listing(options.model)))
        return 0
    record = describe(options.model, dimensions(options))
    if options.json:
        print(json.dumps(record))
    else:
        _show(record)
    return 0


def describe(path: str, sizes: dict[str, int]) -> dict[str, Any]:
    """The facts that `bascule info` shows, as plain data."""
    from bascule.canonical import canonicalize
    from bascule.ir.graph import Node
    from bascule.ir.infer import infer_types
    from bascule.ir.inline import inline_functions
    from bascule.ir.load import load_model
    from bascule.ir.types import TensorType
    from bascule.metadata import NodeArg
    from bascule.native import block_size
    from bascule.optimizer.fused import definition
    from bascule.tools import cost

    model = load_model(path)
    graph = model.graph
    check_dimensions(sizes, graph.inputs)
    record: dict[str, Any] = {
        "model": path,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "ir_version": model.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in model.opset_imports.items()},
        "inputs": [
            vars_of(NodeArg.of(v)) for v in graph.inputs if v.name not in graph.initializers
        ],
        "outputs": [vars_of(NodeArg.of(v)) for v in graph.outputs],
        "nodes": sum(1 for _ in graph.walk_nodes()),
        "operators": dict(Counter(_name(node) for node in graph.walk_nodes()).most_common()),
        "functions": len(model.functions),
        "parameters": cost.parameter_count(graph),
        "weight_bytes": cost.weight_bytes(graph),
        "streamed_bytes": cost.streamed_bytes(graph),
        "metadata": dict(model.metadata),
    }
    inline_functions(model)
    canonicalize(model, definition, block_size=block_size())
    for value in graph.inputs:
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            shape = tuple(
                dim if isinstance(dim, int) else sizes.get(dim or "", 1) for dim in value.type.shape
            )
            value.type = TensorType(value.type.dtype, shape)
    infer_types(model, definition, check=False)
    counts: list[tuple[Node, int | None]] = [(node, cost.flops(node)) for node in graph]
    record["flops"] = sum(count or 0 for _, count in counts)
    record["product_flops"] = sum(count or 0 for node, count in counts if cost.is_product(node))
    record["nodes_of_unknown_size"] = sum(count is None for _, count in counts)
    record["activation_bytes"] = cost.activation_bytes(graph)
    return record


def vars_of(arg: Any) -> dict[str, Any]:
    return {"name": arg.name, "type": arg.type, "shape": arg.shape}


def _name(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def _show(record: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = make_console()
    opsets = ", ".join(f"{name} {version}" for name, version in record["opsets"].items())
    about = f"{record['producer']}  IR {record['ir_version']}  opsets: {opsets}"
    console.print(
        f"[bold]{escape(record['model'])}[/]  {escape(about)}",
        highlight=False,
    )
    table = Table("", "name", "type", "shape")
    for kind in ("inputs", "outputs"):
        for arg in record[kind]:
            cells = (arg["name"], arg["type"], str(arg["shape"]))
            table.add_row(kind[:-1], *(escape(cell) for cell in cells))
    console.print(table)
    operators = ", ".join(f"{name} {count}" for name, count in record["operators"].items())
    console.print(f"{record['nodes']} nodes: {operators}", highlight=False, markup=False)
    peak = record["activation_bytes"]
    console.print(
        f"parameters {record['parameters']:,}   weights {_size(record['weight_bytes'])}   "
        f"GFLOP {record['flops'] / 1e9:.3f}   "
        f"activations at most {'unknown' if peak is None else _size(peak)}",
        highlight=False,
    )
    if record["nodes_of_unknown_size"]:
        console.print(
            f"{record['nodes_of_unknown_size']} nodes of unknown size are not counted: give sizes "
            "with --dim."
        )


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3f} GB"
