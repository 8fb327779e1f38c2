// What LibTorch's reader takes on trust in a TorchScript archive.
//
// A pickle in the archive names each tensor's place: a storage with its number of elements, an offset, sizes and
// strides. LibTorch believes them: a record that is shorter than its storage, or a size that leaves it, would make a
// tensor over memory that belongs to something else. It also takes the pickle's stack on trust in places.
#pragma once

#include <caffe2/serialize/inline_container.h>

#include <set>
#include <string>

namespace kontrast {

struct ArchiveContent {
  // The devices that the tensors were on.
  std::set<std::string> devices;
  // Whether what the archive says of the source, as it was written, can be used. LibTorch reads it while it describes
  // an error, where a second error ends the process.
  bool hasSoundSources = true;
};

// Throws a Failure unless the archive has the entries of a TorchScript module, their pickles are well formed, and every
// tensor lies inside the record that holds it.
ArchiveContent checkArchive(caffe2::serialize::PyTorchStreamReader& reader);

}  // namespace kontrast
