import path from 'node:path';
import type { Case, Implementation, Launch } from '../../harness/case';
import { python, typescript } from '../../harness/programs';
import { BATCH, CHUNK, MOST_CHUNKS, work } from './work';

export const ours = (): Launch => typescript(path.join(__dirname, 'ours.ts'));

const peer = (name: string, how: string): Implementation => ({
  name,
  launch: () => python(path.join(__dirname, 'peer.py')),
  options: { how, work },
});

/** PyTorch's ways: the whole batch at once, and a plain loop over chunks. */
export const peers = [peer('pytorch, at once', 'at once'), peer('pytorch, in chunks', 'in chunks')];

/**
 * The gradients of a batch by `gradCache`, beside PyTorch at once and PyTorch in chunks, dropout on. All draw the same numbers, so every
 * parameter's gradient is compared. What it takes of memory is measured by `memory.ts`.
 */
export const benchmark: Case = {
  name: 'gradcache',
  title: `the gradients of ${BATCH.toLocaleString('en')} pairs through encoders with dropout, chunk by chunk`,
  unit: 'pair',
  rounds: 5,
  warmup: 1,
  tasks: [BATCH / CHUNK, MOST_CHUNKS].map((chunks) => ({
    name: `${String(chunks)} chunks of ${String(BATCH / chunks)}`,
    options: { batch: BATCH, chunks },
  })),
  implementations: [{ name: 'kontrast', launch: ours }, ...peers],
  reference: 'pytorch, at once',
  tolerance: { relative: 1e-6, absolute: 1e-9 },
  goals: [],
  comparisons: peers.map(({ name }) => ({ implementation: 'kontrast', against: name })),
};
