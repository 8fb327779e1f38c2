import { RandomSource } from './random-source';
import { SeveralSetsSampler } from './several-sets';

/**
 * All batches of all data sets in a random order (as in sentence-transformers): a set is as likely as the number of its batches says, and
 * an epoch sees all of each.
 */
export class ProportionalSampler extends SeveralSetsSampler {
  protected override order(counts: readonly number[], epoch: number): Int32Array {
    const sets = counts.flatMap((count, set) => Array.from({ length: count }, () => set));
    return new RandomSource(this.seed, epoch).shuffle(Int32Array.from(sets));
  }
}
