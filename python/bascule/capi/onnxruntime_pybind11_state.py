# SPDX-License-Identifier: Apache-2.0
"""The names that callers import from onnxruntime's extension module."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bascule.binding import IOBinding, SessionIOBinding
from bascule.build_info import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_build_info,
    get_device,
    get_version_string,
    has_collective_ops,
)
from bascule.device_kinds import (
    OrtCompileApiFlags,
    OrtDeviceMemoryType,
    OrtExecutionProviderDevicePolicy,
    OrtHardwareDeviceType,
    OrtMemoryInfoDeviceType,
)
from bascule.devices import (
    OrtAllocatorType,
    OrtDevice,
    OrtDeviceVendorId,
    OrtMemoryInfo,
    OrtMemType,
)
from bascule.errors import (
    DeviceReset,
    EngineError,
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoadCanceled,
    ModelLoaded,
    ModelRequiresCompilation,
    NoModel,
    NoSuchFile,
    NotFound,
    NotImplemented,
    RuntimeException,
)
from bascule.global_threads import set_global_thread_pool_sizes
from bascule.logging import (
    set_default_logger_callback,
    set_default_logger_severity,
    set_default_logger_verbosity,
)
from bascule.metadata import ModelMetadata, NodeArg
from bascule.native import set_seed
from bascule.options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from bascule.providers.names import all_providers as get_all_providers
from bascule.providers.names import available_providers as get_available_providers
from bascule.session import InferenceSession
from bascule.sparse import CooView as SparseCooView
from bascule.sparse import CsrcView as SparseCsrView
from bascule.sparse import OrtSparseFormat, SparseTensor
from bascule.values import OrtValue
from bascule.values_vector import OrtValueVector

if TYPE_CHECKING:
    from bascule.adapters import AdapterFormat, LoraAdapter
    from bascule.allocators import (
        ArenaExtendStrategy,
        OrtArenaCfg,
        create_and_register_allocator,
        create_and_register_allocator_v2,
        kNextPowerOfTwo,
        kSameAsRequested,
    )
    from bascule.capi.block_quantizers import (
        quantize_matmul_2bits,
        quantize_matmul_4bits,
        quantize_matmul_8bits,
        quantize_matmul_bnb4,
        quantize_qdq_matmul_2bits,
        quantize_qdq_matmul_4bits,
    )
    from bascule.capi.registry import get_all_operator_schema, get_all_opkernel_def
    from bascule.compiled_models import (
        ModelCompiler,
        ModelPackage,
        ModelPackageComponentContext,
        ModelPackageContext,
        ModelPackageOptions,
        ModelPackageWriteMode,
        OrtCompiledModelCompatibility,
        OrtDeviceEpIncompatibilityReason,
        OrtEpContextData,
        OrtEpContextDataBuffer,
        OrtExternalInitializerInfo,
    )
    from bascule.ep_devices import (
        OrtEpDevice,
        OrtHardwareDevice,
        OrtSyncStream,
        copy_tensors,
        get_ep_devices,
        get_hardware_devices,
        register_execution_provider_library,
        unregister_execution_provider_library,
    )
    from bascule.graph_assignment import OrtEpAssignedNode, OrtEpAssignedSubgraph

_LATER = {
    "bascule.adapters": (
        "AdapterFormat",
        "LoraAdapter",
    ),
    "bascule.allocators": (
        "ArenaExtendStrategy",
        "OrtArenaCfg",
        "create_and_register_allocator",
        "create_and_register_allocator_v2",
        "kNextPowerOfTwo",
        "kSameAsRequested",
    ),
    "bascule.capi.block_quantizers": (
        "quantize_matmul_2bits",
        "quantize_matmul_4bits",
        "quantize_matmul_8bits",
        "quantize_matmul_bnb4",
        "quantize_qdq_matmul_2bits",
        "quantize_qdq_matmul_4bits",
    ),
    "bascule.capi.registry": (
        "get_all_operator_schema",
        "get_all_opkernel_def",
    ),
    "bascule.compiled_models": (
        "ModelCompiler",
        "ModelPackage",
        "ModelPackageComponentContext",
        "ModelPackageContext",
        "ModelPackageOptions",
        "ModelPackageWriteMode",
        "OrtCompiledModelCompatibility",
        "OrtDeviceEpIncompatibilityReason",
        "OrtEpContextData",
        "OrtEpContextDataBuffer",
        "OrtExternalInitializerInfo",
    ),
    "bascule.ep_devices": (
        "OrtEpDevice",
        "OrtHardwareDevice",
        "OrtSyncStream",
        "copy_tensors",
        "get_ep_devices",
        "get_hardware_devices",
        "register_execution_provider_library",
        "unregister_execution_provider_library",
    ),
    "bascule.graph_assignment": (
        "OrtEpAssignedNode",
        "OrtEpAssignedSubgraph",
    ),
}
"""Few programs ask for these names: their modules are imported when one does."""


def get_default_session_options() -> SessionOptions:
    """Session options as they are when nothing is set."""
    return SessionOptions()


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AdapterFormat",
    "ArenaExtendStrategy",
    "DeviceReset",
    "EPFail",
    "EngineError",
    "ExecutionMode",
    "ExecutionOrder",
    "Fail",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "LoraAdapter",
    "ModelCompiler",
    "ModelLoadCanceled",
    "ModelLoaded",
    "ModelMetadata",
    "ModelPackage",
    "ModelPackageComponentContext",
    "ModelPackageContext",
    "ModelPackageOptions",
    "ModelPackageWriteMode",
    "ModelRequiresCompilation",
    "NoModel",
    "NoSuchFile",
    "NodeArg",
    "NotFound",
    "NotImplemented",
    "OrtAllocatorType",
    "OrtArenaCfg",
    "OrtCompileApiFlags",
    "OrtCompiledModelCompatibility",
    "OrtDevice",
    "OrtDeviceEpIncompatibilityReason",
    "OrtDeviceMemoryType",
    "OrtDeviceVendorId",
    "OrtEpAssignedNode",
    "OrtEpAssignedSubgraph",
    "OrtEpContextData",
    "OrtEpContextDataBuffer",
    "OrtEpDevice",
    "OrtExecutionProviderDevicePolicy",
    "OrtExternalInitializerInfo",
    "OrtHardwareDevice",
    "OrtHardwareDeviceType",
    "OrtMemType",
    "OrtMemoryInfo",
    "OrtMemoryInfoDeviceType",
    "OrtSparseFormat",
    "OrtSyncStream",
    "OrtValue",
    "OrtValueVector",
    "RunOptions",
    "RuntimeException",
    "SessionIOBinding",
    "SessionOptions",
    "SparseCooView",
    "SparseCsrView",
    "SparseTensor",
    "copy_tensors",
    "create_and_register_allocator",
    "create_and_register_allocator_v2",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_operator_schema",
    "get_all_opkernel_def",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_default_session_options",
    "get_device",
    "get_ep_devices",
    "get_hardware_devices",
    "get_version_string",
    "has_collective_ops",
    "kNextPowerOfTwo",
    "kSameAsRequested",
    "quantize_matmul_2bits",
    "quantize_matmul_4bits",
    "quantize_matmul_8bits",
    "quantize_matmul_bnb4",
    "quantize_qdq_matmul_2bits",
    "quantize_qdq_matmul_4bits",
    "register_execution_provider_library",
    "set_default_logger_callback",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_global_thread_pool_sizes",
    "set_seed",
    "unregister_execution_provider_library",
]
