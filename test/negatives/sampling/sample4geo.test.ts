import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Sample4GeoSampler } from '../../../src/negatives/sampling/sample4geo';
import { Generator, scope, torch } from '../../../src/torch';
import { device } from '../../support/device';
import { ascending, epochOf, keepsTheContract, upTo } from './contract';

const embeddings = (count: number, seed = 1) =>
  torch.randn([count, 3], { generator: new Generator({ seed }) }).to({ device });
const ids = Array.from({ length: 33 }, (_, row) => row % 28);
const options = { size: 33, ids, batchSize: 6, neighbourSelect: 4, neighbourRange: 8, dropLast: false };

describe('Sample4GeoSampler', () => {
  keepsTheContract((shared) => new Sample4GeoSampler({ ...options, ...shared }), {
    remainder: 'drop',
    ready: (sampler) => scope(() => (sampler as Sample4GeoSampler).refresh(embeddings(33))),
  });

  it('brings the nearest rows along, and some of the near ones', () => {
    scope(() => {
      // Rows on a line: the neighbours of r are r ± 1, ± 2, … in turn.
      const angle = torch.arange(200, { dtype: 'float64', device }).mul(0.004).pow(1.01);
      const sampler = new Sample4GeoSampler({ size: 200, batchSize: 9, neighbourSelect: 8, neighbourRange: 20 });
      sampler.refresh(torch.stack([angle.cos(), angle.sin()], 1));
      // Away from the ends the four nearest come first, four of the next sixteen after them.
      const firsts = upTo(12).map((epoch) => epochOf(sampler, epoch)[0]!);
      const inside = firsts.filter(([anchor]) => anchor! >= 20 && anchor! <= 179);
      assert.ok(inside.length > 5);
      for (const [anchor, ...others] of inside) {
        const away = others.map((row) => Math.abs(row - anchor!));
        assert.deepEqual(ascending(away.slice(0, 4)), [1, 1, 2, 2]);
        assert.ok(away.slice(4).every((distance) => distance > 2 && distance <= 11));
      }
      assert.ok(inside.some(([anchor, ...others]) => others.some((row) => Math.abs(row - anchor!) > 5)));
    });
  });

  it('gives each row once, and no place twice in a batch', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 2, maxLength: 30 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 0, max: 6 }),
        fc.boolean(),
        fc.nat({ max: 1000 }),
        (places, batchSize, neighbourSelect, refreshed, seed) =>
          scope(() => {
            const size = places.length;
            const sampler = new Sample4GeoSampler({
              size,
              ids: places,
              batchSize,
              neighbourSelect,
              dropLast: false,
              seed,
            });
            if (refreshed) sampler.refresh(embeddings(size, seed), embeddings(size, seed + 1));
            const batches = epochOf(sampler, 0);
            assert.deepEqual(ascending(batches.flat()), upTo(size));
            for (const batch of batches) {
              assert.ok(batch.length > 0 && batch.length <= batchSize);
              assert.equal(new Set(batch.map((row) => places[row])).size, batch.length);
            }
            const full = new Sample4GeoSampler({ size, ids: places, batchSize, neighbourSelect, seed });
            if (refreshed) full.refresh(embeddings(size, seed), embeddings(size, seed + 1));
            assert.deepEqual(
              full.batchesPerEpoch === 0 ? [] : epochOf(full, 0),
              batches.filter((batch) => batch.length === batchSize),
            );
          }),
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  it('starts with neighbours on the globe, if it knows where rows are', () => {
    scope(() => {
      // Ten towns of five rows.
      const town = torch.arange(50, { dtype: 'float64', device }).remainder(10);
      const nearby = torch.arange(50, { dtype: 'float64', device }).mul(1e-4);
      const coordinates = torch.stack([town.mul(8).sub(40).add(nearby), town.mul(30).sub(150)], 1);
      const shared = { size: 50, batchSize: 5, neighbourSelect: 8, neighbourRange: 4 };
      const towns = (sampler: Sample4GeoSampler) =>
        epochOf(sampler, 0).map((batch) => new Set(batch.map((row) => row % 10)).size);
      assert.deepEqual(towns(new Sample4GeoSampler({ ...shared, coordinates })), Array(10).fill(1));
      assert.ok(towns(new Sample4GeoSampler(shared)).some((count) => count > 2));
    });
  });

  it('refuses what does not fit', () => {
    const make = (change: object) => () => new Sample4GeoSampler({ ...options, ...change });
    assert.throws(make({ neighbourRange: 33 }), /at most 32, found 33/);
    assert.throws(make({ ids: [1] }), /33 integers, found 1/);
    assert.throws(make({ coordinates: torch.zeros([3, 2]) }), /floating-point \[33, D\], found float32 \[3, 2\]/);
  });
});
