#include "operators.h"

#include "batch_channel.h"
#include "cross_iteration.h"
#include "normalization.h"
#include "running.h"
#include "synchronized.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace kontrast::norm {

void registerOperators() {
  // Another copy of the addon in this process may have been first.
  if (c10::Dispatcher::singleton().findSchema({"kontrast::group_moments", ""})) return;
  // Registrations last as long as the library object, so it is never destroyed.
  static auto* library =
      new torch::Library(torch::Library::FRAGMENT, "kontrast", std::nullopt, __FILE__, static_cast<uint32_t>(__LINE__));
  defineNormalization(*library);
  defineBatchChannel(*library);
  defineCrossIteration(*library);
  defineRunning(*library);
  defineSynchronized(*library);
}

}  // namespace kontrast::norm
