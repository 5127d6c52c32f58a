# SPDX-License-Identifier: Apache-2.0
"""Ranges of tensors, their files, and the errors of tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from bascule.quantization import (
    CalibrationMethod,
    QuantType,
    TensorData,
    TensorsData,
    create_calibrator,
    load_tensors_data,
    quantize_static,
    save_tensors_data,
    write_calibration_table,
)
from bascule.quantization import qdq_loss_debug as loss
from bascule.quantization.histograms import Histogram
from bascule.quantization.quant_utils import (
    compute_scale_zp,
    get_qmin_qmax_for_qType,
    quantize_array,
)
from tests.quantization.models import Reader, network, samples


@pytest.mark.parametrize("qtype", [t for t in QuantType if not t.is_float], ids=str)
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_value_is_within_half_a_step(qtype: QuantType, symmetric: bool) -> None:
    values = np.linspace(-1.5, 4, 1001).astype(np.float32)
    scale, zero = compute_scale_zp(values.min(), values.max(), qtype, symmetric)
    integers = quantize_array(values, scale, zero, qtype)
    assert integers.dtype == qtype.dtype
    restored = (integers.astype(np.float64) - zero.astype(np.float64)) * scale
    # The ends may be half a step beyond, as the zero point is rounded.
    assert np.abs(restored - values).max() <= scale * 1.01
    assert quantize_array(np.zeros(1, np.float32), scale, zero, qtype)[0] == zero


def test_ranges_of_integers() -> None:
    assert get_qmin_qmax_for_qType(QuantType.QInt8) == (-128, 127)
    assert get_qmin_qmax_for_qType(QuantType.QInt8, symmetric=True) == (-127, 127)
    assert get_qmin_qmax_for_qType(QuantType.QInt8, reduce_range=True) == (-64, 64)
    assert get_qmin_qmax_for_qType(QuantType.QUInt8, reduce_range=True) == (0, 127)
    assert get_qmin_qmax_for_qType(QuantType.QInt4) == (-8, 7)
    scale, zero = compute_scale_zp(0.0, 0.0, QuantType.QUInt8)
    assert scale == 1 and zero == 0


@pytest.mark.parametrize("method", CalibrationMethod)
def test_calibraters(method: CalibrationMethod, tmp_path: Path) -> None:
    proto = network()
    onnx.save(proto, tmp_path / "m.onnx")
    made = create_calibrator(str(tmp_path / "m.onnx"), ["Conv"], calibrate_method=method)
    inputs = samples(proto)
    made.collect_data(Reader(inputs[:2]))
    made.collect_data(Reader(inputs[2:]))
    found = made.compute_data()
    assert found.calibration_method is method
    assert set(found) == {"x", "c1", "m1", "c2"}
    low, high = found["x"].range_value
    lowest, highest = (f(each["x"] for each in inputs) for f in (_least, _most))
    assert lowest - 1e-6 <= low < 0 < high <= highest + 1e-6
    if method is not CalibrationMethod.Entropy:
        np.testing.assert_allclose([low, high], [lowest, highest], rtol=0.05)
    if method is CalibrationMethod.Distribution:
        values = np.concatenate([each["x"] for each in inputs])
        np.testing.assert_allclose(found["x"].avg_std, [values.mean(), values.std()], atol=1e-4)


def _least(arrays: object) -> float:
    return float(np.min(list(arrays)))  # type: ignore[call-overload]


def _most(arrays: object) -> float:
    return float(np.max(list(arrays)))  # type: ignore[call-overload]


def test_a_histogram_grows() -> None:
    histogram = Histogram.of(16)
    random = np.random.default_rng(0)
    values = [random.standard_normal(1000) * factor for factor in (1, 5, 2)]
    for each in values:
        histogram.add(each)
    histogram.add(np.array([np.inf, np.nan]))
    flat = np.concatenate(values)
    assert histogram.counts.sum() == flat.size
    assert (histogram.lowest, histogram.highest) == (flat.min(), flat.max())
    again, _ = np.histogram(flat, histogram.edges)
    assert np.abs(again - histogram.counts).max() <= 2  # values on the borders
    low, high = histogram.by_percentile(90)
    assert np.mean((flat >= low) & (flat <= high)) == pytest.approx(0.9, abs=0.05)
    low, high = histogram.by_percentile(90, symmetric=True)
    assert low == -high
    with pytest.raises(ValueError, match="between 0 and 100"):
        histogram.by_percentile(101)
    empty = Histogram.of(16)
    assert empty.by_percentile(99) == empty.by_entropy() == (0.0, 0.0)


def test_entropy_leaves_outliers_out() -> None:
    histogram = Histogram.of(2048)
    random = np.random.default_rng(0)
    histogram.add(np.append(random.standard_normal(100_000), [40.0, -40.0]))
    low, high = histogram.by_entropy(128)
    assert -20 < low < -2 and 2 < high < 20


def test_files(tmp_path: Path) -> None:
    data = TensorsData(
        CalibrationMethod.Percentile,
        {"a": (np.float32(-1), np.float32(2)), "b": TensorData(avg=1.0, std=2.0)},
    )
    path = tmp_path / "cache.json"
    save_tensors_data(data, path)
    read = load_tensors_data(path)
    assert read.calibration_method is CalibrationMethod.Percentile
    assert read["a"].range_value == (-1, 2) and read["b"].avg_std == (1, 2)
    assert len(read) == 2 and "a" in read and list(read.keys()) == ["a", "b"]
    with pytest.raises(FileNotFoundError):
        load_tensors_data(tmp_path / "absent")
    with pytest.raises(ValueError, match="Unexpected value"):
        TensorData(top=1)
    write_calibration_table({"a": read["a"], "c": (0.0, 3.0)}, tmp_path)
    table = json.loads((tmp_path / "calibration.json").read_text())
    assert table == {"a": [-1.0, 2.0], "c": [0.0, 3.0]}
    assert (tmp_path / "calibration.cache").read_text() == "a 2.0\nc 3.0\n"


def test_the_error_of_each_tensor(tmp_path: Path) -> None:
    proto = network()
    paths = {name: tmp_path / f"{name}.onnx" for name in ("f", "q", "fa", "qa")}
    onnx.save(proto, paths["f"])
    quantize_static(proto, paths["q"], Reader(samples(proto)), activation_type=QuantType.QUInt8)
    for plain, augmented in (("f", "fa"), ("q", "qa")):
        loss.modify_model_output_intermediate_tensors(paths[plain], paths[augmented])
    quantized, real = (
        loss.collect_activations(paths[name], Reader(samples(proto))) for name in ("qa", "fa")
    )
    found = loss.compute_activation_error(loss.create_activation_matching(quantized, real))
    assert {"x", "r2", "sum", "y"} <= set(found)
    for errors in found.values():
        assert errors["qdq_err"] > 25 and errors["xmodel_err"] > 20
    weights = loss.create_weight_matching(paths["f"], paths["q"])
    assert {"w1", "w2", "w3", "b1"} <= set(weights)
    assert all(error > 30 for error in loss.compute_weight_error(weights).values())
    with pytest.raises(RuntimeError, match="No data is collected"):
        loss.collect_activations(paths["qa"], Reader([]))
    with pytest.raises(RuntimeError, match="Unequal number"):
        loss.compute_signal_to_quantization_noice_ratio([np.ones(1)], [])
