import path from 'node:path';
import { cuda } from '../../../src/torch';
import type { Case, Implementation, Launch } from '../../harness/case';
import { typescript } from '../../harness/programs';

/** The adapter, with or without the fused kernels. */
export function ours(fused: 'require' | '0'): Launch | { readonly unavailable: string } {
  if (!cuda.isAvailable()) return { unavailable: 'there is no CUDA device' };
  return { ...typescript(path.join(__dirname, 'ours.ts')), environment: { KONTRAST_FUSED: fused } };
}

const implementations: readonly Implementation[] = [
  { name: 'fused', launch: () => ours('require') },
  { name: 'blocks', launch: () => ours('0') },
];

/** Symmetric InfoNCE on a GPU by the fused kernels, beside LibTorch's operators block by block. Peak memory is the device's. */
export const benchmark: Case = {
  name: 'gpu-contrast',
  title: 'symmetric InfoNCE over a large batch on a GPU, forward and backward',
  unit: 'step',
  rounds: 9,
  warmup: 2,
  tasks: [
    ...[8192, 65_536].map((count) => ({
      name: `bfloat16, N = ${String(count)}`,
      options: { dtype: 'bfloat16', count, dimension: 512, temperature: 0.07 },
    })),
    { name: 'float32, N = 8192', options: { dtype: 'float32', count: 8192, dimension: 512, temperature: 0.07 } },
  ],
  implementations,
  reference: 'fused',
  tolerance: { relative: 2e-3, absolute: 1e-5 },
  goals: [{ kind: 'time', task: 'bfloat16, N = 65536', implementation: 'fused', atMost: 0.06 }],
  comparisons: [{ implementation: 'fused', against: 'blocks' }],
};
