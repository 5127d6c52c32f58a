# SPDX-License-Identifier: Apache-2.0
"""bascule runs ONNX models.

``import bascule as ort`` serves code that was written for onnxruntime; ``bascule.load`` makes a
model that is called like a function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bascule import capi
from bascule._version import __version__
from bascule.binding import IOBinding, SessionIOBinding
from bascule.build_info import (
    cuda_version,
    disable_telemetry_events,
    enable_telemetry_events,
    get_build_info,
    get_device,
    get_version_string,
    has_collective_ops,
    package_name,
    preload_dlls,
    print_debug_info,
    version,
)
from bascule.comparison import compare
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
from bascule.differentiation import grad
from bascule.global_threads import set_global_thread_pool_sizes
from bascule.logging import (
    set_default_logger_callback,
    set_default_logger_severity,
    set_default_logger_verbosity,
)
from bascule.metadata import ModelMetadata, NodeArg
from bascule.model import Model, Outputs, load
from bascule.model_call import ValueInfo
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

if TYPE_CHECKING:
    from bascule.adapters import (
        AdapterFormat,
        LoraAdapter,
    )
    from bascule.allocators import (
        OrtArenaCfg,
        create_and_register_allocator,
        create_and_register_allocator_v2,
    )
    from bascule.compiled_models import (
        ModelCompiler,
        ModelPackage,
        ModelPackageComponentContext,
        ModelPackageContext,
        ModelPackageOptions,
        ModelPackageWriteMode,
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
        register_execution_provider_library,
        unregister_execution_provider_library,
    )
    from bascule.graph_assignment import (
        OrtEpAssignedNode,
        OrtEpAssignedSubgraph,
    )
    from bascule.operator_libraries import (
        LibraryOperator,
        OperatorLibrary,
        cmake_dir,
        include_dir,
        load_operators,
    )
    from bascule.operators import Operator, TensorSpec, operator
    from bascule.tools.check import ModelCheck, check
    from bascule.tools.convert import Conversion, convert
    from bascule.tools.diff import ModelDiff, diff
    from bascule.tools.edit import Editor, chain_models, edit, merge_models
    from bascule.tools.profile import Profile, profile
    from bascule.tools.view import View

# What stands on the graph is imported when it is asked for: a session from a plan needs none of it.
_LATER = {
    "LibraryOperator": "bascule.operator_libraries",
    "OperatorLibrary": "bascule.operator_libraries",
    "cmake_dir": "bascule.operator_libraries",
    "include_dir": "bascule.operator_libraries",
    "load_operators": "bascule.operator_libraries",
    "Operator": "bascule.operators",
    "TensorSpec": "bascule.operators",
    "operator": "bascule.operators",
    "ModelDiff": "bascule.tools.diff",
    "diff": "bascule.tools.diff",
    "Editor": "bascule.tools.edit",
    "chain_models": "bascule.tools.edit",
    "edit": "bascule.tools.edit",
    "merge_models": "bascule.tools.edit",
    "View": "bascule.tools.view",
    "AdapterFormat": "bascule.adapters",
    "LoraAdapter": "bascule.adapters",
    "OrtArenaCfg": "bascule.allocators",
    "create_and_register_allocator": "bascule.allocators",
    "create_and_register_allocator_v2": "bascule.allocators",
    "ModelCompiler": "bascule.compiled_models",
    "ModelPackage": "bascule.compiled_models",
    "ModelPackageComponentContext": "bascule.compiled_models",
    "ModelPackageContext": "bascule.compiled_models",
    "ModelPackageOptions": "bascule.compiled_models",
    "ModelPackageWriteMode": "bascule.compiled_models",
    "OrtEpContextData": "bascule.compiled_models",
    "OrtEpContextDataBuffer": "bascule.compiled_models",
    "OrtExternalInitializerInfo": "bascule.compiled_models",
    "OrtEpDevice": "bascule.ep_devices",
    "OrtHardwareDevice": "bascule.ep_devices",
    "OrtSyncStream": "bascule.ep_devices",
    "copy_tensors": "bascule.ep_devices",
    "get_ep_devices": "bascule.ep_devices",
    "register_execution_provider_library": "bascule.ep_devices",
    "unregister_execution_provider_library": "bascule.ep_devices",
    "OrtEpAssignedNode": "bascule.graph_assignment",
    "OrtEpAssignedSubgraph": "bascule.graph_assignment",
    "Conversion": "bascule.tools.convert",
    "convert": "bascule.tools.convert",
    "ModelCheck": "bascule.tools.check",
    "check": "bascule.tools.check",
    "Profile": "bascule.tools.profile",
    "profile": "bascule.tools.profile",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'bascule' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
