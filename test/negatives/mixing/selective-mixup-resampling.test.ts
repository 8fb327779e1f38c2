import assert from 'node:assert/strict';
import { drawBalanced, resampledWith, selectPartners } from '../../../src/negatives/mixing';
import { Generator, scope } from '../../../src/torch';
import { numbers } from '../../support/close';
import { assertRefuses, ids } from '../../contrast/objectives/plain';

const labels = [0, 1, 0, 1, 2, 0];
const domains = [0, 0, 1, 1, 1, 1];

describe('selectPartners', () => {
  it('gives each sample one that fits, each as likely as another', () => {
    scope(() => {
      const generator = new Generator({ seed: 1 });
      for (const label of ['same', 'other', 'any'] as const) {
        for (const domain of ['same', 'other', 'any'] as const) {
          const fits = (i: number, j: number): boolean => {
            const rule = (of: number[], which: string): boolean =>
              which === 'any' || (of[i] === of[j]) === (which === 'same');
            return i !== j && rule(labels, label) && rule(domains, domain);
          };
          const counts = labels.map(() => new Map<number, number>());
          const trials = 150;
          for (let trial = 0; trial < trials; trial++) {
            const options = { label, domain, domains: ids(domains), generator };
            const { partners, found } = selectPartners(ids(labels), options);
            numbers(partners).forEach((j, i) => {
              const any = labels.some((_, other) => fits(i, other));
              assert.equal(numbers(found)[i], any ? 1 : 0);
              assert.ok(any ? fits(i, j) : i === j);
              counts[i]!.set(j, (counts[i]!.get(j) ?? 0) + 1);
            });
          }
          counts.forEach((count, i) => {
            const choices = labels.filter((_, j) => fits(i, j)).length;
            for (const times of count.values()) {
              if (choices > 0) assert.ok(Math.abs(times - trials / choices) < 35);
            }
          });
        }
      }
    });
  });

  it('makes two classes equally frequent without mixing', () => {
    scope(() => {
      const uneven = [0, 0, 0, 0, 0, 0, 1];
      const { partners } = selectPartners(ids(uneven), { generator: new Generator({ seed: 2 }) });
      const places = numbers(resampledWith(partners));
      assert.deepEqual(places.slice(0, 7), [0, 1, 2, 3, 4, 5, 6]);
      assert.equal(places.filter((place) => uneven[place] === 1).length, 7);
      assert.equal(places.length, 14);
    });
  });

  it('refuses what does not fit', () => {
    const generator = new Generator({ seed: 1 });
    const run = (options: object) => () => selectPartners(ids(labels), { generator, ...options }).partners;
    assertRefuses(run({ domain: 'other' }), /needs domains/);
    assertRefuses(run({ domains: ids([1]) }), /domains: expected shape \[6\]/);
    assertRefuses(run({ label: 'equal' }), /label must be 'same', 'other' or 'any'/);
  });
});

describe('drawBalanced', () => {
  it('draws each class as often, and each sample of it', () => {
    scope(() => {
      const generator = new Generator({ seed: 3 });
      const drawn = numbers(drawBalanced(ids(labels), { count: 9000, generator }));
      const counts = labels.map((_, i) => drawn.filter((place) => place === i).length);
      const sizes = [3, 2, 1];
      counts.forEach((count, i) => {
        assert.ok(Math.abs(count - 3000 / sizes[labels[i]!]!) < 200, String(counts));
      });
    });
  });

  it('draws each pair of class and domain as often', () => {
    scope(() => {
      const generator = new Generator({ seed: 4 });
      const drawn = numbers(drawBalanced(ids(labels), { count: 10_000, domains: ids(domains), generator }));
      const counts = labels.map((_, i) => drawn.filter((place) => place === i).length);
      // Pairs: (0,0) is sample 0, (0,1) samples 2 and 5, (1,0) sample 1, (1,1) sample 3, (2,1) sample 4.
      [2000, 2000, 1000, 2000, 2000, 1000].forEach((expected, i) => {
        assert.ok(Math.abs(counts[i]! - expected) < 160, String(counts));
      });
    });
  });

  it('repeats from its generator and refuses what does not fit', () => {
    scope(() => {
      const draw = (): number[] => numbers(drawBalanced(ids(labels), { generator: new Generator({ seed: 5 }) }));
      assert.deepEqual(draw(), draw());
      assert.equal(draw().length, 6);
      assert.deepEqual(numbers(drawBalanced(ids([7]), { generator: new Generator({ seed: 5 }) })), [0]);
    });
    const generator = new Generator({ seed: 1 });
    assertRefuses(() => drawBalanced(ids([]), { generator }), /there are none|int64/);
    assertRefuses(() => drawBalanced(ids(labels), { generator, count: 0 }), /count must be an integer of at least 1/);
  });
});
