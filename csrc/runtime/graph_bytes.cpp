// SPDX-License-Identifier: Apache-2.0
#include "runtime/graph_bytes.h"

#include <algorithm>
#include <utility>

#include "runtime/kernel.h"

namespace bascule {

namespace {

// Graphs that are nested deeper than this are not read.
constexpr int deepest = 64;
constexpr auto graph_kind =
    static_cast<uint8_t>(std::variant_size_v<Attribute> - 1);  // the last of the alternatives
static_assert(std::is_same_v<std::variant_alternative_t<graph_kind, Attribute>,
                             std::shared_ptr<const GraphSpec>>);

void write_texts(ByteWriter& to, const std::vector<std::string>& texts) {
  to.count(texts.size());
  for (const std::string& text : texts) to.text(text);
}

std::vector<std::string> read_texts(ByteReader& from) {
  std::vector<std::string> texts(from.count(sizeof(uint64_t)));
  for (std::string& text : texts) text = from.text();
  return texts;
}

void write_value(ByteWriter& to, const ValueSpec& value) {
  to.text(value.name);
  to.number(static_cast<uint8_t>(value.kind));
  to.number(static_cast<uint8_t>(value.optional));
  to.number(static_cast<uint8_t>(value.dtype));
  to.number(static_cast<uint8_t>(value.shape.has_value()));
  if (value.shape) to.numbers(std::span<const int64_t>(*value.shape));
}

uint8_t read_flag(ByteReader& from) {
  const auto flag = from.number<uint8_t>();
  if (flag > 1) ByteReader::damaged();
  return flag;
}

ValueSpec read_value(ByteReader& from) {
  ValueSpec value;
  value.name = from.text();
  const auto kind = from.number<uint8_t>();
  if (kind > static_cast<uint8_t>(ValueKind::sparse_tensor)) ByteReader::damaged();
  value.kind = static_cast<ValueKind>(kind);
  value.optional = read_flag(from) != 0;
  value.dtype = read_dtype(from);
  if (read_flag(from) != 0) {
    value.shape = from.numbers<int64_t>();
    if (std::any_of(value.shape->begin(), value.shape->end(), [](int64_t d) { return d < -1; })) {
      ByteReader::damaged();
    }
  }
  return value;
}

void write_node(ByteWriter& to, const GraphSpec::Step& step, const WriteTensor& write_tensor) {
  const NodeSpec& node = step.node;
  if (node.host != nullptr) {
    throw Error(Code::not_implemented,
                node.text() + " is run by " + node.host->runs_by() + ", not by a native kernel");
  }
  to.text(node.op_type);
  to.text(node.domain);
  to.text(node.name);
  to.numbers(std::span<const int>(step.inputs));
  to.numbers(std::span<const int>(step.outputs));
  to.count(node.attributes.size());
  for (const auto& [name, attribute] : node.attributes) {
    to.text(name);
    write_attribute(to, attribute,
                    [&](const Tensor& tensor) { write_tensor(to, tensor, nullptr, -1); });
    if (const auto* graph = std::get_if<std::shared_ptr<const GraphSpec>>(&attribute)) {
      write_graph(to, **graph, write_tensor);
    }
  }
}

class GraphReader {
 public:
  GraphReader(ByteReader& from, const ReadTensor& read_tensor)
      : from_(from), read_tensor_(read_tensor) {}

  std::shared_ptr<const GraphSpec> read(int depth) {
    if (depth > deepest) ByteReader::damaged();
    auto graph = std::make_shared<GraphSpec>();
    graph->name = from_.text();
    graph->values.resize(from_.count(12));
    for (ValueSpec& value : graph->values) value = read_value(from_);
    std::vector<bool> known(graph->values.size(), false);
    graph->inputs = from_.numbers<int>();
    for (const int slot : graph->inputs) define(known, slot);
    graph->captures = from_.number<int>();
    if (graph->captures < 0 || static_cast<size_t>(graph->captures) > graph->inputs.size()) {
      ByteReader::damaged();
    }
    read_constants(*graph, known);
    graph->nodes.resize(from_.count(6 * sizeof(uint64_t)));
    for (GraphSpec::Step& step : graph->nodes) read_node(*graph, step, known, depth);
    graph->outputs = from_.numbers<int>();
    for (const int slot : graph->outputs) check(known, slot);
    return graph;
  }

 private:
  static void define(std::vector<bool>& known, int slot) {
    if (slot < 0 || static_cast<size_t>(slot) >= known.size()) ByteReader::damaged();
    if (known[static_cast<size_t>(slot)]) ByteReader::damaged();
    known[static_cast<size_t>(slot)] = true;
  }
  static void check(const std::vector<bool>& known, int slot) {
    if (slot < 0 || static_cast<size_t>(slot) >= known.size() || !known[static_cast<size_t>(slot)])
      ByteReader::damaged();
  }

  void read_constants(GraphSpec& graph, std::vector<bool>& known) {
    const size_t count = from_.count(sizeof(int));
    for (size_t i = 0; i < count; ++i) {
      const int slot = from_.number<int>();
      define(known, slot);
      ValueSpec& value = graph.values[static_cast<size_t>(slot)];
      Tensor tensor = read_tensor_(from_);
      if (value.kind != ValueKind::tensor || tensor.dtype() != value.dtype) ByteReader::damaged();
      value.shape.emplace(tensor.shape().begin(), tensor.shape().end());
      graph.constants.emplace(slot, std::move(tensor));
    }
  }

  void read_node(const GraphSpec& graph, GraphSpec::Step& step, std::vector<bool>& known,
                 int depth) {
    NodeSpec& node = step.node;
    node.op_type = from_.text();
    node.domain = from_.text();
    node.name = from_.text();
    step.inputs = from_.numbers<int>();
    step.outputs = from_.numbers<int>();
    const auto spec = [&](int slot) {
      if (slot >= 0) return graph.values[static_cast<size_t>(slot)];
      ValueSpec absent;
      absent.kind = ValueKind::none;
      return absent;
    };
    for (const int slot : step.inputs) {
      if (slot != -1) check(known, slot);
      node.inputs.push_back(spec(slot));
    }
    for (const int slot : step.outputs) {
      if (slot != -1) define(known, slot);
      node.outputs.push_back(spec(slot));
    }
    const size_t count = from_.count(2 * sizeof(uint64_t));
    for (size_t i = 0; i < count; ++i) {
      std::string name = from_.text();
      node.attributes.emplace(std::move(name), read_attribute(depth));
    }
  }

  Attribute read_attribute(int depth) {
    switch (from_.number<uint8_t>()) {
      case 0:
        return from_.number<int64_t>();
      case 1:
        return from_.number<float>();
      case 2:
        return from_.text();
      case 3:
        return read_tensor_(from_);
      case 4:
        return from_.numbers<int64_t>();
      case 5:
        return from_.numbers<float>();
      case 6:
        return read_texts(from_);
      case graph_kind:
        return read(depth + 1);
      default:
        ByteReader::damaged();
    }
  }

  ByteReader& from_;
  const ReadTensor& read_tensor_;
};

}  // namespace

void write_shape(ByteWriter& to, const Shape& shape) { to.numbers(shape.dims()); }

Shape read_shape(ByteReader& from) {
  const auto sizes = from.numbers<int64_t>();
  if (sizes.size() > Shape::max_rank ||
      std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size < 0; })) {
    ByteReader::damaged();
  }
  return Shape(sizes);
}

DType read_dtype(ByteReader& from) {
  const auto dtype = from.number<uint8_t>();
  if (dtype >= dtype_count) ByteReader::damaged();
  return static_cast<DType>(dtype);
}

void write_attribute(ByteWriter& to, const Attribute& attribute,
                     const std::function<void(const Tensor&)>& write_tensor) {
  to.number(static_cast<uint8_t>(attribute.index()));
  std::visit(
      [&]<class T>(const T& value) {
        if constexpr (std::is_arithmetic_v<T>) {
          to.number(value);
        } else if constexpr (std::is_same_v<T, std::string>) {
          to.text(value);
        } else if constexpr (std::is_same_v<T, Tensor>) {
          write_tensor(value);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          write_texts(to, value);
        } else if constexpr (!std::is_same_v<T, std::shared_ptr<const GraphSpec>>) {
          to.numbers(std::span(value));
        }
      },
      attribute);
}

void write_graph(ByteWriter& to, const GraphSpec& graph, const WriteTensor& write_tensor) {
  to.text(graph.name);
  to.count(graph.values.size());
  for (const ValueSpec& value : graph.values) write_value(to, value);
  to.numbers(std::span<const int>(graph.inputs));
  to.number(graph.captures);
  to.count(graph.constants.size());
  for (const auto& [slot, tensor] : graph.constants) {
    to.number(slot);
    write_tensor(to, tensor, &graph, slot);
  }
  to.count(graph.nodes.size());
  for (const GraphSpec::Step& step : graph.nodes) write_node(to, step, write_tensor);
  to.numbers(std::span<const int>(graph.outputs));
}

std::shared_ptr<const GraphSpec> read_graph(ByteReader& from, const ReadTensor& read_tensor) {
  return GraphReader(from, read_tensor).read(0);
}

}  // namespace bascule
