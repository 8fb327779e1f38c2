import path from 'node:path';
import type { Case } from '../../harness/case';
import { cpp, python, typescript } from '../../harness/programs';

const CALLS = 20_000;

/** Each as its language's users write it; see the adapters, which have one loop a name. */
const OPERATORS = [
  'add',
  'mul',
  'relu',
  'matmul',
  'sum',
  'softmax',
  'cat',
  'select',
  'slice',
  'index',
  'view',
  'transpose',
] as const;

/** What calls cost beside LibTorch's own work: [2, 3] of float32, with and without a graph that is recorded. */
export const benchmark: Case = {
  name: 'overhead',
  title: 'small operators from TypeScript, Python and C++, results created and freed',
  unit: 'call',
  rounds: 21,
  warmup: 5,
  // With two threads LibTorch's softmax hands one row to the other: its wait would be all that is measured.
  threads: 1,
  tasks: OPERATORS.flatMap((operator) =>
    [false, true].map((gradient) => ({
      name: gradient ? `${operator}, gradient` : operator,
      options: { operator, gradient, calls: CALLS },
    })),
  ),
  implementations: [
    { name: 'kontrast', launch: () => typescript(path.join(__dirname, 'ours.ts')) },
    { name: 'pytorch', launch: () => python(path.join(__dirname, 'peer.py')) },
    { name: 'libtorch', launch: () => cpp(path.join(__dirname, 'peer.cc')) },
  ],
  reference: 'libtorch',
  tolerance: { relative: 1e-6, absolute: 1e-6 },
  comparisons: [
    { implementation: 'kontrast', against: 'libtorch' },
    { implementation: 'kontrast', against: 'pytorch' },
  ],
  goals: [
    { kind: 'median time ratio', implementation: 'kontrast', against: 'libtorch', atMost: 1.25 },
    { kind: 'median time ratio', implementation: 'kontrast', against: 'pytorch', atMost: 0.7 },
  ],
};
