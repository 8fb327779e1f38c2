import path from 'node:path';
import type { Case } from '../../harness/case';
import { typescript } from '../../harness/programs';
import { encoders, methods } from './recipe';

/** What mixed and filtered negatives add to a training step of momentum contrast. There is no peer: all sides are kontrast. */
export const benchmark: Case = {
  name: 'negatives',
  title: 'a step of momentum contrast (256 images, queue of 16,384 × 128) with mixed negatives and without',
  unit: 'step',
  rounds: 9,
  warmup: 2,
  tasks: Object.keys(encoders).map((encoder) => ({ name: encoder, options: { encoder } })),
  implementations: methods.map((method) => ({
    name: method,
    launch: () => typescript(path.join(__dirname, 'ours.ts')),
    options: { method },
  })),
  reference: 'queue',
  tolerance: { relative: 0, absolute: 0 },
  // Beside the quickstart's encoder, made for a minute on two cores, anything is a large part of a step: that is measured without a goal.
  goals: [
    {
      kind: 'time ratio',
      task: 'default encoder',
      implementation: 'mochi, ft, filtered',
      against: 'queue',
      atMost: 1.1,
    },
  ],
};
