// SPDX-License-Identifier: Apache-2.0
// The binary interface between bascule and libraries of operators, in plain C (C99 or later).
//
// A library exports one function, bascule_operator_library, which returns a description of its
// operators; bascule hands it a table of functions (bascule_api). Nothing else is linked, so a
// library may be built by any compiler. <bascule/operator.h> is the layer for C++20 above this.
//
// Versions. A library is taken when its major version is bascule's and its minor version is not
// newer. Within a major version structures that begin with their size may grow, at the end; the
// others stay as they are. Text is UTF-8. What a library hands over has to stay as it is until the
// process ends, unless it says otherwise.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define BASCULE_ABI_MAJOR 1u
#define BASCULE_ABI_MINOR 0u
#define BASCULE_ABI (BASCULE_ABI_MAJOR << 16 | BASCULE_ABI_MINOR)

#if defined(_WIN32)
#define BASCULE_EXPORT __declspec(dllexport)
#else
#define BASCULE_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Elements of a tensor: dense, row-major. Element types have the numbers of
// onnx.TensorProto.DataType; those of less than 8 bits are packed as ONNX packs them, the first
// element in the lowest bits. Strings have no `data`: see get_string and set_string.
typedef struct bascule_tensor {
  const int64_t* shape;  // `rank` sizes
  void* data;            // NULL where the elements are not known yet
  int32_t rank;          // -1: not known yet
  int32_t dtype;         // 0: not known yet
} bascule_tensor;

// Kinds of attributes, with the numbers of onnx.AttributeProto.AttributeType.
enum {
  BASCULE_FLOAT = 1,
  BASCULE_INT = 2,
  BASCULE_STRING = 3,
  BASCULE_TENSOR = 4,
  BASCULE_FLOATS = 6,
  BASCULE_INTS = 7,
  BASCULE_STRINGS = 8
};

// The value of an attribute. Of the pointers the one for its kind is set.
typedef struct bascule_value {
  int32_t kind;
  int64_t count;  // of items; 1 for what is no list
  const float* floats;
  const int64_t* ints;
  const char* const* strings;  // each ends with a zero byte
  const int64_t* lengths;      // bytes of each string, without that
  const bascule_tensor* tensor;
} bascule_value;

typedef struct bascule_attribute {
  uint32_t size;  // sizeof(bascule_attribute)
  int32_t kind;
  const char* name;
  const bascule_value* fallback;  // what it is where a node leaves it out; may be NULL
  int32_t required;               // whether a node may not leave it out
} bascule_attribute;

enum {
  BASCULE_OPTIONAL = 1,  // nodes may leave it out
  BASCULE_VARIADIC = 2   // any number of them, from none on; only the last parameter
};

// An input or output of an operator.
typedef struct bascule_parameter {
  uint32_t size;     // sizeof(bascule_parameter)
  uint32_t flags;    // BASCULE_OPTIONAL, BASCULE_VARIADIC
  const char* name;  // for messages
  uint64_t dtypes;   // bit n: it may have element type n; 0: any but strings
  int32_t same_as;   // number of the input whose element type it has; -1: none
} bascule_parameter;

typedef struct bascule_error bascule_error;  // where the text of an error goes
typedef struct bascule_node bascule_node;    // a node of a model
typedef struct bascule_call bascule_call;    // one run of a node
typedef struct bascule_operator bascule_operator;

// An operator. Its functions return 0, or anything else after set_error; no exception may leave
// them. They may be called from several threads at once.
struct bascule_operator {
  uint32_t size;  // sizeof(bascule_operator)
  int32_t since;  // the version of the domain that brought the operator in this form, from 1 on
  const char* domain;
  const char* name;
  const char* doc;  // may be NULL
  int32_t input_count;
  int32_t output_count;
  int32_t attribute_count;
  const bascule_parameter* const* inputs;
  const bascule_parameter* const* outputs;
  const bascule_attribute* const* attributes;
  // Says, by set_output_type, what is known of the outputs. May be NULL: an output then has the
  // element type that its parameter leaves it, or else that of the first input.
  int32_t (*infer)(const bascule_operator* self, bascule_node* node, bascule_error* error);
  // Make what runs of a node share, and free it; the node stays until then. Both may be NULL.
  int32_t (*create)(const bascule_operator* self, const bascule_node* node, void** state,
                    bascule_error* error);
  void (*destroy)(const bascule_operator* self, void* state);
  // Compute the outputs.
  int32_t (*compute)(const bascule_operator* self, const void* state, bascule_call* call,
                     bascule_error* error);
};

typedef struct bascule_library {
  uint32_t size;        // sizeof(bascule_library)
  uint32_t abi;         // BASCULE_ABI
  const char* version;  // of the library, for people; may be NULL
  int32_t operator_count;
  const bascule_operator* const* operators;
} bascule_library;

// A part of a loop: items begin to end - 1.
typedef void (*bascule_body)(void* context, int64_t begin, int64_t end);

// What bascule offers. The first three members stay as they are in every version.
typedef struct bascule_api {
  uint32_t size;
  uint32_t abi;
  void (*set_error)(bascule_error* error, const char* text, size_t length);

  // Of a node. Its attributes and types stay where they are as long as the node.
  const char* (*node_name)(const bascule_node* node);
  int32_t (*input_count)(const bascule_node* node);
  int32_t (*output_count)(const bascule_node* node);
  // What is known of an input before any run, the elements of constants included; NULL if it is
  // left out. Sizes below 0 are not known yet: nothing may be computed of them. In `infer` two of
  // them that are the same number, but for -1, will be the same size, and may be handed on.
  const bascule_tensor* (*input_type)(const bascule_node* node, int32_t index);
  // The node's, or else the fallback; NULL if there is neither.
  const bascule_value* (*attribute)(const bascule_node* node, const char* name);
  // For `infer` alone; not 0 if it failed. dtype 0, rank -1 and sizes of -1 say: not known.
  int32_t (*set_output_type)(bascule_node* node, int32_t index, int32_t dtype, int32_t rank,
                             const int64_t* shape);

  // Of a run. Only the thread that computes calls these, not the body of a loop.
  const bascule_node* (*node_of)(const bascule_call* call);
  const bascule_tensor* (*input)(bascule_call* call, int32_t index);  // NULL: left out
  // Whether anybody reads an output; one that nobody reads need not be made.
  int32_t (*wants_output)(const bascule_call* call, int32_t index);
  // Memory for an output, 64-byte aligned and uninitialized; once for each. NULL if the type or
  // shape is none that it may have: return an error then, bascule knows which.
  const bascule_tensor* (*output)(bascule_call* call, int32_t index, int32_t dtype, int32_t rank,
                                  const int64_t* shape);
  // An element of an input of strings, as long as the run: its bytes, of which `length` tells the
  // number, and a zero byte. NULL as for an output.
  const char* (*get_string)(bascule_call* call, int32_t index, int64_t element, int64_t* length);
  // Sets an element of an output of strings, which are empty at first; not 0 if it failed.
  int32_t (*set_string)(bascule_call* call, int32_t index, int64_t element, const char* text,
                        int64_t length);
  // Memory until the run is over, 64-byte aligned; NULL as for an output.
  void* (*workspace)(bascule_call* call, int64_t bytes);
  int32_t (*threads)(const bascule_call* call);
  // body over [0, count) in pieces, on the session's threads, the caller's included. `cost` is the
  // rough number of simple operations of one item. Not 0 if it failed.
  int32_t (*parallel_for)(bascule_call* call, int64_t count, double cost, bascule_body body,
                          void* context);
} bascule_api;

// What a library exports. NULL, after set_error, if it cannot be used.
typedef const bascule_library* (*bascule_operator_library_function)(const bascule_api* api,
                                                                    bascule_error* error);
BASCULE_EXPORT const bascule_library* bascule_operator_library(const bascule_api* api,
                                                               bascule_error* error);

#ifdef __cplusplus
}
#endif
