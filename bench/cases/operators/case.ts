import path from 'node:path';
import type { Case, Goal, Implementation } from '../../harness/case';
import { python, typescript } from '../../harness/programs';

const CALLS = 20_000;
const OPERATORS = ['add', 'mul', 'matmul', 'sum'] as const;

const ours = (name: string, way: string): Implementation => ({
  name,
  launch: () => typescript(path.join(__dirname, 'ours.ts')),
  options: { way },
});

const goals: Goal[] = [
  { kind: 'time', task: 'add', implementation: 'kontrast', atMost: 1.4e-6 },
  { kind: 'time ratio', task: 'add', implementation: 'kontrast', against: 'pytorch', atMost: 0.75 },
];

/**
 * What calling an operator costs when the operator itself costs next to nothing: two float32 tensors of 4 elements
 * (8 × 8 for `matmul`), called in a loop as a user writes it.
 */
export const benchmark: Case = {
  name: 'operators',
  title: 'the cost of calling a small operator',
  unit: 'call',
  rounds: 21,
  warmup: 5,
  tasks: OPERATORS.map((operator) => ({ name: operator, options: { operator, calls: CALLS } })),
  implementations: [
    ours('kontrast', 'scope'),
    ours('kontrast, no scope', 'no scope'),
    { name: 'pytorch', launch: () => python(path.join(__dirname, 'peer.py')) },
  ],
  reference: 'pytorch',
  tolerance: { relative: 1e-6, absolute: 1e-6 },
  goals,
};
