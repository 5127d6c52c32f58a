# SPDX-License-Identifier: Apache-2.0
"""fastembed, and the session code that embedding libraries have, on a model made here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.dropin.alias import ALIASES, run

NAMES = ("input_ids", "attention_mask", "token_type_ids")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "embedding"]


def embedding(folder: Path) -> None:
    """A model with the inputs of BERT whose states are rows of a table."""
    table = np.random.default_rng(0).standard_normal((len(WORDS), 384)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["sum"]),
        helper.make_node("Add", ["masked", "sum"], ["last_hidden_state"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "embedding",
        [info(name, TensorProto.INT64, ["batch", "sequence"]) for name in NAMES],
        [info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", 384])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, folder / "model_optimized.onnx")


LIKE = """
import numpy as np, onnxruntime as ort

options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
options.enable_cpu_mem_arena = False
options.intra_op_num_threads = options.inter_op_num_threads = 2
wanted = ["CPUExecutionProvider"]
for name in wanted:
    assert name in ort.get_available_providers()
model = ort.InferenceSession("model_optimized.onnx", providers=wanted, sess_options=options)
names = [node.name for node in model.get_inputs()]
batch = {"input_ids": np.array([[2, 4, 5, 3], [2, 4, 3, 0]], dtype=np.int64),
         "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]], dtype=np.int64)}
batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
(states,) = model.run(None, {name: batch[name] for name in names})
vectors = states[:, 0] / np.linalg.norm(states[:, 0], axis=1, keepdims=True)
assert vectors.shape == (2, 384) and np.isfinite(vectors).all() and vectors.dtype == np.float32
# A batch with more padding, as another caller would have made it, changes nothing.
longer = {name: np.pad(array, ((0, 0), (0, 3))) for name, array in batch.items()}
(padded,) = model.run(["last_hidden_state"], longer)
np.testing.assert_allclose(padded[:, :4], states, atol=1e-5)
"""

REAL = """
import json, os
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors
os.environ["HF_HUB_OFFLINE"] = "1"
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "embedding"]
numbers = {word: i for i, word in enumerate(words)}
tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
tokenizer.save("tokenizer.json")
for name, content in {
    "config.json": {"pad_token_id": 0},
    "tokenizer_config.json": {"model_max_length": 64, "pad_token": "[PAD]"},
    "special_tokens_map.json": {"pad_token": "[PAD]", "cls_token": "[CLS]"},
}.items():
    with open(name, "w") as file:
        json.dump(content, file)
from fastembed import TextEmbedding
model = TextEmbedding("BAAI/bge-small-en-v1.5", specific_model_path=".", threads=2)
assert type(model.model.model).__module__.startswith("bascule")
texts = ["hello world", "embedding", "hello world", "hello"]
found = np.array(list(model.embed(texts, batch_size=3)))
assert found.shape == (4, 384)
np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
np.testing.assert_allclose(found[0], found[2], atol=1e-6)
assert np.abs(found[0] - found[1]).max() > 0.01
"""


@pytest.mark.parametrize("alias", ALIASES)
def test_code_like_it(alias: str, tmp_path: Path) -> None:
    embedding(tmp_path)
    run(LIKE, alias, str(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("fastembed") is None, reason="no fastembed")
def test_itself(tmp_path: Path) -> None:
    embedding(tmp_path)
    run(REAL, "imported", str(tmp_path))
