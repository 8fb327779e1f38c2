import path from 'node:path';
import type { Case, Implementation, JsonObject } from '../../harness/case';
import { python, typescript } from '../../harness/programs';

const TASK = '4096 queries, 1,000,000 keys';

const ours = (name: string, options: JsonObject): Implementation => ({
  name,
  launch: () => typescript(path.join(__dirname, 'ours.ts')),
  options,
});

/** The 100 keys of highest dot product for each query, beside faiss's flat index. */
export const benchmark: Case = {
  name: 'search',
  title: 'exact search: the best 100 of a million keys of 128 numbers',
  unit: 'query',
  rounds: 3,
  warmup: 1,
  tasks: [{ name: TASK, options: { queries: 4096, keys: 1_000_000, dimension: 128, count: 100 } }],
  implementations: [
    ours('kontrast', { precision: 'exact' }),
    ours('kontrast, bfloat16', { precision: 'bfloat16' }),
    { name: 'faiss', launch: () => python(path.join(__dirname, 'peer.py')), options: {} },
  ],
  reference: 'kontrast',
  // The mean score, the mean score of the last one found, and the recall, which is therefore at least 0.9999.
  tolerance: { relative: 1e-5, absolute: 1e-4 },
  goals: [
    { kind: 'time ratio', task: TASK, implementation: 'kontrast', against: 'faiss', atMost: 1 / 1.2 },
    { kind: 'time ratio', task: TASK, implementation: 'kontrast, bfloat16', against: 'faiss', atMost: 1 / 2 },
  ],
  comparisons: [
    { implementation: 'kontrast', against: 'faiss' },
    { implementation: 'kontrast, bfloat16', against: 'faiss' },
  ],
};
