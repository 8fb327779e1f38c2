import path from 'node:path';
import type { Case } from '../../harness/case';
import { python, typescript } from '../../harness/programs';

/** From a fresh process to the first result: `require('kontrast')`, or `import torch`, and one small sum. */
export const benchmark: Case = {
  name: 'startup',
  title: 'loading the library in a fresh process, up to the first result',
  unit: 'start',
  rounds: 9,
  warmup: 2,
  tasks: [
    { name: 'load to first result', options: { from: 'load' } },
    { name: 'process start to end', options: { from: 'process' } },
  ],
  implementations: [
    { name: 'kontrast', launch: () => typescript(path.join(__dirname, 'ours.ts')) },
    { name: 'pytorch', launch: () => python(path.join(__dirname, 'peer.py')) },
  ],
  reference: 'pytorch',
  tolerance: { relative: 0, absolute: 0 },
  goals: [{ kind: 'time', task: 'load to first result', implementation: 'kontrast', atMost: 0.4 }],
};
