import assert from 'node:assert/strict';
import { cMixup, regMix } from '../../../src/negatives/mixing';
import { Generator, scope, torch } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { assertRefuses, ids, random, rowsOf, squared, total } from '../../contrast/objectives/plain';

describe('regMix', () => {
  it('mixes inputs and targets with one of the nearest, each as likely', () => {
    scope(() => {
      const [x, y] = [random([7, 3]), random([7, 2])];
      const [rows, targets] = [rowsOf(x), rowsOf(y)];
      const generator = new Generator({ seed: 1 });
      const counts = new Map<number, number>();
      for (let trial = 0; trial < 300; trial++) {
        const mixed = regMix(x, y, { neighbors: 3, generator });
        numbers(mixed.partners).forEach((j, i) => {
          const near = rows
            .map((row, other) => ({ other, far: squared(row, rows[i]!) }))
            .filter(({ other }) => other !== i)
            .sort((a, b) => a.far - b.far)
            .slice(0, 3)
            .map(({ other }) => other);
          assert.ok(near.includes(j));
          if (i === 0) counts.set(j, (counts.get(j) ?? 0) + 1);
          if (trial > 1) return;
          const own = numbers(mixed.lambda)[i]!;
          const mix = (a: number[], b: number[]): number[] => a.map((v, d) => own * v + (1 - own) * b[d]!);
          for (const [found, all] of [
            [mixed.inputs, rows],
            [mixed.targets, targets],
          ] as const) {
            const expected = torch.tensor(mix(all[i]!, all[j]!), { dtype: 'float64' });
            assertClose(found.select(0, i), expected, { atol: 1e-12, rtol: 0 });
          }
        });
      }
      for (const count of counts.values()) assert.ok(Math.abs(count - 100) < 35, String([...counts]));
    });
  });

  it('takes a number of neighbours each, and leaves whom it is told to leave', () => {
    scope(() => {
      const [x, y] = [random([4, 2]), random([4])];
      const generator = new Generator({ seed: 2 });
      const { inputs, partners } = regMix(x, y, { neighbors: ids([0, 9, 1, 0]), generator });
      assert.equal(numbers(partners)[0], 0);
      assert.deepEqual(numbers(inputs.select(0, 3)), numbers(x.select(0, 3)));
      assert.notEqual(numbers(partners)[1], 1);
      // Distances in other features, and a batch of one.
      const features = torch.tensor([[0], [1], [1.1], [5]]);
      const near = regMix(x, y, { neighbors: 1, features, generator });
      assert.deepEqual(numbers(near.partners), [1, 2, 1, 2]);
      assert.deepEqual(numbers(regMix(x.narrow(0, 0, 1), y.narrow(0, 0, 1), { generator }).partners), [0]);
      // Equal samples: never oneself while there are others.
      const same = regMix(torch.ones([3, 2]), torch.ones([3]), { neighbors: 2, generator });
      numbers(same.partners).forEach((j, i) => assert.notEqual(j, i));
    });
  });

  it('refuses what does not fit', () => {
    const generator = new Generator({ seed: 1 });
    const x = random([3, 2]);
    assertRefuses(() => regMix(x, random([2]), { generator }).inputs, /targets: expected shape \[3\] or \[3, T\]/);
    assertRefuses(() => regMix(x, random([3]), { generator, neighbors: 0 }).inputs, /neighbors must be an integer/);
    assertRefuses(() => cMixup(x, random([3]), { generator, bandwidth: 0 }).inputs, /bandwidth must be a number above/);
  });
});

describe('cMixup', () => {
  it('draws partners by how near targets are, as often as the formula says', () => {
    scope(() => {
      const targets = [0, 0.5, 2, 10];
      const y = torch.tensor(targets, { dtype: 'float64' });
      const generator = new Generator({ seed: 3 });
      const counts = [0, 0, 0, 0];
      const trials = 2000;
      for (let trial = 0; trial < trials; trial++) {
        const partners = numbers(cMixup(random([4, 1]), y, { generator }).partners);
        counts[partners[0]!]! += 1;
        assert.equal(partners[3], 2);
      }
      const weights = targets.map((t, j) => (j === 0 ? 0 : Math.exp(-(t ** 2) / 2)));
      counts.forEach((count, j) => {
        assert.ok(Math.abs(count / trials - weights[j]! / total(weights)) < 0.03, String(counts));
      });
    });
  });
});
