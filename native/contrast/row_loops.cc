#include "row_loops.h"

#include "vector_math.h"

namespace kontrast::contrast {

KONTRAST_VECTORISED
void classify(PairClass* classes, const int64_t* labels, int64_t label, const int64_t* ids, int64_t id, size_t count) {
  if (labels == nullptr) {
    for (size_t j = 0; j < count; j++) classes[j] = kNegative;
  } else {
    for (size_t j = 0; j < count; j++) classes[j] = labels[j] == label ? kPositive : kNegative;
  }
  if (ids == nullptr) return;
  for (size_t j = 0; j < count; j++) classes[j] = ids[j] == id ? kExcluded : classes[j];
}

// One instance a type: clones for several instruction sets cannot be templates.
#define T float
#include "row_loops.inc"
#undef T
#define T double
#include "row_loops.inc"
#undef T

}  // namespace kontrast::contrast
