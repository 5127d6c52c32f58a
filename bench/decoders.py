# SPDX-License-Identifier: Apache-2.0
"""Decoders that make one token from a cache of keys and values, with random weights from a seed.

    python bench/decoders.py llama-1b --out models      # and what a step is fed, as .npz

``llama`` is what onnxruntime-genai exports with 4-bit weights: MatMulNBits, GroupQueryAttention
over a cache of fixed size whose content the attention mask counts, and RMS normalization.
``gpt2`` has its cache in the same form by TensorScatter and Attention, or ``gpt2_growing`` gets
the past and gives it back one longer. The weights lie beside the model, in NAME.weights.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Size:
    """The sizes of a decoder."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int

    @property
    def head(self) -> int:
        return self.width // self.heads


LLAMA = {
    "tiny": Size(2, 256, 4, 2, 512, 1000),
    "1b": Size(16, 2048, 32, 8, 8192, 128256),  # Llama 3.2 1B
    "7b": Size(32, 4096, 32, 32, 11008, 32000),  # Llama 2 7B
    "8b": Size(32, 4096, 32, 8, 14336, 128256),  # Llama 3.1 8B
}
GPT2 = {
    "tiny": Size(2, 256, 4, 4, 1024, 1000),
    "124m": Size(12, 768, 12, 12, 3072, 50257),
}


@dataclass
class Decoder:
    """A model in a file, and what it takes to run a step of it."""

    path: Path
    cache: dict[str, str]
    """The inputs that hold keys and values, and the outputs that hold them afterwards."""
    cache_shape: tuple[int, ...]
    dtype: Any
    length: int
    """How many positions the cache has."""
    weight_bytes: int
    """Of the matrices, each of which a step reads once."""
    vocabulary: int
    kind: str

    def inputs(self, token: int, position: int) -> dict[str, Array]:
        """What is fed beside the cache, for a token at `position`."""
        ids = np.full((1, 1), token, np.int64)
        if self.kind == "llama":
            mask = (np.arange(self.length) <= position).astype(np.int64)
            return {"input_ids": ids, "attention_mask": mask[None]}
        return {"input_ids": ids, "position": np.array([position], np.int64)}

    def new_cache(self, seed: int = 0) -> dict[str, Array]:
        """Keys and values as if there had been tokens."""
        generator = np.random.default_rng(seed)
        return {
            name: generator.standard_normal(self.cache_shape, np.float32).astype(self.dtype)
            for name in self.cache
        }


@dataclass
class _Builder:
    """A graph in the making; its large tensors go to a file of their own at once."""

    path: Path
    dtype: Any
    generator: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)
    weight_bytes: int = 0

    def __post_init__(self) -> None:
        self._weights = self.path.with_suffix(".weights").open("wb")

    def tensor(self, name: str, array: Array) -> str:
        """A constant in the model itself."""
        self.tensors.append(onnx.numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, array: Array, counts: bool = True) -> str:
        """A constant in the file of weights; one that `counts` is read by each step."""
        at, data = self._weights.tell(), np.ascontiguousarray(array)
        self._weights.write(data.data)
        made = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": Path(self._weights.name).name, "offset": at, "length": data.nbytes}
        for key, value in place.items():
            made.external_data.add(key=key, value=str(value))
        self.tensors.append(made)
        self.weight_bytes += data.nbytes if counts else 0
        return name

    def table(self, shape: tuple[int, int]) -> Array:
        """Rows of which a step reads one: they may repeat, which takes less time to make."""
        return np.resize(self.normal((997, shape[1])), shape)

    def normal(self, shape: tuple[int, ...], deviation: float = 1.0) -> Array:
        values = self.generator.standard_normal(shape, np.float32)
        values *= deviation
        return values.astype(self.dtype)

    def matrix(self, name: str, rows: int, columns: int, counts: bool = True) -> str:
        return self.weight(name, self.normal((rows, columns), rows**-0.5), counts)

    def vector(self, name: str, size: int, mean: float = 0.0) -> str:
        return self.tensor(name, (self.normal((size,), 0.1) + mean).astype(self.dtype))

    def op(self, kind: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        made = helper.make_node(kind, inputs, outputs or (f"{name}_y",), name, **attributes)
        self.nodes.append(made)
        return made.output[0]

    def ints(self, *numbers: int) -> str:
        name = "ints_" + "_".join(map(str, numbers)).replace("-", "m")
        if all(tensor.name != name for tensor in self.tensors):
            self.tensor(name, np.array(numbers, np.int64))
        return name

    def finish(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], opset: int
    ) -> None:
        self._weights.close()
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, self.tensors)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        self.path.write_bytes(model.SerializeToString())


def _value(name: str, dtype: Any, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)


def make_llama(
    path: Path,
    size: Size,
    length: int = 2048,
    dtype: Any = np.float16,
    block: int = 32,
    symmetric: bool = True,
    seed: int = 0,
) -> Decoder:
    """A decoder of the Llama family with weights of 4 bits."""
    b = _Builder(path, np.dtype(dtype), np.random.default_rng(seed))
    query, key = size.heads * size.head, size.kv_heads * size.head

    def product(name: str, x: str, inside: int, columns: int) -> str:
        blocks = inside // block
        packed = np.frombuffer(b.generator.bytes(columns * inside // 2), np.uint8)
        spread = b.generator.uniform(0.8, 1.2, (columns, blocks)) / (4.6 * inside**0.5)
        inputs = [
            x,
            b.weight(f"{name}.weight", packed.reshape(columns, blocks, block // 2)),
            b.weight(f"{name}.scales", spread.astype(dtype)),
        ]
        if not symmetric:
            zeros = np.frombuffer(b.generator.bytes(columns * -(-blocks // 2)), np.uint8)
            zeros = (zeros & 0x11) + 0x77  # 7 or 8 each
            inputs.append(b.weight(f"{name}.zeros", zeros.reshape(columns, -1)))
        attributes = {"K": inside, "N": columns, "bits": 4, "block_size": block}
        return b.op("MatMulNBits", *inputs, domain="com.microsoft", **attributes)

    counted = b.op("ReduceSum", "attention_mask", b.ints(1), keepdims=0)
    last = b.op("Cast", b.op("Sub", counted, b.ints(1)), to=TensorProto.INT32)
    columns = b.op("Gather", b.op("Shape", "attention_mask"), b.tensor("one", np.array(1)), axis=0)
    total = b.op("Cast", columns, to=TensorProto.INT32)
    angles = np.arange(length)[:, None] * 500000.0 ** (-np.arange(size.head // 2) * 2 / size.head)
    cosine = b.tensor("cos_cache", np.cos(angles).astype(dtype))
    sine = b.tensor("sin_cache", np.sin(angles).astype(dtype))
    table = b.weight("embedding", b.table((size.vocabulary, size.width)), counts=False)
    hidden = b.op("Gather", table, "input_ids")
    normal = b.op(
        "SimplifiedLayerNormalization", hidden, b.vector("norm_0", size.width, 1), axis=-1
    )
    cache = {}
    for layer in range(size.layers):
        name, past, present = f"layers.{layer}", f"past_key_values.{layer}", f"present.{layer}"
        cache.update({f"{past}.{each}": f"{present}.{each}" for each in ("key", "value")})
        attended = b.op(
            "GroupQueryAttention",
            product(f"{name}.qkv_proj", normal, size.width, query + 2 * key),
            *("", "", f"{past}.key", f"{past}.value", last, total, cosine, sine),
            outputs=(f"attention_{layer}", f"{present}.key", f"{present}.value"),
            domain="com.microsoft",
            num_heads=size.heads,
            kv_num_heads=size.kv_heads,
            do_rotary=1,
        )
        sums = (f"normal_{layer}", "", "", f"hidden_{layer}")
        normal = b.op(
            "SkipSimplifiedLayerNormalization",
            hidden,
            product(f"{name}.o_proj", attended, query, size.width),
            b.vector(f"{name}.norm", size.width, 1),
            outputs=sums,
            domain="com.microsoft",
        )
        gate = product(f"{name}.gate_proj", normal, size.width, size.inner)
        gate = b.op("Mul", gate, b.op("Sigmoid", gate))
        up = product(f"{name}.up_proj", normal, size.width, size.inner)
        down = product(f"{name}.down_proj", b.op("Mul", gate, up), size.inner, size.width)
        hidden = f"hidden_{layer}_b"
        normal = b.op(
            "SkipSimplifiedLayerNormalization",
            sums[3],
            down,
            b.vector(f"{name}.next", size.width, 1),
            outputs=(f"normal_{layer}_b", "", "", hidden),
            domain="com.microsoft",
        )
    logits = product("lm_head", normal, size.width, size.vocabulary)
    b.op("Identity", logits, outputs=("logits",))
    shape = (1, size.kv_heads, length, size.head)
    b.finish(
        [_value("input_ids", np.int64, ("batch", "rows"))]
        + [_value("attention_mask", np.int64, ("batch", "total"))]
        + [_value(x, dtype, ("batch", size.kv_heads, "past", size.head)) for x in cache],
        [_value("logits", dtype, ("batch", "rows", size.vocabulary))]
        + [_value(x, dtype, ("batch", size.kv_heads, "kept", size.head)) for x in cache.values()],
        21,
    )
    return Decoder(
        path, cache, shape, np.dtype(dtype), length, b.weight_bytes, size.vocabulary, "llama"
    )


def make_gpt2(
    path: Path,
    size: Size,
    length: int = 1024,
    dtype: Any = np.float16,
    growing: bool = False,
    seed: int = 0,
) -> Decoder:
    """GPT-2 with its cache in a buffer of `length`; or `growing`, with a past one shorter."""
    b = _Builder(path, np.dtype(dtype), np.random.default_rng(seed))

    def linear(name: str, x: str, inside: int, columns: int) -> str:
        matrix = b.matrix(f"{name}.weight", inside, columns)
        flat = b.op("Reshape", x, b.ints(-1, inside))
        y = b.op("Gemm", flat, matrix, b.vector(f"{name}.bias", columns))
        return b.op("Reshape", y, b.ints(1, 1, columns))

    def normalized(name: str, x: str) -> str:
        scale, bias = (
            b.vector(f"{name}.weight", size.width, 1),
            b.vector(f"{name}.bias", size.width),
        )
        return b.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)

    def number(value: float) -> str:
        name = f"number_{value}"
        if all(tensor.name != name for tensor in b.tensors):
            b.tensor(name, np.array(value, dtype))
        return name

    def gelu(x: str) -> str:
        cube = b.op("Mul", b.op("Pow", x, number(3.0)), number(0.044715))
        inner = b.op("Mul", b.op("Add", x, cube), number(0.7978845608))
        return b.op("Mul", b.op("Mul", x, number(0.5)), b.op("Add", b.op("Tanh", inner), number(1)))

    def heads(x: str) -> str:
        apart = b.op("Reshape", x, b.ints(1, 1, size.heads, size.head))
        return b.op("Transpose", apart, perm=[0, 2, 1, 3])

    table = b.weight("wte", b.normal((size.vocabulary, size.width), size.width**-0.5))
    places = b.weight("wpe", b.normal((length, size.width), 0.1), counts=False)
    hidden = b.op("Gather", table, "input_ids")
    hidden = b.op("Add", hidden, b.op("Gather", places, "position"))
    valid = b.op("Add", "position", b.ints(1))
    cache = {}
    for layer in range(size.layers):
        name, past, present = f"h.{layer}", f"past_{layer}", f"present_{layer}"
        cache.update({f"{past}_{each}": f"{present}_{each}" for each in ("key", "value")})
        packed = linear(
            f"{name}.attn", normalized(f"{name}.ln_1", hidden), size.width, 3 * size.width
        )
        parts = tuple(f"{each}_{layer}" for each in ("query", "key", "value"))
        b.op("Split", packed, outputs=parts, num_outputs=3, axis=2)
        query, *new = (heads(part) for part in parts)
        kept = []
        for each, rows in zip(("key", "value"), new):
            names = f"{past}_{each}", (f"{present}_{each}",)
            if growing:
                kept.append(b.op("Concat", names[0], rows, outputs=names[1], axis=2))
            else:
                kept.append(
                    b.op("TensorScatter", names[0], rows, "position", outputs=names[1], axis=2)
                )
        if growing:
            turned = b.op("Transpose", kept[0], perm=[0, 1, 3, 2])
            scores = b.op("Mul", b.op("MatMul", query, turned), number(size.head**-0.5))
            attended = b.op("MatMul", b.op("Softmax", scores, axis=-1), kept[1])
        else:
            attended = b.op("Attention", query, *kept, "", "", "", valid)
        rows = b.op("Transpose", attended, perm=[0, 2, 1, 3])
        rows = b.op("Reshape", rows, b.ints(1, 1, size.width))
        hidden = b.op("Add", hidden, linear(f"{name}.proj", rows, size.width, size.width))
        inner = linear(f"{name}.fc", normalized(f"{name}.ln_2", hidden), size.width, size.inner)
        hidden = b.op("Add", hidden, linear(f"{name}.out", gelu(inner), size.inner, size.width))
    turned = b.op("Transpose", table, perm=[1, 0])
    b.op("MatMul", normalized("ln_f", hidden), turned, outputs=("logits",))
    shape = (1, size.heads, length - growing, size.head)
    b.finish(
        [_value("input_ids", np.int64, (1, 1)), _value("position", np.int64, (1,))]
        + [_value(x, dtype, (1, size.heads, "past", size.head)) for x in cache],
        [_value("logits", dtype, (1, 1, size.vocabulary))]
        + [_value(x, dtype, (1, size.heads, "kept", size.head)) for x in cache.values()],
        24,
    )
    kind = "gpt2_growing" if growing else "gpt2"
    return Decoder(
        path, cache, shape, np.dtype(dtype), length, b.weight_bytes, size.vocabulary, kind
    )


def make(name: str, folder: Path, dtype: Any = np.float16, **options: Any) -> Decoder:
    """A decoder by its name: llama-1b, gpt2-124m, gpt2_growing-tiny..."""
    kind, _, size = name.partition("-")
    path = folder / f"{name}-{np.dtype(dtype).name}.onnx"
    if kind == "llama":
        return make_llama(path, LLAMA[size], dtype=dtype, **options)
    return make_gpt2(path, GPT2[size], dtype=dtype, growing=kind == "gpt2_growing", **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", help="llama-1b, llama-7b, gpt2-124m, gpt2_growing-124m")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    parser.add_argument("--type", default="float16", choices=("float16", "float32"))
    parser.add_argument("--length", type=int, default=2048, help="positions of the cache")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        made = make(name, arguments.out, np.dtype(arguments.type), length=arguments.length)
        position = min(256, made.length - 1)
        cache = made.new_cache()
        for array in cache.values():
            array[:, :, position:] = 0
        np.savez(made.path.with_suffix(".npz"), **made.inputs(token=1, position=position), **cache)
        print(f"{made.path}: {made.weight_bytes / 1e6:.0f} MB of matrices")


if __name__ == "__main__":
    main()
