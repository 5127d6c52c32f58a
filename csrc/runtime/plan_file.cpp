// SPDX-License-Identifier: Apache-2.0
// The file: a header; the structure (a table of blobs, then the packed constants, the attachments
// and the graph, which refer to them by number); the description; the blobs, each at a multiple of
// 64 bytes (large ones of a page) with 64 bytes of zeros at least after it, as kernels may read a
// whole vector at the end of a tensor.
#include "runtime/plan_file.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <map>
#include <utility>

#if defined(_WIN32)
#include <io.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "core/file_mapping.h"
#include "runtime/byte_stream.h"
#include "runtime/graph_bytes.h"

namespace bascule {

namespace {

constexpr char magic[8] = {'B', 'A', 'S', 'C', 'P', 'L', 'A', 'N'};
constexpr uint32_t format_version = 1;
constexpr uint32_t byte_order = 0x01020304;
constexpr size_t page = 4096;
constexpr size_t alignment = 64;

struct Section {
  uint64_t offset;
  uint64_t size;
  Digest digest;
};

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t byte_order;
  uint64_t file_size;
  Digest key;
  Section structure;
  Section description;
  Digest digest;  // of all before it
};
static_assert(sizeof(Header) == 120);

Digest header_digest(const Header& header) { return digest_of(&header, offsetof(Header, digest)); }

enum class Content : uint8_t { dropped, blob, strings };

size_t round_up(size_t size, size_t step) { return (size + step - 1) / step * step; }

// Where a blob stands in the file, and its digest's lower half.
struct Place {
  uint64_t offset;
  uint64_t size;
  uint64_t digest;
};

// Contents that are written once each, however many tensors view them.
class Blobs {
 public:
  size_t add(const Tensor& tensor) {
    const auto bytes = static_cast<size_t>(tensor.bytes());
    const auto [found, added] = numbers_.try_emplace({tensor.raw(), bytes}, tensors_.size());
    if (added) tensors_.push_back(tensor);
    return found->second;
  }

  // The places of all from `end` on, which is then where the file ends.
  std::vector<Place> places(size_t& end) const {
    std::vector<Place> result;
    for (const Tensor& tensor : tensors_) {
      const auto bytes = static_cast<size_t>(tensor.bytes());
      const size_t start = round_up(end, bytes >= page ? page : alignment);
      result.push_back({start, bytes, digest_of(tensor.raw(), bytes).low});
      end = round_up(start + bytes, alignment) + alignment;
    }
    return result;
  }

  const std::vector<Tensor>& tensors() const { return tensors_; }

 private:
  std::map<std::pair<const std::byte*, size_t>, size_t> numbers_;
  std::vector<Tensor> tensors_;
};

void write_tensor(ByteWriter& to, const Tensor& tensor, bool dropped, Blobs& blobs) {
  to.number(static_cast<uint8_t>(tensor.dtype()));
  write_shape(to, tensor.shape());
  if (tensor.dtype() == DType::string) {
    to.number(static_cast<uint8_t>(Content::strings));
    to.count(static_cast<size_t>(tensor.size()));
    for (const std::string& text : tensor.elements<std::string>()) to.text(text);
  } else if (dropped) {
    to.number(static_cast<uint8_t>(Content::dropped));
  } else {
    to.number(static_cast<uint8_t>(Content::blob));
    to.count(blobs.add(tensor));
  }
}

// Writes in order, and stops at the first error.
class Output {
 public:
  explicit Output(int descriptor) : descriptor_(descriptor) {}

  void put(const void* data, size_t size) {
    const auto* from = static_cast<const char*>(data);
    position_ += size;
    while (size > 0 && error_ == 0) {
      const auto written = ::write(descriptor_, from, std::min(size, largest));
      if (written > 0) {
        from += written;
        size -= static_cast<size_t>(written);
      } else if (written == 0 || errno != EINTR) {
        error_ = written == 0 ? ENOSPC : errno;
      }
    }
  }
  void pad_to(size_t position) {
    static constexpr char zeros[page + alignment] = {};
    while (position_ < position) put(zeros, std::min(position - position_, sizeof(zeros)));
  }
  int error() const { return error_; }

 private:
  static constexpr size_t largest = size_t{1} << 30;
  int descriptor_;
  size_t position_ = 0;
  int error_ = 0;
};

}  // namespace

int write_plan(int descriptor, const Digest& key, const GraphSpec& graph,
               const Compilation& compilation, std::string_view description,
               const std::vector<Tensor>& attachments) {
  Blobs blobs;
  ByteWriter body;
  body.count(compilation.packed().size());
  for (const Compilation::Packed& packed : compilation.packed()) {
    body.text(packed.node);
    body.text(packed.name);
    write_tensor(body, packed.tensor, false, blobs);
  }
  body.count(attachments.size());
  for (const Tensor& tensor : attachments) write_tensor(body, tensor, false, blobs);
  write_graph(body, graph,
              [&](ByteWriter& to, const Tensor& tensor, const GraphSpec* of, int slot) {
                write_tensor(to, tensor, compilation.is_dropped(of, slot), blobs);
              });

  Header header{};
  std::copy(std::begin(magic), std::end(magic), header.magic);
  header.version = format_version;
  header.byte_order = byte_order;
  header.key = key;
  const size_t table_size = sizeof(uint64_t) + blobs.tensors().size() * sizeof(Place);
  header.structure = {sizeof(Header), table_size + body.bytes().size(), {}};
  header.description = {header.structure.offset + header.structure.size, description.size(), {}};
  header.file_size = header.description.offset + header.description.size;
  const std::vector<Place> places = blobs.places(header.file_size);
  ByteWriter structure;
  structure.numbers(std::span<const Place>(places));
  structure.raw(body.bytes());
  header.structure.digest = digest_of(structure.bytes().data(), structure.bytes().size());
  header.description.digest = digest_of(description.data(), description.size());
  header.digest = header_digest(header);

  Output out(descriptor);
  out.put(&header, sizeof(header));
  out.put(structure.bytes().data(), structure.bytes().size());
  out.put(description.data(), description.size());
  for (size_t i = 0; i < places.size(); ++i) {
    out.pad_to(places[i].offset);
    out.put(blobs.tensors()[i].raw(), places[i].size);
  }
  out.pad_to(header.file_size);
  return out.error();
}

namespace {

std::span<const std::byte> section_of(std::span<const std::byte> file, const Section& section) {
  if (section.offset > file.size() || section.size > file.size() - section.offset) {
    ByteReader::damaged();
  }
  const auto bytes = file.subspan(section.offset, section.size);
  if (digest_of(bytes.data(), bytes.size()) != section.digest) ByteReader::damaged();
  return bytes;
}

const Header& header_of(std::span<const std::byte> file, const Digest& key) {
  if (file.size() < sizeof(Header)) ByteReader::damaged();
  const auto& header = *reinterpret_cast<const Header*>(file.data());
  if (!std::equal(std::begin(magic), std::end(magic), header.magic) ||
      header.version != format_version || header.byte_order != byte_order ||
      header.file_size != file.size() || header.digest != header_digest(header) ||
      header.key != key) {
    ByteReader::damaged();
  }
  return header;
}

// Memory that reads as zeros and takes none, for constants whose elements the file leaves out.
std::shared_ptr<void> zeros(size_t size) {
#if defined(_WIN32)
  (void)size;
  ByteReader::damaged();
#else
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) ByteReader::damaged();
  return {data, [size](void* mapped) { munmap(mapped, size); }};
#endif
}

class TensorReader {
 public:
  // `end`: of what stands before the blobs.
  TensorReader(std::span<const std::byte> file, size_t end, std::shared_ptr<void> mapping,
               ByteReader& from, bool verify)
      : file_(file), mapping_(std::move(mapping)), places_(from.numbers<Place>()) {
    for (const Place& place : places_) {
      if (place.offset % alignment != 0 || place.offset < end || place.offset > file.size() ||
          place.size > file.size() - place.offset ||
          file.size() - place.offset - place.size < alignment) {
        ByteReader::damaged();
      }
      if (verify) {
        check_zeros(end, place.offset);
        if (digest_of(file.data() + place.offset, place.size).low != place.digest) {
          ByteReader::damaged();
        }
      }
      end = place.offset + place.size;
    }
    if (verify) check_zeros(end, file.size());
  }

  Tensor read(ByteReader& from) const {
    const DType dtype = read_dtype(from);
    const Shape shape = read_shape(from);
    const auto content = static_cast<Content>(from.number<uint8_t>());
    if ((content == Content::strings) != (dtype == DType::string)) ByteReader::damaged();
    switch (content) {
      case Content::strings:
        return read_strings(from, shape);
      case Content::dropped: {
        const auto bytes = static_cast<size_t>(byte_size(dtype, shape.size()));
        std::shared_ptr<void> owner = zeros(std::max<size_t>(bytes, 1));
        void* data = owner.get();
        return Tensor(dtype, shape, data, std::move(owner));
      }
      case Content::blob: {
        const auto number = from.number<uint64_t>();
        if (number >= places_.size() ||
            places_[number].size != static_cast<uint64_t>(byte_size(dtype, shape.size()))) {
          ByteReader::damaged();
        }
        void* data = const_cast<std::byte*>(file_.data() + places_[number].offset);
        return Tensor(dtype, shape, data, mapping_);
      }
    }
    ByteReader::damaged();
  }

 private:
  void check_zeros(size_t first, size_t last) const {
    const auto gap = file_.subspan(first, last - first);
    if (std::any_of(gap.begin(), gap.end(), [](std::byte b) { return b != std::byte{0}; })) {
      ByteReader::damaged();
    }
  }

  static Tensor read_strings(ByteReader& from, const Shape& shape) {
    if (from.count(sizeof(uint64_t)) != static_cast<size_t>(shape.size())) ByteReader::damaged();
    Tensor tensor = Tensor::allocate(DType::string, shape);
    for (int64_t i = 0; i < tensor.size(); ++i) tensor.data<std::string>()[i] = from.text();
    return tensor;
  }

  std::span<const std::byte> file_;
  std::shared_ptr<void> mapping_;
  std::vector<Place> places_;
};

}  // namespace

PlanFile::PlanFile(int descriptor, const Digest& key, bool verify) {
  const FileMapping mapping = map_file(descriptor);
  if (mapping.data == nullptr) fail("the plan file cannot be mapped");
  const std::span<const std::byte> file(static_cast<const std::byte*>(mapping.data.get()),
                                        mapping.size);
  const Header& header = header_of(file, key);
  mapping_ = mapping.data;
  ByteReader from(section_of(file, header.structure));
  const auto description = section_of(file, header.description);
  description_ = {reinterpret_cast<const char*>(description.data()), description.size()};
  const size_t end = header.description.offset + header.description.size;
  const TensorReader tensors(file, end, mapping_, from, verify);
  packed_.resize(from.count(3 * sizeof(uint64_t)));
  for (Compilation::Packed& packed : packed_) {
    packed.node = from.text();
    packed.name = from.text();
    packed.tensor = tensors.read(from);
  }
  attachments_.resize(from.count(sizeof(uint64_t)));
  for (Tensor& tensor : attachments_) tensor = tensors.read(from);
  graph_ = read_graph(from, [&](ByteReader& at) { return tensors.read(at); });
  if (!from.at_end()) ByteReader::damaged();
}

}  // namespace bascule
