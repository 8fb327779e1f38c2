import assert from 'node:assert/strict';
import { NgameSampler } from '../../../src/negatives/sampling/ngame';
import { Generator, memory, scope, torch } from '../../../src/torch';
import { device } from '../../support/device';
import { ascending, epochOf, keepsTheContract, plain, saved, take, upTo } from './contract';

const embeddings = (count: number, seed = 1) =>
  torch.randn([count, 4], { generator: new Generator({ seed }) }).to({ device });

describe('NgameSampler', () => {
  describe('before a refresh', () => {
    keepsTheContract((shared) => new NgameSampler({ size: 30, batchSize: 8, ...shared }));
  });

  describe('after a refresh', () => {
    keepsTheContract((shared) => new NgameSampler({ size: 30, batchSize: 8, clusterSize: 4, ...shared }), {
      ready: (sampler) => scope(() => (sampler as NgameSampler).refresh(embeddings(30))),
    });
  });

  it('makes batches of whole clusters of neighbours', () => {
    scope(() => {
      // Twelve directions of four rows each.
      const angles = torch
        .arange(48, { dtype: 'float64', device })
        .remainder(12)
        .mul(Math.PI / 6);
      const sampler = new NgameSampler({ size: 48, batchSize: 8, clusterSize: 4 });
      sampler.refresh(torch.stack([angles.cos(), angles.sin()], 1));
      const seen = new Set<string>();
      for (const epoch of [0, 1, 2]) {
        const batches = epochOf(sampler, epoch);
        assert.deepEqual(ascending(batches.flat()), upTo(48));
        for (const batch of batches) {
          const groups = ascending(new Set(batch.map((row) => row % 12)));
          assert.equal(groups.length, 2);
          seen.add(groups.join());
        }
      }
      assert.ok(seen.size > 6);
    });
  });

  it('takes a refresh up in the next epoch, or at once if none is under way, and saves it', () => {
    scope(() => {
      const make = () => new NgameSampler({ size: 30, batchSize: 8, clusterSize: 4 });
      const [late, early, never] = [make(), make(), make()];
      early.refresh(embeddings(30));
      late.next();
      late.refresh(embeddings(30));
      never.next();
      const rest = take(late, 1);
      assert.deepEqual(rest, take(never, 1));
      // Saved between the refresh and the epoch that it is for.
      const resumed = make();
      resumed.loadStateDict(saved(late));
      const [straight, again] = [epochOf(late, 1), epochOf(resumed, 1)];
      assert.deepEqual(again, straight);
      assert.deepEqual(straight, epochOf(early, 1));
      assert.notDeepEqual(straight, epochOf(never, 1));
      assert.deepEqual(plain(early.next()), plain(late.next()));
    });
  });

  it('refuses what does not fit, and leaks nothing', () => {
    assert.throws(() => new NgameSampler({ size: 9, batchSize: 4, clusterSize: 5 }), /at most the batch of 4, found 5/);
    const sampler = new NgameSampler({ size: 30, batchSize: 8 });
    const right = embeddings(30);
    const before = memory().liveTensors;
    sampler.refresh(right);
    assert.equal(memory().liveTensors, before);
    scope(() => {
      assert.throws(
        () => sampler.refresh(embeddings(29)),
        /embeddings must be floating-point \[30, D\], found float32 \[29, 4\]/,
      );
      const { values, tensors } = saved(sampler);
      const changed = new Map([['active.clusters', tensors.get('active.clusters')!.add(7)]]);
      assert.throws(() => sampler.loadStateDict({ values, tensors: changed }), /must run from 0 to 14, found/);
      const short = new Map([['active.clusters', torch.zeros([3], { dtype: 'int32' })]]);
      assert.throws(() => sampler.loadStateDict({ values, tensors: short }), /must be int32 \[30\], found int32 \[3\]/);
    });
    right.dispose();
  });
});
