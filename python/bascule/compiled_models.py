# SPDX-License-Identifier: Apache-2.0
"""Names around models that are compiled for a device in advance, of which bascule has none.

Code that imports these names goes on; what uses them is told what there is instead: an optimized
model (``SessionOptions.optimized_model_filepath``), and plans (``session.cache_dir``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NoReturn

from bascule.named_enum import NamedEnum

_INSTEAD = (
    "models compiled in advance for a device are left out of bascule; to start quickly set "
    'SessionOptions.add_session_config_entry("session.cache_dir", folder), and to keep the '
    "optimized model set SessionOptions.optimized_model_filepath"
)


class _LeftOut:
    """Cannot be made: NotImplementedError says what there is instead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__}: {_INSTEAD}")


class ModelCompiler(_LeftOut):
    """Would compile a model for a device; raises NotImplementedError."""


class ModelPackage(_LeftOut):
    """Would be a folder of variants of a model; raises NotImplementedError."""

    @staticmethod
    def open(package_root: str, **options: Any) -> NoReturn:
        """NotImplementedError: there are no packages."""
        raise NotImplementedError(f"ModelPackage: {_INSTEAD}")


class ModelPackageContext(_LeftOut):
    """Would choose a variant of a package; raises NotImplementedError."""


class ModelPackageComponentContext(_LeftOut):
    """Would make sessions of a package; raises NotImplementedError."""


class ModelPackageOptions(_LeftOut):
    """Would say how a package is read; raises NotImplementedError."""


class ModelPackageWriteMode(NamedEnum):
    """How onnxruntime writes a package; bascule writes none.

    Attributes:
        PRESERVE: a name only.
        DENSE: a name only.
    """

    PRESERVE = 0
    DENSE = 1


class OrtEpContextData(_LeftOut):
    """Would be what a compiled model has for its provider; raises NotImplementedError."""


class OrtEpContextDataBuffer(_LeftOut):
    """Would take what a compiled model has for its provider; raises NotImplementedError."""


class OrtCompiledModelCompatibility(NamedEnum):
    """Whether a compiled model fits a device; nothing here answers with one.

    Attributes:
        EP_NOT_APPLICABLE: the provider does not know the model.
        EP_SUPPORTED_OPTIMAL: it fits.
        EP_SUPPORTED_PREFER_RECOMPILATION: it runs, and would be better compiled anew.
        EP_UNSUPPORTED: it cannot run.
    """

    EP_NOT_APPLICABLE = 0
    EP_SUPPORTED_OPTIMAL = 1
    EP_SUPPORTED_PREFER_RECOMPILATION = 2
    EP_UNSUPPORTED = 3


class OrtDeviceEpIncompatibilityReason(enum.IntFlag):
    """Why a provider cannot use a device; nothing here answers with one.

    Attributes:
        NONE: it can.
        DRIVER_INCOMPATIBLE: the driver does not fit.
        DEVICE_INCOMPATIBLE: the device does not fit.
        MISSING_DEPENDENCY: a library is missing.
        UNKNOWN: another reason.
    """

    NONE = 0
    DRIVER_INCOMPATIBLE = 1
    DEVICE_INCOMPATIBLE = 2
    MISSING_DEPENDENCY = 4
    UNKNOWN = -(1 << 31)


@dataclass(frozen=True, slots=True)
class OrtExternalInitializerInfo:
    """Where the data of an initializer is.

    Attributes:
        filepath: the file.
        file_offset: bytes before the data.
        byte_size: bytes of the data.
    """

    filepath: str
    file_offset: int
    byte_size: int
