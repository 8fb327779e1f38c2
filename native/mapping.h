// Files mapped into memory.
#pragma once

#include <c10/core/Storage.h>

namespace kontrast {

// Whether a storage is a file's bytes: they take no memory that the system could not have back, save the pages that were written.
bool isMapped(const c10::Storage& storage);

}  // namespace kontrast
