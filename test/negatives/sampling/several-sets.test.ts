import assert from 'node:assert/strict';
import { ProportionalSampler } from '../../../src/negatives/sampling/proportional';
import { RandomSampler } from '../../../src/negatives/sampling/random';
import { RoundRobinSampler } from '../../../src/negatives/sampling/round-robin';
import type { SamplerOptions } from '../../../src/negatives/sampling/sampler';
import { ascending, keepsTheContract, take, upTo } from './contract';

const sizes = [7, 20, 3];
const children = (shared: SamplerOptions = {}) =>
  sizes.map((size, set) => new RandomSampler({ size, batchSize: 3, ...shared, seed: (shared.seed ?? 0) + set }));
const offsets = [0, 7, 27];

describe('RoundRobinSampler', () => {
  keepsTheContract((shared) => new RoundRobinSampler({ samplers: children(shared), seed: shared.seed }));

  it('takes turns until one has none left', () => {
    const sampler = new RoundRobinSampler({ samplers: children() });
    assert.equal(sampler.size, 30);
    const batches = [...sampler.batches()];
    assert.deepEqual(
      batches.map((batch) => batch.set),
      [0, 1, 2, 0, 1],
    );
    for (const { indices, own, set } of batches) {
      assert.deepEqual(
        Array.from(indices),
        Array.from(own.indices, (row) => row + offsets[set]!),
      );
    }
    assert.equal(sampler.currentEpoch, 1);
  });

  it('or until all have none left', () => {
    const sampler = new RoundRobinSampler({ samplers: children(), end: 'last' });
    const batches = [...sampler.batches()];
    assert.deepEqual(
      batches.map((batch) => batch.set),
      [0, 1, 2, 0, 1, 0, 1, 1, 1, 1, 1],
    );
    assert.deepEqual(ascending(batches.flatMap((batch) => [...batch.indices])), upTo(30));
  });

  it('refuses samplers that do not fit, and a state of another end', () => {
    assert.throws(() => new RoundRobinSampler({ samplers: [] }), /one or more, all different/);
    const [one] = children();
    assert.throws(() => new RoundRobinSampler({ samplers: [one!, one!] }), /one or more, all different/);
    assert.throws(() => new RoundRobinSampler({ samplers: children(), end: 'never' as never }), /end must be/);
    const state = new RoundRobinSampler({ samplers: children() }).stateDict();
    assert.throws(
      () => new RoundRobinSampler({ samplers: children(), end: 'last' }).loadStateDict(state),
      /end "first"/,
    );
  });
});

describe('ProportionalSampler', () => {
  keepsTheContract((shared) => new ProportionalSampler({ samplers: children(shared), seed: shared.seed }));

  it('gives all batches of all sets in a random order', () => {
    const sampler = new ProportionalSampler({ samplers: children(), seed: 1 });
    const orders = [0, 1].map((epoch) => {
      const batches = [...sampler.batches(epoch)];
      assert.deepEqual(ascending(batches.flatMap((batch) => [...batch.indices])), upTo(30));
      return batches.map((batch) => batch.set);
    });
    assert.notDeepEqual(orders[0], orders[1]);
    assert.deepEqual(ascending(orders[0]!), [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2]);
  });

  it('refuses a state whose samplers do not fit, before any of them changes', () => {
    const other = sizes.map((size) => new RandomSampler({ size, batchSize: 3, seed: 9 }));
    const sampler = new ProportionalSampler({ samplers: [children()[0]!, other[1]!, other[2]!] });
    const source = new ProportionalSampler({ samplers: children() });
    take(source, 4);
    assert.throws(() => sampler.loadStateDict(source.stateDict()), /seed 1, this sampler 9/);
    assert.equal(sampler.samplers[0]!.position, 0);
  });
});
