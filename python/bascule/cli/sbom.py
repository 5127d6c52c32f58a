# SPDX-License-Identifier: Apache-2.0
"""bascule sbom: a bill of materials in CycloneDX form."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "sbom",
        help="write a bill of materials of a model (CycloneDX ML-BOM)",
        description="A bill of materials of a model in the JSON form of CycloneDX 1.6: the model "
        "with its digest, licence, producer and opsets, its files with their hashes, and the data "
        "sets that its metadata name.",
    )
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--json", action="store_true", help="it is JSON in any case")
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    from bascule.tools.sbom import sbom

    text = json.dumps(sbom(options.model), indent=2, ensure_ascii=False)
    if options.output:
        Path(options.output).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0
