import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  HierarchicalCurationSampler,
  hierarchicalDraw,
  levelled,
} from '../../../src/negatives/sampling/hierarchical-curation';
import { RandomSource } from '../../../src/negatives/sampling/random-source';
import { Generator, memory, scope, torch } from '../../../src/torch';
import { device } from '../../support/device';
import { ascending, epochOf, keepsTheContract, upTo } from './contract';

const embeddings = (count: number, seed = 1) =>
  torch.randn([count, 2], { generator: new Generator({ seed }), dtype: 'float64' }).to({ device });
const clustering = { resamples: 1, resampleSize: 2 };
const options = { size: 60, curatedSize: 25, batchSize: 6, clusters: [8, 3], clustering };

describe('levelled', () => {
  it('gives min(x, size) of each heap, some one more, and the total', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 8 }),
        fc.nat({ max: 60 }),
        fc.nat(),
        (sizes, total, seed) => {
          const given = Array.from(levelled(sizes, total, new RandomSource(seed)));
          const all = sizes.reduce((a, b) => a + b);
          assert.equal(
            given.reduce((a, b) => a + b),
            Math.min(total, all),
          );
          if (total >= all) return;
          // The largest x that does not give too much, by counting up.
          let x = 0;
          while (sizes.reduce((sum, size) => sum + Math.min(size, x + 1), 0) <= total) x++;
          given.forEach((share, heap) => {
            const least = Math.min(sizes[heap]!, x);
            assert.ok(share === least || (share === least + 1 && sizes[heap]! > x));
          });
        },
      ),
      { seed: 1 },
    );
  });
});

describe('hierarchicalDraw', () => {
  // Rows 0-59 in cluster 0, 60-69 in 1, 70-79 in 2; clusters 0 and 1 in the first of two above, cluster 2 in the second.
  const level = Int32Array.from(upTo(80), (row) => (row < 60 ? 0 : row < 70 ? 1 : 2));
  const levels = [level, Int32Array.of(0, 0, 1)];

  it('shares out evenly from the top down', () => {
    const draw = (total: number) => {
      const rows = Array.from(hierarchicalDraw(levels, [3, 2], total, new RandomSource(1)));
      assert.equal(new Set(rows).size, rows.length);
      assert.deepEqual(rows, ascending(rows));
      return [0, 1, 2].map((cluster) => rows.filter((row) => level[row] === cluster).length);
    };
    assert.deepEqual(draw(20), [5, 5, 10]);
    assert.deepEqual(draw(40), [20, 10, 10]);
    assert.deepEqual(draw(8), [2, 2, 4]);
    assert.deepEqual(draw(80), [60, 10, 10]);
    assert.deepEqual(draw(500), [60, 10, 10]);
  });

  it('takes the nearest rows first on request', () => {
    const distances = upTo(80).map((row) => (row * 37) % 80);
    const rows = Array.from(hierarchicalDraw(levels, [3, 2], 20, new RandomSource(1), distances));
    for (const cluster of [0, 1, 2]) {
      const own = upTo(80).filter((row) => level[row] === cluster);
      const drawn = rows.filter((row) => level[row] === cluster);
      const nearest = own.sort((a, b) => distances[a]! - distances[b]!).slice(0, drawn.length);
      assert.deepEqual(drawn, ascending(nearest));
    }
  });
});

describe('HierarchicalCurationSampler', () => {
  const ready = (sampler: unknown) => scope(() => (sampler as HierarchicalCurationSampler).refresh(embeddings(60)));
  keepsTheContract((shared) => new HierarchicalCurationSampler({ ...options, ...shared }), { ready });

  it('goes through one curated set in every epoch, or another each time', () => {
    for (const redraw of [false, true]) {
      const sampler = new HierarchicalCurationSampler({ ...options, redraw });
      ready(sampler);
      const [first, second] = [0, 1].map((epoch) => ascending(epochOf(sampler, epoch).flat()));
      assert.equal(new Set(first).size, 25);
      assert.deepEqual(Array.from(sampler.curated(0)), first);
      if (redraw) assert.notDeepEqual(first, second);
      else assert.deepEqual(first, second);
    }
  });

  it('evens out what is frequent', () => {
    scope(() => {
      // 80 rows at one place, 20 at another.
      const rare = torch.arange(100, { device }).ge(80).to({ dtype: 'float64' }).mul(50).unsqueeze(1);
      const points = embeddings(100).add(rare);
      const make = (take: 'random' | 'closest') => {
        const sampler = new HierarchicalCurationSampler({
          ...options,
          size: 100,
          curatedSize: 30,
          clusters: [6, 2],
          take,
        });
        sampler.refresh(points);
        return Array.from(sampler.curated());
      };
      for (const take of ['random', 'closest'] as const) assert.equal(make(take).filter((row) => row >= 80).length, 15);
      assert.notDeepEqual(make('random'), make('closest'));
    });
  });

  it('refuses what does not fit, and does not leak', () => {
    const make = (change: object) => new HierarchicalCurationSampler({ ...options, ...change });
    assert.throws(() => make({ curatedSize: 61 }), /at most the 60 rows, found 61/);
    assert.throws(() => make({ clusters: [8, 9] }), /level 1 can't have 9 clusters of 8/);
    assert.throws(() => make({ clusters: [] }), /at least one level/);
    assert.throws(() => make({ take: 'x' }), /take must be/);
    const sampler = make({});
    assert.throws(() => sampler.next(), /call refresh\(embeddings\) first/);
    const points = embeddings(60);
    const before = memory().liveTensors;
    sampler.refresh(points);
    assert.equal(memory().liveTensors, before);
    points.dispose();
  });
});
