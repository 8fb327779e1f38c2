#pragma once

namespace kontrast::contrast {

// Makes our operators known to LibTorch, once in a process.
void registerOperators();

}  // namespace kontrast::contrast
