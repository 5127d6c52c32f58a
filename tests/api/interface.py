# SPDX-License-Identifier: Apache-2.0
"""Every row of onnxruntime's Python interface, and the tests that it has.

A test is a row that one of ROW_MODULES marks (for the same check on both runtimes), or
``path::function``. LEFT_OUT are the rows that are not carried; each of them has a test of how it is
refused, and a line in docs/coming_from_onnxruntime.md.
"""

from __future__ import annotations

ROW_MODULES = ("module", "options", "entries", "session", "values", "binding", "feeds", "cuda")
"""Endings of tests.api.test_rows_*."""

_API = "tests/api/"

MODULE = {
    "__version__, get_version_string()": ("__version__", "get_version_string"),
    "get_available_providers()": ("get_available_providers",),
    "get_all_providers()": ("get_all_providers",),
    "get_device()": ("get_device",),
    "classes of the top module": ("classes of the top module",),
    "set_default_logger_severity": (
        "set_default_logger_severity",
        f"{_API}test_options.py::test_logger_severity",
    ),
    "set_default_logger_verbosity": ("set_default_logger_verbosity",),
    "set_default_logger_callback": (
        "set_default_logger_callback",
        "set_default_logger_callback with errors",
        f"{_API}test_options.py::test_logger_callback",
    ),
    "set_seed": ("set_seed", f"{_API}test_options.py::test_seed"),
    "preload_dlls": ("preload_dlls",),
    "set_global_thread_pool_sizes": ("module.set_global_thread_pool_sizes",),
    "create_and_register_allocator, ..._v2": (
        "create_and_register_allocator",
        "create_and_register_allocator_v2",
    ),
    "copy_tensors": ("copy_tensors",),
    "get_ep_devices(), (un)register_execution_provider_library": (
        "get_ep_devices",
        "register_execution_provider_library",
        "unregister_execution_provider_library",
    ),
    "telemetry, has_collective_ops, print_debug_info, build info": (
        *("disable_telemetry_events", "enable_telemetry_events", "has_collective_ops"),
        *("print_debug_info", "get_build_info", "package_name", "version", "cuda_version"),
    ),
    "submodules": (
        *("submodules capi", "backend.prepare", "datasets.get_example", "quantization"),
        *("transformers", "tools", "tests/dropin/test_alias.py::test_submodules"),
    ),
    "datasets.get_example": ("datasets.get_example",),
}

SESSION = {
    "constructor": (
        *("session.source", "session.get_session_options", "load.own_format"),
        f"{_API}test_session.py::test_unknown_arguments_are_ignored",
    ),
    "constructor: providers": (
        *("session.providers", "session.providers absent", "session.providers twice"),
        f"{_API}test_session.py::test_malformed_providers_fall_back",
    ),
    "constructor: provider_options": (
        *("session.provider_options", "capi.check_and_normalize_provider_args"),
    ),
    "constructor: kwargs": (
        *("session.enable_fallback", "session.disabled_optimizers"),
        "session.read_config_from_model",
    ),
    "run": (
        *("session.run", "session.run.output_names", "result.fresh", "result.scalar"),
        f"{_API}test_run.py::test_threads_may_share_a_session",
    ),
    "feed values": (
        *("session.run.values", "session.run.object", "feed.strings", "feed.sequence"),
        *("feed.map", "feed.optional", "feed.layouts", "feed.byte_order"),
    ),
    "results": (
        *("result.strings", "result.sequence", "result.sequence_of_maps", "result.optional"),
        f"{_API}test_element_types.py::test_arrays_of_any_layout",
    ),
    "checks before running": (
        *("session.run.missing_input", "feed.unused_input", "feed.default"),
        "feed.same_named_sizes",
    ),
    "get_inputs(), get_outputs()": ("session.get_inputs", "session.get_outputs"),
    "get_overridable_initializers()": ("session.get_overridable_initializers", "feed.default"),
    "get_modelmeta()": ("session.get_modelmeta",),
    "get_providers()": ("session.get_providers",),
    "get_provider_options()": (
        "session.get_provider_options",
        f"{_API}test_rows_cuda.py::test_a_session_tells_of_all",
    ),
    "set_providers": ("session.set_providers",),
    "get_session_options()": ("session.get_session_options",),
    "io_binding(), run_with_iobinding": ("session.io_binding", "session.run_with_iobinding"),
    "run_with_ort_values": ("session.run_with_ort_values",),
    "run_async": ("session.run_async",),
    "run_with_ortvaluevector": ("session.run_with_ortvaluevector",),
    "end_profiling()": ("session.end_profiling", "options.enable_profiling"),
    "get_profiling_start_time_ns()": ("session.get_profiling_start_time_ns",),
    "enable_fallback(), disable_fallback()": ("session.disable_fallback", "session.run.EPFail"),
    "memory infos and devices of inputs and outputs": (
        *("session.get_input_memory_infos", "session.get_output_memory_infos"),
        "session.get_input_epdevices",
    ),
    "create_ortvalue_from_shape_and_type": ("session.create_ortvalue_from_shape_and_type",),
    "get_provider_graph_assignment_info()": ("session.get_provider_graph_assignment_info",),
    "tuning results, dynamic options, captured graphs": (
        *("session.get_tuning_results", "session.set_tuning_results"),
        *("session.set_ep_dynamic_options", "session.release_captured_graph"),
    ),
    "private names in use": ("session private names",),
    "copy, pickle": ("session.copies", f"{_API}test_session_copies.py::test_options_are_copied"),
}

OPTIONS = {
    "graph_optimization_level": ("options.graph_optimization_level",),
    "intra_op_num_threads": ("options.intra_op_num_threads",),
    "inter_op_num_threads": ("options.inter_op_num_threads",),
    "execution_mode": ("options.execution_mode",),
    "log_severity_level": ("options.log_severity_level",),
    "log_verbosity_level, logid": (
        *("options.log_verbosity_level", "options.logid", "options.logid in records"),
    ),
    "enable_profiling, profile_file_prefix": (
        *("options.enable_profiling", "options.profile_file_prefix"),
        "options.enable_profiling without end_profiling",
        f"{_API}test_options.py::test_profile",
    ),
    "optimized_model_filepath": ("options.optimized_model_filepath",),
    "enable_mem_pattern, enable_mem_reuse, enable_cpu_mem_arena": (
        *("options.enable_mem_pattern", "options.enable_mem_reuse"),
        "options.enable_cpu_mem_arena",
    ),
    "use_deterministic_compute": ("options.use_deterministic_compute",),
    "use_per_session_threads": ("options.use_per_session_threads",),
    "execution_order": ("options.execution_order",),
    "add_session_config_entry, get_session_config_entry": (
        *("options.add_session_config_entry", "options.get_session_config_entry"),
    ),
    "add_free_dimension_override_by_name, ..._by_denotation": (
        "options.add_free_dimension_override_by_name",
        "options.add_free_dimension_override_by_denotation",
    ),
    "add_initializer": ("options.add_initializer", "options.add_initializer keeps"),
    "add_external_initializers": (
        "options.add_external_initializers",
        "options.add_external_initializers without the file",
    ),
    "add_external_initializers_from_files_in_memory": (
        "options.add_external_initializers_from_files_in_memory",
    ),
    "register_custom_ops_library": ("options.register_custom_ops_library",),
    "providers inside options": (
        *("options.add_provider", "options.has_providers", "options.add_provider_for_devices"),
        *("options.set_provider_selection_policy",),
        "options.set_provider_selection_policy_delegate",
        "options.set_ep_context_data_read_func",
        "options.clear_ep_context_data_read_func",
    ),
    "set_load_cancellation_flag": (
        "options.set_load_cancellation_flag",
        f"{_API}test_rows_options.py::test_a_load_under_way_is_cancelled",
    ),
    "unknown attribute": ("options unknown attribute",),
}

ENTRIES = {
    "allow_spinning": (
        *("entry.session.intra_op.allow_spinning", "entry.session.inter_op.allow_spinning"),
        "tests/runtime/test_threads.py::test_many_callers_at_once",
    ),
    "set_denormal_as_zero": ("entry.session.set_denormal_as_zero",),
    "disable_prepacking and allocators": (
        "entry.session.disable_prepacking acts",
        "entry.session.use_env_allocators",
        "entry.session.use_device_allocator_for_initializers",
    ),
    "intra_op_thread_affinities": (
        "entry.session.intra_op_thread_affinities",
        f"{_API}test_rows_options.py::test_a_thread_is_bound",
    ),
    "disable_cpu_ep_fallback": ("entry.session.disable_cpu_ep_fallback",),
    "load_model_format, save_model_format": (
        *("entry.session.load_model_format", "entry.session.save_model_format"),
    ),
    "optimized_model_external_initializers_...": (
        "entry.session.optimized_model_external_initializers_file_name",
        "entry.session.optimized_model_external_initializers_min_size_in_bytes",
    ),
    "model_external_initializers_file_folder_path": (
        "entry.session.model_external_initializers_file_folder_path",
    ),
    "Q/DQ fusion": (
        "entry.session.disable_quant_qdq acts",
        "entry.session.enable_quant_qdq_cleanup acts",
        "entry.session.disable_double_qdq_remover acts",
        "entry.session.qdq_matmulnbits_accuracy_level",
    ),
    "optimizer": (
        "entry.optimization.enable_gelu_approximation acts",
        "entry.optimization.disable_specified_optimizers",
        "entry.session.graph_optimizations_loop_level acts",
        "entry.session.disable_aot_function_inlining",
    ),
    "strict inference and further numbers": (
        *("entry.session.dynamic_block_base", "entry.session.force_spinning_stop"),
        "entry.session.strict_shape_type_inference acts",
        "entry.session.allow_released_opsets_only",
        "entry.session.record_ep_graph_assignment_info",
        "entry.session.use_ort_model_bytes_directly",
    ),
    "ep.context_..., mlas....": (
        *("entry.ep.context_enable", "entry.ep.context_file_path"),
        *("entry.ep.context_embed_mode", "entry.mlas.enable_gemm_fastmath_arm64_bfloat16"),
    ),
}

RUN_OPTIONS = {
    "log_severity_level, log_verbosity_level, logid": (
        *("run.log_severity_level", "run.log_verbosity_level", "run.logid"),
    ),
    "terminate": (
        "run.terminate",
        f"{_API}test_run.py::test_terminate_from_another_thread_stops_a_loop",
    ),
    "only_execute_path_to_fetches": ("run.only_execute_path_to_fetches",),
    "add_run_config_entry, get_run_config_entry": (
        *("run.add_run_config_entry", "run.get_run_config_entry"),
    ),
    "add_active_adapter": ("run.add_active_adapter", "RunOptions.add_active_adapter"),
}

METADATA = {
    "NodeArg.name": ("node_arg.name",),
    "NodeArg.shape": ("node_arg.shape", f"{_API}test_session.py::test_node_args"),
    "NodeArg.type": (
        *("node_arg.type", "feed.map", "result.sequence_of_maps"),
        f"{_API}test_session.py::test_type_names",
    ),
    "ModelMetadata": (
        *("metadata.producer_name", "metadata.graph_name", "metadata.graph_description"),
        *("metadata.description", "metadata.domain", "metadata.version"),
        "metadata.custom_metadata_map",
    ),
}

VALUES = {
    "ortvalue_from_numpy": (
        *("OrtValue.ortvalue_from_numpy", "OrtValue.ortvalue_from_numpy ml_dtypes"),
        "OrtValue on an absent device",
    ),
    "ortvalue_from_shape_and_type": (
        "OrtValue.ortvalue_from_shape_and_type",
        "OrtValue.ortvalue_from_shape_and_type memory_info",
    ),
    "ortvalue_from_numpy_with_onnx_type": (
        "OrtValue.ortvalue_from_numpy_with_onnx_type",
        "OrtValue.ortvalue_from_numpy_with_onnx_type int4",
    ),
    "ort_value_from_sparse_tensor, as_sparse_tensor": (
        *("OrtValue.ort_value_from_sparse_tensor", "OrtValue.as_sparse_tensor"),
    ),
    "from_dlpack": ("OrtValue.from_dlpack", "OrtValue.from_dlpack bfloat16"),
    "numpy()": ("OrtValue.numpy",),
    "__array__, __dlpack__, __dlpack_device__": (
        *("OrtValue.__array__", "OrtValue.__dlpack__", "OrtValue.__dlpack_device__"),
    ),
    "shape() and what else it tells": (
        *("OrtValue.shape", "OrtValue.data_type", "OrtValue.element_type"),
        *("OrtValue.device_name", "OrtValue.data_ptr", "OrtValue.tensor_size_in_bytes"),
        "OrtValue of a sequence",
    ),
    "is_tensor() and its like": (
        *("OrtValue.is_tensor", "OrtValue.is_tensor_sequence", "OrtValue.is_sparse_tensor"),
        "OrtValue.has_value",
    ),
    "update_inplace": (
        "OrtValue.update_inplace",
        "OrtValue compared, measured and made of foreign objects",
    ),
    "OrtValueVector": (
        *("OrtValueVector.reserve", "OrtValueVector.push_back", "OrtValueVector.len"),
        *("OrtValueVector.[i]", "OrtValueVector.element_type_at", "OrtValueVector.dlpack_at"),
        *("OrtValueVector.to_dlpacks", "OrtValueVector.push_back_batch"),
    ),
}

BINDING = {
    "bind_cpu_input": ("IOBinding.bind_cpu_input",),
    "bind_input": (
        *("IOBinding.bind_input", "IOBinding of memory that cannot be"),
        "IOBinding of the address 0",
    ),
    "bind_ortvalue_input, bind_ortvalue_output": (
        *("IOBinding.bind_ortvalue_input", "IOBinding.bind_ortvalue_output"),
    ),
    "bind_output": (
        *("IOBinding.bind_output", "IOBinding.bind_output dynamic shapes"),
        "IOBinding.bind_output unknown name",
    ),
    "get_outputs()": ("IOBinding.get_outputs",),
    "copy_outputs_to_cpu()": (
        *("IOBinding.copy_outputs_to_cpu", "IOBinding.copy_outputs_to_cpu copies"),
        *("IOBinding before the first run", "IOBinding of a sequence"),
    ),
    "clearing and synchronizing": (
        *("IOBinding.clear_binding_inputs", "IOBinding.clear_binding_outputs"),
        "IOBinding after clear_binding_outputs",
        *("IOBinding.synchronize_inputs", "IOBinding.synchronize_outputs"),
        "IOBinding.get_outputs_as_ortvaluevector",
    ),
    "errors in run_with_iobinding": ("IOBinding errors of the run", "IOBinding of a default"),
    "SessionIOBinding": ("SessionIOBinding",),
}

DEVICES = {
    "OrtDevice.make": ("OrtDevice.make",),
    "OrtDevice's numbers": (
        *("OrtDevice.device_id", "OrtDevice.device_type", "OrtDevice.device_vendor_id"),
        *("OrtDevice.device_mem_type", "OrtDevice of the extension module"),
    ),
    "OrtMemoryInfo": ("OrtMemoryInfo", "OrtMemoryInfo.create_v2"),
    "OrtArenaCfg": ("OrtArenaCfg",),
    "sparse_coo_from_numpy": ("SparseTensor.sparse_coo_from_numpy",),
    "sparse_csr_from_numpy": ("SparseTensor.sparse_csr_from_numpy",),
    "SparseTensor's views": (
        *("SparseTensor.values", "SparseTensor.as_coo_view", "SparseTensor.as_csrc_view"),
        *("SparseTensor.as_blocksparse_view", "SparseTensor.format", "SparseTensor.dense_shape"),
        *("SparseTensor.data_type", "SparseTensor.device_name", "SparseTensor.to_cuda"),
    ),
}

ENUMS = {
    "GraphOptimizationLevel": ("enum GraphOptimizationLevel",),
    "ExecutionMode": ("enum ExecutionMode",),
    "ExecutionOrder": ("enum ExecutionOrder",),
    "OrtAllocatorType, OrtMemType": ("enum OrtAllocatorType", "enum OrtMemType"),
    "OrtSparseFormat": ("enum OrtSparseFormat",),
    "OrtDeviceVendorId": ("enum OrtDeviceVendorId",),
    "enums of devices and compilers": (
        *("enum OrtHardwareDeviceType", "enum OrtMemoryInfoDeviceType"),
        *("enum OrtDeviceMemoryType", "enum OrtExecutionProviderDevicePolicy"),
        *("enum OrtCompileApiFlags", "enum ModelPackageWriteMode"),
    ),
}

ERRORS = {
    "classes": ("exceptions", f"{_API}test_session.py::test_codes"),
    "run: input missing": ("session.run.missing_input",),
    "run: unknown input name": ("session.run.unknown_input", "session.run.malformed_arguments"),
    "run: unknown output name": ("session.run.unknown_output",),
    "run: wrong dtype": ("session.run.dtype",),
    "run: wrong rank": ("session.run.rank",),
    "run: wrong fixed dim": ("session.run.dimension",),
    "run: tensor for a sequence input": ("session.run.tensor_for_sequence",),
    "run: odd object": ("session.run.object", f"{_API}test_feeds.py::test_what_is_no_tensor"),
    "run: malformed arguments": ("session.run.malformed_arguments",),
    "run: kernel failure": ("session.run.kernel_failure",),
    "run: index out of range": ("session.run.index_out_of_range",),
    "run: required value given as None": ("session.run.nothing_for_a_tensor",),
    "run: terminate": ("run.terminate",),
    "load: file missing": ("load.file_missing",),
    "load: garbage, a folder": ("load.garbage", "load.folder"),
    "load: empty, no graph": ("load.empty", "load.no_graph"),
    "load: wrong object, empty path": ("session.source", "load.empty_path"),
    "load: unknown op": ("load.unknown_op",),
    "load: op of an unregistered domain": ("load.unregistered_domain",),
    "load: domain not imported": (
        *("load.domain_not_imported", "load.microsoft_domain_without_import"),
    ),
    "load: no kernel": ("load.no_kernel",),
    "load: schema": (
        *("load.type_not_allowed", "load.attribute_missing", "load.attribute_unknown"),
        "load.too_many_inputs",
    ),
    "load: types differ": ("load.types_differ", "load.declared_output_type"),
    "load: static shapes contradict": ("load.shapes_contradict", "load.declared_output_shape"),
    "load: dangling input": ("load.dangling", "load.nodes_in_any_order"),
    "load: duplicate, cycle, output never made": (
        *("load.duplicate_name", "load.cycle", "load.output_missing"),
    ),
    "load: opset or IR": ("load.opset_too_new", "load.ir_too_new", "load.no_opset"),
    "load: external data missing": ("load.external_data_missing",),
    "load: types without support": ("load.complex",),
    "options": ("options.intra_op_num_threads", "options.add_session_config_entry"),
    "EP: device failure": ("session.run.EPFail",),
    "EP: option refused": ("load.provider_option_refused", "cuda options that are refused"),
}

CUDA = {
    "device_id": ("cuda.device_id", "cuda options that act"),
    "memory": ("cuda.gpu_mem_limit", "cuda.arena_extend_strategy"),
    "cuDNN": (
        *("cuda.cudnn_conv_algo_search", "cuda.cudnn_conv_use_max_workspace"),
        *("cuda.cudnn_conv1d_pad_to_nc1d", "cuda.fuse_conv_bias"),
    ),
    "streams": (
        *("cuda.do_copy_in_default_stream", "cuda.user_compute_stream"),
        "cuda.has_user_compute_stream",
    ),
    "tf32, graphs, layout": ("cuda.use_tf32", "cuda.enable_cuda_graph", "cuda.prefer_nhwc"),
    "others": (
        *("cuda.enable_skip_layer_norm_strict_mode", "cuda.tunable_op_enable"),
        *("cuda.tunable_op_tuning_enable", "cuda.tunable_op_max_tuning_duration_ms"),
        *("cuda.sdpa_kernel", "cuda.gpu_external_alloc", "cuda.gpu_external_free"),
        *("cuda.gpu_external_empty_cache", "cuda.use_ep_level_unified_stream"),
    ),
}

BACKEND = {
    "prepare": ("backend.prepare", "tests/dropin/test_onnx_backend.py::test_the_runner_of_onnx"),
    "run, supports_device, is_compatible": (
        *("backend.run", "backend.supports_device", "backend.is_compatible"),
    ),
    "OnnxRuntimeBackend, run_node": ("backend.OnnxRuntimeBackend.run_node",),
}

OTHERS = {
    "AdapterFormat, LoraAdapter": ("AdapterFormat", "LoraAdapter"),
    "compiled models, plugin classes, OrtExternalInitializerInfo": (
        *("ModelCompiler", "ModelPackage", "OrtEpDevice", "OrtHardwareDevice", "OrtSyncStream"),
        *("OrtExternalInitializerInfo", "classes of the top module"),
    ),
    "quantization": (
        *("quantization", "quantization types", "quantization calibrate"),
        *("quantization registry", "quantization onnx_quantizer", "quantization quant_utils"),
        "tests/quantization/test_quantize.py::test_static",
    ),
    "quantization's other modules": (
        *("quantization shape_inference", "quantization preprocess"),
        *("quantization matmul_nbits_quantizer", "quantization matmul_bnb4_quantizer"),
        *("quantization qdq_loss_debug", "quantization static_quantize_runner"),
        "tests/quantization/test_weight_rounding.py::test_models",
        "tests/quantization/test_narrow_weights.py::test_floating_point",
    ),
    "transformers": ("transformers", "tests/quantization/test_float16.py::test_the_results"),
    "tools": (
        "tools",
        "tests/tools/test_onnxruntime_tools.py::test_usability",
        "tests/tools/test_onnxruntime_tools.py::test_exported_contrib_operators",
        "tests/tools/test_onnx_model_utils.py::test_shapes_are_inferred_by_name",
    ),
    "capi helpers": (
        *("capi.get_all_operator_schema", "capi.get_all_opkernel_def"),
        *("capi.get_default_session_options", "capi.check_and_normalize_provider_args"),
        *("capi.quantize_matmul_2bits", "capi.quantize_matmul_4bits"),
        *("capi.quantize_matmul_8bits", "capi.quantize_qdq_matmul_2bits"),
        *("capi.quantize_qdq_matmul_4bits", "capi.quantize_matmul_bnb4"),
    ),
}

INTERFACE = {
    "module": MODULE,
    "InferenceSession": SESSION,
    "SessionOptions": OPTIONS,
    "config entries": ENTRIES,
    "RunOptions": RUN_OPTIONS,
    "NodeArg and ModelMetadata": METADATA,
    "OrtValue": VALUES,
    "IOBinding": BINDING,
    "devices, memory, SparseTensor": DEVICES,
    "enums": ENUMS,
    "exceptions": ERRORS,
    "CUDA options": CUDA,
    "backend": BACKEND,
    "other names": OTHERS,
}

LEFT_OUT = {
    "register_custom_ops_library": "options.register_custom_ops_library",
    "register_execution_provider_library": "register_execution_provider_library",
    "ModelCompiler": "ModelCompiler",
    "onnxruntime.transformers": "transformers",
    ".ort": "load.own_format",
}
"""What docs/coming_from_onnxruntime.md names as left out, and the test of its refusal."""
