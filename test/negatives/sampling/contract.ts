import assert from 'node:assert/strict';
import type { SampledBatch, Sampler } from '../../../src/data/loader';
import type { SamplerOptions } from '../../../src/negatives/sampling/sampler';
import { InvalidArgumentError, scope, type JsonValue, type StateDict } from '../../../src/torch';

/** A batch as plain numbers, with whatever the sampler gives beside positions. */
export const plain = (batch: SampledBatch): unknown => JSON.parse(JSON.stringify(batch));

/** The next batches. */
export const take = (from: Sampler, count: number): unknown[] =>
  Array.from({ length: count }, () => plain(from.next()));

/** The positions of all batches of an epoch. */
export function epochOf(sampler: Sampler, epoch: number): number[][] {
  sampler.startEpoch(epoch);
  return Array.from({ length: sampler.batchesPerEpoch }, () => Array.from(sampler.next().indices));
}

/** A state as a checkpoint would bring it back: values through JSON, tensors copied. */
export function saved(sampler: Sampler): StateDict {
  const { tensors, values } = sampler.stateDict();
  const copies = new Map([...tensors].map(([name, tensor]) => [name, tensor.clone()] as const));
  return { tensors: copies, values: JSON.parse(JSON.stringify(values)) as JsonValue };
}

export const ascending = (numbers: Iterable<number>): number[] => [...numbers].sort((a, b) => a - b);

export const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** What a batch holds for each row beside its position must be the same for any number of processes. */
export function givesTheSameOnEveryRank<S extends Sampler>(
  make: (shared: SamplerOptions) => S,
  perRow: (sampler: S) => unknown[],
): void {
  const whole = make({});
  const ranks = [0, 1].map((rank) => make({ shard: { rank, worldSize: 2 } }));
  for (let batch = 0; batch < 2; batch++) assert.deepEqual(ranks.flatMap(perRow), perRow(whole));
}

/** What every sampler promises: seeds, resuming anywhere, shards that make up the whole batch, refused states. */
export function keepsTheContract(
  make: (shared: SamplerOptions) => Sampler,
  { remainder = 'pad' as 'pad' | 'drop', ready = undefined as ((sampler: Sampler) => void) | undefined } = {},
): void {
  const built = (shared: SamplerOptions = {}): Sampler => {
    const sampler = make({ seed: 3, ...shared });
    ready?.(sampler);
    return sampler;
  };

  it('follows from its seed, and differs by epoch', () =>
    scope(() => {
      const one = built();
      const count = 2 * one.batchesPerEpoch + 1;
      const batches = take(one, count);
      assert.deepEqual(take(built(), count), batches);
      assert.notDeepEqual(take(built({ seed: 4 }), count), batches);
      const sampler = built();
      assert.notDeepEqual(epochOf(sampler, 0), epochOf(sampler, 1));
    }));

  it('counts epochs and batches', () =>
    scope(() => {
      const sampler = built();
      for (let epoch = 0; epoch < 2; epoch++) {
        const count = sampler.batchesPerEpoch;
        for (let position = 0; position < count; position++) {
          assert.deepEqual([sampler.currentEpoch, sampler.position], [epoch, position]);
          assert.equal(sampler.next().epoch, epoch);
        }
      }
      assert.deepEqual([sampler.currentEpoch, sampler.position], [2, 0]);
      assert.throws(() => sampler.startEpoch(-1), InvalidArgumentError);
    }));

  it('goes on bit for bit from anywhere', () =>
    scope(() => {
      const straight = built();
      const count = 2 * straight.batchesPerEpoch + 2;
      const all = take(straight, count);
      for (let stop = 0; stop <= Math.min(count - 1, 9); stop++) {
        const before = built();
        take(before, stop);
        const state = saved(before);
        const after = make({ seed: 3 });
        after.checkStateDict(state);
        after.loadStateDict(state);
        assert.deepEqual([after.currentEpoch, after.position], [before.currentEpoch, before.position]);
        assert.deepEqual(take(after, count - stop), all.slice(stop));
      }
    }));

  it('shares batches out so that all ranks together have the whole one', () =>
    scope(() => {
      const whole = built();
      const wholes = [...epochOf(whole, 0), ...epochOf(whole, 1)];
      for (const worldSize of [2, 3]) {
        const ranks = upTo(worldSize).map((rank) => built({ shard: { rank, worldSize } }));
        const parts = ranks.map((rank) => [...epochOf(rank, 0), ...epochOf(rank, 1)]);
        const expected = wholes.filter((batch) => remainder === 'pad' || batch.length >= worldSize);
        assert.ok(parts.every((part) => part.length === expected.length));
        expected.forEach((batch, step) => {
          const share = batch.length / worldSize;
          const rows = worldSize * (remainder === 'pad' ? Math.ceil(share) : Math.floor(share));
          const joined = upTo(rows).map((row) => batch[row % batch.length]);
          assert.deepEqual(
            parts.flatMap((part) => part[step]!),
            joined,
          );
        });
      }
    }));

  it('gives a state that fits every rank and world size', () =>
    scope(() => {
      const one = built();
      one.next();
      const state = saved(one);
      const other = make({ seed: 3, shard: { rank: 1, worldSize: 2 } });
      other.loadStateDict(state);
      const straight = built({ shard: { rank: 1, worldSize: 2 } });
      straight.next();
      assert.deepEqual(take(other, 2), take(straight, 2));
    }));

  it('refuses states and shards that do not fit, and stays as it was', () =>
    scope(() => {
      const sampler = built();
      sampler.next();
      const { tensors, values } = saved(sampler);
      const expected = take(sampler, 2);
      const fresh = built();
      fresh.next();
      const refuses = (change: object, message: RegExp): void => {
        const state = { tensors, values: { ...(values as object), ...change } } as StateDict;
        assert.throws(() => fresh.checkStateDict(state), { constructor: InvalidArgumentError, message });
        assert.throws(() => fresh.loadStateDict(state), { constructor: InvalidArgumentError, message });
      };
      refuses({ seed: 4 }, /seed/);
      refuses({ sampler: 'Another' }, /sampler "Another"/);
      refuses({ epoch: -1 }, /epoch/);
      refuses({ position: 0.5 }, /position/);
      refuses({ position: 1_000_000 }, /position/);
      assert.deepEqual(take(fresh, 2), expected);
      assert.throws(() => make({ seed: -1 }), InvalidArgumentError);
    }));
}
