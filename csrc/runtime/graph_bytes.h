// SPDX-License-Identifier: Apache-2.0
// A GraphSpec as bytes. What becomes of tensors is up to the caller.
#pragma once

#include <functional>
#include <memory>

#include "runtime/byte_stream.h"
#include "runtime/node.h"

namespace bascule {

void write_shape(ByteWriter& to, const Shape& shape);
Shape read_shape(ByteReader& from);
DType read_dtype(ByteReader& from);

// Everything of an attribute but its name; nested graphs are left to write_graph().
void write_attribute(ByteWriter& to, const Attribute& attribute,
                     const std::function<void(const Tensor&)>& write_tensor);

// `write_tensor` gets the constant's slot and graph, or none for an attribute.
using WriteTensor = std::function<void(ByteWriter&, const Tensor&, const GraphSpec*, int slot)>;
void write_graph(ByteWriter& to, const GraphSpec& graph, const WriteTensor& write_tensor);

// An error for anything that write_graph() cannot have written, or that is no graph: every value
// stands before it is read, and is made once.
using ReadTensor = std::function<Tensor(ByteReader&)>;
std::shared_ptr<const GraphSpec> read_graph(ByteReader& from, const ReadTensor& read_tensor);

}  // namespace bascule
