import { InvalidArgumentError, type JsonObject } from '../../torch';
import { SeveralSetsSampler, type SeveralSetsOptions } from './several-sets';

/** What {@link RoundRobinSampler} takes. */
export interface RoundRobinSamplerOptions extends SeveralSetsOptions {
  /**
   * When an epoch ends: `'first'` (default) as soon as it would be the turn of a set that has no batch left, so that all sets give equally
   * many up to one; `'last'` when all have none left, with the turns of empty ones passed over.
   */
  end?: 'first' | 'last';
}

/**
 * One batch of each data set in turn (as in sentence-transformers): every set counts the same, however large it is. With `end: 'first'` an
 * epoch does not see all of the larger sets.
 */
export class RoundRobinSampler extends SeveralSetsSampler {
  readonly end: 'first' | 'last';

  constructor(options: RoundRobinSamplerOptions) {
    super(options);
    this.end = options.end ?? 'first';
    if (!['first', 'last'].includes(this.end)) {
      throw new InvalidArgumentError(`RoundRobinSampler: end must be 'first' or 'last', found '${this.end}'`);
    }
  }

  protected override identity(): JsonObject {
    return { end: this.end };
  }

  protected override order(counts: readonly number[]): Int32Array {
    const sets: number[] = [];
    for (let round = 0; round < Math.max(...counts); round++) {
      for (const [set, count] of counts.entries()) {
        if (round < count) sets.push(set);
        else if (this.end === 'first') return Int32Array.from(sets);
      }
    }
    return Int32Array.from(sets);
  }
}
