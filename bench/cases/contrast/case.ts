import path from 'node:path';
import type { Case, Implementation, JsonObject } from '../../harness/case';
import { python, typescript } from '../../harness/programs';

const COUNT = 8192;
const DIMENSION = 128;

const ours = (name: string, options: JsonObject): Implementation => ({
  name,
  launch: () => typescript(path.join(__dirname, 'ours.ts')),
  options,
});
const peer = (name: string, options: JsonObject): Implementation => ({
  name,
  launch: () => python(path.join(__dirname, 'peer.py')),
  options,
});

/** Symmetric InfoNCE, forward and backward, beside plain PyTorch and beside the four matrix products that it cannot do without. */
export const benchmark: Case = {
  name: 'contrast',
  title: 'symmetric InfoNCE over a large batch, forward and backward',
  unit: 'step',
  rounds: 9,
  warmup: 2,
  tasks: ['float32', 'bfloat16'].map((dtype) => ({
    name: `${dtype}, N = ${String(COUNT)}`,
    options: { dtype, count: COUNT, dimension: DIMENSION, temperature: 0.07 },
  })),
  implementations: [
    ours('kontrast', { execution: 'tiled' }),
    // Scores of 8 bits: the losses of the short type only have to be near.
    { ...peer('pytorch', { work: 'loss' }), tolerance: { relative: 0.1, absolute: 1e-3 } },
    // Products alone give no loss to compare.
    { ...peer('four products', { work: 'products' }), tolerance: { relative: 0, absolute: 1e9 } },
  ],
  reference: 'kontrast',
  tolerance: { relative: 1e-3, absolute: 1e-5 },
  goals: [
    {
      kind: 'time ratio',
      task: `float32, N = ${String(COUNT)}`,
      implementation: 'kontrast',
      against: 'four products',
      atMost: 1.4,
    },
    {
      kind: 'time ratio',
      task: `bfloat16, N = ${String(COUNT)}`,
      implementation: 'kontrast',
      against: 'four products',
      atMost: 3,
    },
  ],
  comparisons: [
    { implementation: 'kontrast', against: 'four products' },
    { implementation: 'kontrast', against: 'pytorch' },
  ],
};
