import * as fs from 'node:fs';
import type { Device } from '../torch';

/** How a recipe says what to compute in; `'auto'` is bfloat16 where that is quicker. */
export type PrecisionChoice = 'auto' | 'float32' | 'bfloat16';

/**
 * Settles `'auto'`: bfloat16 on CUDA and on processors with bfloat16 units (AMX or AVX-512 BF16); elsewhere it is emulated and
 * slower, so float32.
 *
 * @param choice What the recipe's option says.
 * @param device Where to compute.
 */
export function choosePrecision(choice: PrecisionChoice, device: Device): 'float32' | 'bfloat16' {
  if (choice !== 'auto') return choice;
  return device !== 'cpu' || processorHasBfloat16() ? 'bfloat16' : 'float32';
}

/** Whether the processor computes in bfloat16, as Linux tells; false where it cannot be told. */
export function processorHasBfloat16(cpuInfo = '/proc/cpuinfo'): boolean {
  try {
    return /^flags\s*:.*\b(amx_bf16|avx512_bf16)\b/m.test(fs.readFileSync(cpuInfo, 'utf8'));
  } catch {
    return false;
  }
}
