# SPDX-License-Identifier: Apache-2.0
"""bascule sbom: a CycloneDX 1.6 document, checked by what its schema demands."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from bascule.cli import main
from bascule.tools.digest import digest
from bascule.tools.sbom import sbom
from tests.api.models import linear
from tests.support.reexport import save_elsewhere

# Of bom-1.6.schema.json: required fields, enumerations and patterns of what is used here.
_TYPES = {
    "application", "framework", "library", "container", "platform", "operating-system", "device",
    "device-driver", "firmware", "file", "machine-learning-model", "data", "cryptographic-asset",
}  # fmt: skip
_COMPONENT = {
    "type", "bom-ref", "name", "version", "description", "authors", "licenses", "modelCard",
    "properties", "hashes", "data",
}  # fmt: skip
_TOP = {
    "$schema", "bomFormat", "specVersion", "serialNumber", "version", "metadata", "components",
    "dependencies",
}  # fmt: skip


def components(bom: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield bom["metadata"]["component"]
    yield from bom["metadata"]["tools"]["components"]
    yield from bom["components"]


def check(bom: dict[str, Any]) -> None:
    assert set(bom) <= _TOP
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        bom["serialNumber"],
    )
    assert isinstance(bom["version"], int) and bom["version"] >= 1
    references = []
    for component in components(bom):
        assert component["type"] in _TYPES and component["name"]
        assert set(component) <= _COMPONENT
        if "bom-ref" in component:
            references.append(component["bom-ref"])
        for each in component.get("hashes", ()):
            assert each["alg"] == "SHA-256" and re.fullmatch("[a-fA-F0-9]{64}", each["content"])
        for each in component.get("data", ()):
            assert each["type"] in (
                "source-code",
                "configuration",
                "dataset",
                "definition",
                "other",
            )
        for each in component.get("licenses", ()):
            assert set(each) == {"license"} and set(each["license"]) == {"name"}
        for each in component.get("properties", ()):
            assert set(each) == {"name", "value"} and isinstance(each["value"], str)
    assert len(set(references)) == len(references) and all(references)
    for each in bom["dependencies"]:
        assert each["ref"] in references and set(each.get("dependsOn", ())) <= set(references)
    card = bom["metadata"]["component"]["modelCard"]["modelParameters"]
    assert all(set(each) == {"format"} for key in ("inputs", "outputs") for each in card[key])
    assert all(each["ref"] in references for each in card.get("datasets", ()))


def test_what_it_says(tmp_path: Path) -> None:
    proto = linear()
    proto.producer_name, proto.producer_version = "maker", "3"
    for key, text in {
        "license": "Apache-2.0",
        "datasets": '["ImageNet", "COCO"]',
        "author": "A, B",
        "version": "1.2",
    }.items():
        proto.metadata_props.add(key=key, value=text)
    for each in proto.graph.initializer:  # only raw data can lie in another file
        each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each), each.name))
    path = tmp_path / "net.onnx"
    save_elsewhere(proto, path)
    bom = sbom(path)
    check(bom)
    component = bom["metadata"]["component"]
    assert (component["type"], component["name"]) == ("machine-learning-model", "net")
    assert component["bom-ref"] == str(digest(path)) and component["version"] == "1.2"
    assert component["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert component["authors"] == [{"name": "A"}, {"name": "B"}]
    properties = {each["name"]: each["value"] for each in component["properties"]}
    assert properties["onnx:producer"] == "maker 3" and properties["onnx:opset:ai.onnx"] == "21"
    card = component["modelCard"]["modelParameters"]
    assert card["inputs"] == [{"format": "x: float[n,3]"}]
    assert [each["ref"] for each in card["datasets"]] == ["dataset:ImageNet", "dataset:COCO"]
    files = [each for each in bom["components"] if each["type"] == "file"]
    assert [each["name"] for each in files] == ["net.onnx", "net.data"]
    for each in files:
        data = (tmp_path / each["name"]).read_bytes()
        assert each["hashes"][0]["content"] == hashlib.sha256(data).hexdigest()
    assert sbom(path) == bom


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(linear(), path)
    assert main(["sbom", str(path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    check(printed)
    assert main(["sbom", str(path), "-o", str(tmp_path / "bom.json")]) == 0
    assert json.loads((tmp_path / "bom.json").read_text()) == printed
    assert main(["sbom", str(tmp_path / "none.onnx")]) == 1
