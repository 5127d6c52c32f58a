# SPDX-License-Identifier: Apache-2.0
"""Weights of 2, 4 and 8 bits in blocks, and of FP4 and NF4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bascule.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer
from bascule.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    GPTQWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
    NVAWQWeightOnlyQuantConfig,
    RTNWeightOnlyQuantConfig,
)
from bascule.quantization.quant_utils import QuantFormat
from tests.quantization.models import attention, decibels, operators
from tests.quantization.test_quantize import RUNTIMES

LEAST = {2: 5, 4: 15, 8: 30}


def quantized(folder: Path, kind: Any = MatMulNBitsQuantizer, **arguments: Any) -> Path:
    proto = attention()
    made = kind(proto, **arguments)
    made.process()
    path = folder / "q.onnx"
    made.model.save_model_to_file(path, False)
    assert proto == attention()
    return path


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_operators(bits: int, symmetric: bool, tmp_path: Path) -> None:
    path = quantized(tmp_path, bits=bits, block_size=16, is_symmetric=symmetric)
    assert operators(path).count("MatMulNBits") == 2
    for runtime in RUNTIMES:
        assert decibels(runtime, path, attention()) > LEAST[bits]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_dequantized(bits: int, symmetric: bool, whole: bool, tmp_path: Path) -> None:
    path = quantized(
        tmp_path,
        bits=bits,
        block_size=16,
        is_symmetric=symmetric,
        quant_format=QuantFormat.QDQ,
        channel_wised_quantize=whole,
    )
    onnx.checker.check_model(path)
    assert operators(path).count("DequantizeLinear") == 2
    for runtime in RUNTIMES:
        assert decibels(runtime, path, attention()) > LEAST[bits] - 2


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_tables(bits: int, symmetric: bool, tmp_path: Path) -> None:
    path = quantized(
        tmp_path,
        bits=bits,
        block_size=16,
        is_symmetric=symmetric,
        op_types_to_quantize=("MatMul", "Gather"),
    )
    assert "GatherBlockQuantized" in operators(path)
    for runtime in RUNTIMES:
        assert decibels(runtime, path, attention()) > LEAST[bits] - 3


@pytest.mark.parametrize("kind", [MatMulBnb4Quantizer.FP4, MatMulBnb4Quantizer.NF4])
def test_floating_point(kind: int, tmp_path: Path) -> None:
    path = quantized(tmp_path, MatMulBnb4Quantizer, quant_type=kind, block_size=16)
    assert operators(path).count("MatMulBnb4") == 2
    for runtime in RUNTIMES:
        assert decibels(runtime, path, attention()) > 12


def test_configurations(tmp_path: Path) -> None:
    config: Any = RTNWeightOnlyQuantConfig(
        customized_weight_config={"q": {"bits": 8, "group_size": 16}}
    )
    path = quantized(tmp_path, algo_config=config)
    nodes = {node.name: node for node in onnx.load(path).graph.node}
    sizes = {a.name: a.i for a in nodes["q_Q8"].attribute}
    assert sizes["bits"] == 8 and sizes["block_size"] == 16 and "k_Q4" in nodes
    path = quantized(tmp_path, nodes_to_exclude=["q"], accuracy_level=4)
    assert operators(path).count("MatMulNBits") == 1
    path = quantized(tmp_path, nodes_to_include=["q"])
    assert operators(path).count("MatMulNBits") == 1
    with pytest.raises(ValueError, match="GPTQWeightOnlyQuantConfig needs a calibration_data_read"):
        quantized(tmp_path, algo_config=GPTQWeightOnlyQuantConfig())
    with pytest.raises(ValueError, match="AWQ needs inputs of the model"):
        NVAWQWeightOnlyQuantConfig("folder")
    with pytest.raises(NotImplementedError, match="axis 0"):
        HQQWeightOnlyQuantConfig(axis=0)
    with pytest.raises(NotImplementedError, match="QDQ"):
        DefaultWeightOnlyQuantConfig(channel_wised_quantize=True)
    with pytest.raises(ValueError, match="2, 4 or 8 bits"):
        DefaultWeightOnlyQuantConfig(bits=3)
    with pytest.raises(ValueError, match="quant_type"):
        MatMulBnb4Quantizer(attention(), 2, 16)


def test_the_same_bytes_as_onnxruntime(tmp_path: Path) -> None:
    pytest.importorskip("onnx_ir")
    theirs = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    for symmetric in (True, False):
        other = theirs.MatMulNBitsQuantizer(attention(), block_size=16, is_symmetric=symmetric)
        other.process()
        path = quantized(tmp_path, block_size=16, is_symmetric=symmetric)
        found, wanted = (
            {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
            for model in (onnx.load(path), other.model.model)
        )
        for name in ("wq_Q4", "wq_scales", "wk_Q4", "wk_scales"):
            np.testing.assert_array_equal(found[name].reshape(-1), wanted[name].reshape(-1))
