# SPDX-License-Identifier: Apache-2.0
"""The names that callers import from onnxruntime's extension module."""

from bascule.binding import IOBinding
from bascule.binding import IOBinding as SessionIOBinding
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
from bascule.sparse import OrtSparseFormat, SparseTensor
from bascule.values import OrtValue

__all__ = [
    "OrtCompileApiFlags",
    "OrtDeviceMemoryType",
    "OrtExecutionProviderDevicePolicy",
    "OrtHardwareDeviceType",
    "OrtMemoryInfoDeviceType",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "has_collective_ops",
    "set_default_logger_callback",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
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
    "ModelLoadCanceled",
    "ModelLoaded",
    "ModelMetadata",
    "ModelRequiresCompilation",
    "NoModel",
    "NoSuchFile",
    "NodeArg",
    "NotFound",
    "NotImplemented",
    "OrtAllocatorType",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtMemType",
    "OrtMemoryInfo",
    "OrtSparseFormat",
    "OrtValue",
    "RunOptions",
    "RuntimeException",
    "SessionIOBinding",
    "SessionOptions",
    "SparseTensor",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
]
