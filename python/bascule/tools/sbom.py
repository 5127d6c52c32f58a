# SPDX-License-Identifier: Apache-2.0
"""A bill of materials of a model: CycloneDX 1.6 with its machine-learning parts (ML-BOM).

Source: ECMA-424, https://cyclonedx.org/docs/1.6/json/. There is no timestamp: of the same files it
is the same document.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from bascule._version import __version__

if TYPE_CHECKING:
    from bascule.ir.graph import Model

_LICENSES = ("license", "licence", "licenses", "license_name")
_DATASETS = ("dataset", "datasets", "training_dataset", "training_data", "train_datasets")
_AUTHORS = ("author", "authors", "model_author")
_PIECE = 1 << 20


def sbom(path: Union[str, os.PathLike[str]]) -> dict[str, Any]:
    """The bill of materials of a model file, as the plain data of a CycloneDX 1.6 document.

    The model is ``metadata.component``, with its digest, opsets and producer as properties, the
    licence and author that its metadata name, and a model card of inputs and outputs. Components
    are the files it lies in, with their SHA-256, and the data sets that its metadata name.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, Fail: the model cannot be read.
    """
    from bascule.ir.load import load_model
    from bascule.tools.digest import digest_of

    path = os.fspath(path)
    model = load_model(path)
    digest = str(digest_of(model))
    files = [_file(os.path.dirname(path), os.path.basename(path), "model")]
    files += [_file(os.path.dirname(path), name, "weights") for name in model.external_files]
    datasets = [_dataset(name) for name in _listed(model.metadata, _DATASETS)]
    component = _component(model, Path(path).stem, digest, datasets)
    reference = component["bom-ref"]
    parts = [*files, *datasets]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(parts) + digest)}",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "bascule", "version": __version__}]
            },
            "component": component,
        },
        "components": parts,
        "dependencies": [
            {"ref": reference, "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }


def _component(
    model: Model, name: str, digest: str, datasets: list[dict[str, Any]]
) -> dict[str, Any]:
    properties = {"bascule:digest": digest, "onnx:ir_version": str(model.ir_version)}
    for domain, version in sorted(model.opset_imports.items()):
        properties[f"onnx:opset:{domain or 'ai.onnx'}"] = str(version)
    producer = f"{model.producer_name} {model.producer_version}".strip()
    if producer:
        properties["onnx:producer"] = producer
    if model.domain:
        properties["onnx:domain"] = model.domain
    for key, text in sorted(model.metadata.items()):
        properties[f"onnx:metadata:{key}"] = text
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": digest,
        "name": model.metadata.get("name") or name,
        "version": model.metadata.get("version") or str(model.model_version),
    }
    if model.doc:
        component["description"] = model.doc
    authors = _listed(model.metadata, _AUTHORS)
    if authors:
        component["authors"] = [{"name": author} for author in authors]
    licenses = _listed(model.metadata, _LICENSES)
    if licenses:
        component["licenses"] = [{"license": {"name": text}} for text in licenses]
    component["modelCard"] = {"modelParameters": _parameters(model, datasets)}
    component["properties"] = [{"name": k, "value": v} for k, v in properties.items()]
    return component


def _parameters(model: Model, datasets: list[dict[str, Any]]) -> dict[str, Any]:
    from bascule.ir.printer import format_type

    graph = model.graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    found: dict[str, Any] = {
        key: [{"format": f"{value.name}: {format_type(value.type)}"} for value in values]
        for key, values in (("inputs", inputs), ("outputs", graph.outputs))
    }
    if datasets:
        found["datasets"] = [{"ref": each["bom-ref"]} for each in datasets]
    return found


def _file(folder: str, name: str, role: str) -> dict[str, Any]:
    hasher = hashlib.sha256()
    with open(os.path.join(folder, name), "rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": hasher.hexdigest()}],
        "properties": [{"name": "bascule:role", "value": role}],
    }


def _dataset(name: str) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"dataset:{name}",
        "name": name,
        "data": [{"type": "dataset", "name": name}],
    }


def _listed(metadata: Mapping[str, str], keys: tuple[str, ...]) -> list[str]:
    """What the metadata say under these keys, each once: a JSON list, or names between commas."""
    return list(dict.fromkeys(_names(metadata, keys)))


def _names(metadata: Mapping[str, str], keys: tuple[str, ...]) -> Iterator[str]:
    for key, text in metadata.items():
        if key.lower() not in keys:
            continue
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = text.split(",")
        items = parsed if isinstance(parsed, list) else [parsed]
        yield from (name for item in items if (name := str(item).strip()))
