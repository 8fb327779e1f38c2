// Files mapped into memory: the system brings in a page when it is first touched. The maps are private: what is written stays in
// this process.
//
// LibTorch's own way, aten::from_file, maps by path. This one maps a file that is open, whatever its path means by now, and gives
// each part of it a storage of its own.
#include "mapping.h"

#include "environment.h"
#include "errors.h"

#include <ATen/MapAllocator.h>
#include <ATen/ops/from_blob.h>

#if !defined(_WIN32)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace kontrast {

namespace {

#if !defined(_WIN32)

struct Mapping {
  void* start;
  size_t length;
};

void unmap(void* context) {
  const std::unique_ptr<Mapping> mapping(static_cast<Mapping*>(context));
  munmap(mapping->start, mapping->length);
}

// The bytes as a flat tensor of uint8; an undefined one where the system does not map this file.
at::Tensor mapBytes(int file, int64_t length) {
  auto mapping = std::make_unique<Mapping>();
  mapping->length = static_cast<size_t>(length);
  // Without MAP_NORESERVE Linux refuses a private map that is larger than its memory, though few pages may ever be written.
  mapping->start =
      mmap(nullptr, mapping->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
  if (mapping->start == MAP_FAILED) return {};
  auto* const data = mapping->start;
  return at::for_blob(data, {length}).context(mapping.release(), &unmap).options(at::kByte).make_tensor();
}

// A part of a map, which lives as long as any of its parts.
struct Part {
  c10::Storage whole;
  uintptr_t start;
  size_t length;
};

// Gives back the pages that were written, though the map may live on.
void releasePart(void* context) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const std::unique_ptr<Part> part(static_cast<Part*>(context));
  // Pages at the ends may belong to other parts as well.
  const auto begin = (part->start + page - 1) / page * page;
  const auto end = (part->start + part->length) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

bool isOurs(const c10::Storage& storage) {
  const auto deleter = storage.data_ptr().get_deleter();
  return deleter == &unmap || deleter == &releasePart;
}

at::Tensor partOf(const at::Tensor& whole, int64_t position, int64_t length) {
  if (!isOurs(whole.storage()) || position < 0 || length < 0 || position > whole.numel() - length)
    throw Failure("INVALID_ARGUMENT", "the map has no such part");
  auto* const data = static_cast<uint8_t*>(whole.mutable_data_ptr()) + position;
  auto part = std::make_unique<Part>(
      Part{whole.storage(), reinterpret_cast<uintptr_t>(data), static_cast<size_t>(length)});
  return at::for_blob(data, {length}).context(part.release(), &releasePart).options(at::kByte).make_tensor();
}

#else

// Node's numbers of files mean nothing outside its own C library.
at::Tensor mapBytes(int, int64_t) { return {}; }

at::Tensor partOf(const at::Tensor&, int64_t, int64_t) {
  throw Failure("INVALID_ARGUMENT", "files cannot be mapped on Windows");
}

bool isOurs(const c10::Storage&) { return false; }

#endif

// mapFile(file, length) -> handle of its bytes, 0 where the file cannot be mapped; the length is not 0
Napi::Value mapFile(Environment& environment, const Napi::CallbackInfo& info) {
  auto mapped = mapBytes(info[0].As<Napi::Number>().Int32Value(), info[1].As<Napi::Number>().Int64Value());
  return Napi::Number::New(info.Env(), mapped.defined() ? environment.tensors.add(std::move(mapped)) : 0.0);
}

// mappedPart(handle of a map, position, length) -> handle of a tensor with a storage of its own; no two parts may overlap
Napi::Value mappedPart(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& whole = environment.tensors.at(info[0].As<Napi::Number>().DoubleValue());
  auto part = partOf(whole, info[1].As<Napi::Number>().Int64Value(), info[2].As<Napi::Number>().Int64Value());
  return Napi::Number::New(info.Env(), environment.tensors.add(std::move(part)));
}

}  // namespace

bool isMapped(const c10::Storage& storage) {
  return isOurs(storage) || at::MapAllocator::fromDataPtr(storage.data_ptr()) != nullptr;
}

void defineMapping(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "mapFile", guarded<mapFile>, environment);
  define(env, exports, "mappedPart", guarded<mappedPart>, environment);
}

}  // namespace kontrast
