// SPDX-License-Identifier: Apache-2.0
#include "runtime/prepack.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>

#include "core/digest.h"
#include "runtime/graph_bytes.h"
#include "runtime/packed_memory.h"
#include "simd/isa.h"

namespace bascule {

namespace {

// Smaller tensors are not worth a look at what they are made of.
constexpr int64_t smallest_shared = 4096;

thread_local Compilation* current_compilation = nullptr;

// A key of this process: nobody can make two constants that are taken for one.
const Digest& process_key() {
  static const Digest key = [] {
    std::random_device random;
    const auto word = [&] { return static_cast<uint64_t>(random()) << 32 | random(); };
    return Digest{word(), word()};
  }();
  return key;
}

// The packed tensors that are alive, by what they are made of.
class SharedTensors {
 public:
  // Never destroyed: tensors may be freed while the process ends.
  static SharedTensors& get() {
    static auto* shared = new SharedTensors;
    return *shared;
  }

  Tensor find(const Digest& identity, DType dtype, const Shape& shape) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = owners_.find(identity);
    if (found == owners_.end()) return {};
    std::shared_ptr<void> owner = found->second.lock();
    if (owner == nullptr) return {};
    void* data = owner.get();
    return Tensor(dtype, shape, data, std::move(owner));
  }

  void add(const Digest& identity, const Tensor& tensor) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (owners_.size() >= next_sweep_) {
      std::erase_if(owners_, [](const auto& entry) { return entry.second.expired(); });
      next_sweep_ = 2 * owners_.size() + 256;
    }
    owners_[identity] = tensor.owner();
  }

 private:
  std::mutex mutex_;
  std::map<Digest, std::weak_ptr<void>> owners_;
  size_t next_sweep_ = 256;
};

void write_contents(ByteWriter& to, const Tensor& tensor) {
  to.number(static_cast<uint8_t>(tensor.dtype()));
  write_shape(to, tensor.shape());
  if (tensor.dtype() == DType::string) {
    for (const std::string& text : tensor.elements<std::string>()) to.text(text);
    return;
  }
  const Digest digest = digest_of(tensor.raw(), static_cast<size_t>(tensor.bytes()), process_key());
  to.number(digest.low);
  to.number(digest.high);
}

void write_type(ByteWriter& to, const ValueSpec& value) {
  to.number(static_cast<uint8_t>(value.kind));
  to.number(static_cast<uint8_t>(value.dtype));
  to.number(static_cast<uint8_t>(value.shape.has_value()));
  if (value.shape) to.numbers(std::span<const int64_t>(*value.shape));
}

// All that the packed tensor may depend on.
Digest identity_of(const NodeSpec& node, std::initializer_list<size_t> inputs,
                   const std::string& name, DType dtype, const Shape& shape) {
  ByteWriter to;
  to.text(name);
  to.text(node.domain);
  to.text(node.op_type);
  to.text(name_of(active_isa()));
  to.number(static_cast<uint8_t>(dtype));
  write_shape(to, shape);
  to.count(node.attributes.size());
  for (const auto& [key, attribute] : node.attributes) {
    to.text(key);
    write_attribute(to, attribute, [&](const Tensor& tensor) { write_contents(to, tensor); });
  }
  for (const auto* values : {&node.inputs, &node.outputs}) {
    to.count(values->size());
    for (const ValueSpec& value : *values) write_type(to, value);
  }
  for (const size_t i : inputs) {
    if (const Tensor* constant = node.constant(i)) write_contents(to, *constant);
  }
  return digest_of(to.bytes().data(), to.bytes().size(), process_key());
}

Tensor filled(DType dtype, const Shape& shape, const std::function<void(Tensor&)>& fill) {
  Tensor tensor = PackedMemory::allocate(dtype, shape);
  fill(tensor);
  return tensor;
}

Tensor shared(const std::function<Digest()>& identify, DType dtype, const Shape& shape,
              const std::function<void(Tensor&)>& fill) {
  if (byte_size(dtype, shape.size()) < smallest_shared) return filled(dtype, shape, fill);
  const Digest identity = identify();
  Tensor tensor = SharedTensors::get().find(identity, dtype, shape);
  if (tensor.raw() != nullptr) return tensor;
  tensor = filled(dtype, shape, fill);
  SharedTensors::get().add(identity, tensor);
  return tensor;
}

}  // namespace

Tensor prepack(const NodeSpec& node, std::initializer_list<size_t> inputs, const std::string& name,
               DType dtype, const Shape& shape, const std::function<void(Tensor&)>& fill) {
  const auto identify = [&] { return identity_of(node, inputs, name, dtype, shape); };
  Compilation* compilation = Compilation::current();
  if (compilation == nullptr) return shared(identify, dtype, shape, fill);
  for (const size_t i : inputs) compilation->read_.emplace(&node, i);
  if (compilation->replays_) return compilation->replay(node, name, dtype, shape);
  Tensor tensor = shared(identify, dtype, shape, fill);
  compilation->packed_.push_back({node.name, name, tensor});
  return tensor;
}

Tensor shared_copy(const Tensor& constant) {
  const auto identify = [&] {
    ByteWriter to;
    to.text("copy");
    write_contents(to, constant);
    return digest_of(to.bytes().data(), to.bytes().size(), process_key());
  };
  return shared(identify, constant.dtype(), constant.shape(),
                [&](Tensor& copy) { copy_elements(constant, copy); });
}

std::vector<Tensor> prepack(const NodeSpec& node, std::initializer_list<size_t> inputs,
                            const std::string& name, std::initializer_list<PackedPart> parts,
                            const std::function<void(std::vector<Tensor>&)>& fill) {
  // One tensor of bytes, in which each part starts at a multiple of 64.
  constexpr int64_t alignment = 64;
  int64_t size = 0;
  std::vector<int64_t> offsets;
  for (const PackedPart& part : parts) {
    offsets.push_back(size);
    size += (byte_size(part.dtype, part.shape.size()) / alignment + 2) * alignment;
  }
  const auto views = [&](const Tensor& whole) {
    std::vector<Tensor> result;
    for (const PackedPart& part : parts) {
      auto* data = const_cast<std::byte*>(whole.raw()) + offsets[result.size()];
      result.emplace_back(part.dtype, part.shape, data, whole.owner());
    }
    return result;
  };
  return views(prepack(node, inputs, name, DType::uint8, Shape{size}, [&](Tensor& whole) {
    std::memset(whole.raw(), 0, static_cast<size_t>(size));
    std::vector<Tensor> tensors = views(whole);
    fill(tensors);
  }));
}

Compilation::Scope::Scope(Compilation* compilation) : outer_(current_compilation) {
  current_compilation = compilation;
}

Compilation::Scope::~Scope() { current_compilation = outer_; }

Compilation* Compilation::current() { return current_compilation; }

void Compilation::start(const NodeSpec& node) {
  read_.erase(read_.lower_bound({&node, 0}), read_.upper_bound({&node, SIZE_MAX}));
}

Tensor Compilation::replay(const NodeSpec& node, const std::string& name, DType dtype,
                           const Shape& shape) {
  if (next_ < packed_.size()) {
    const Packed& packed = packed_[next_++];
    if (packed.node == node.name && packed.name == name && packed.tensor.dtype() == dtype &&
        packed.tensor.shape() == shape) {
      return packed.tensor;
    }
  }
  fail("the plan file holds other packed constants than the kernels ask for");
}

}  // namespace bascule
