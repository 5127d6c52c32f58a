# SPDX-License-Identifier: Apache-2.0
"""``import bascule.as_onnxruntime``: from then on ``import onnxruntime`` is bascule.

For this process, and for code that cannot be changed. ``sys.modules["onnxruntime"] = bascule`` does
so, too; here modules below it are the same objects under both names, and packages that look for an
installed distribution, or compare versions, find onnxruntime in the version whose interface
bascule has.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from collections.abc import Iterable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import Any

import bascule

INTERFACE_VERSION = "1.32.0"
"""The version of onnxruntime whose Python interface bascule has."""

_NAME = "onnxruntime"


class _Onnxruntime(types.ModuleType):
    """The package ``onnxruntime``: everything but its version is bascule's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(bascule, name)

    def __dir__(self) -> Iterable[str]:
        return dir(bascule)


class _Installed(Distribution):
    """What importlib.metadata tells of ``onnxruntime``."""

    def read_text(self, filename: str) -> str | None:
        texts = {
            "METADATA": f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: {INTERFACE_VERSION}\n"
            "Summary: bascule, standing in for onnxruntime\n",
            "top_level.txt": f"{_NAME}\n",
        }
        return texts.get(filename)

    def locate_file(self, path: Any) -> Any:
        return Path(bascule.__path__[0]).parent / path


class _Loader(Loader):
    """Lets a name stand for a module of bascule."""

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module("bascule" + name.removeprefix(_NAME))


class _Finder(DistributionFinder):
    """Finds ``onnxruntime.x`` where ``bascule.x`` is."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if not fullname.startswith(_NAME + "."):
            return None
        real = importlib.util.find_spec("bascule" + fullname.removeprefix(_NAME))
        if real is None:
            return None
        spec = ModuleSpec(fullname, _Loader(), origin=real.origin)
        spec.submodule_search_locations = real.submodule_search_locations
        return spec

    def find_distributions(
        self, context: DistributionFinder.Context | None = None
    ) -> Iterable[Distribution]:
        wanted = None if context is None else context.name
        if wanted is None or re.sub(r"[-_.]+", "-", wanted).lower() == _NAME:
            return [_Installed()]
        return []


def _install() -> None:
    module = _Onnxruntime(_NAME, bascule.__doc__)
    module.__version__ = module.version = INTERFACE_VERSION  # type: ignore[attr-defined]
    module.get_version_string = lambda: INTERFACE_VERSION  # type: ignore[attr-defined]
    module.__path__ = list(bascule.__path__)
    module.__file__ = bascule.__file__
    finder = _Finder()
    spec = ModuleSpec(_NAME, None, origin=bascule.__file__, is_package=True)
    spec.submodule_search_locations = list(bascule.__path__)
    module.__spec__ = spec
    for name in [each for each in sys.modules if each.split(".")[0] == _NAME]:
        del sys.modules[name]
    sys.modules[_NAME] = module
    sys.meta_path.insert(0, finder)


_install()
