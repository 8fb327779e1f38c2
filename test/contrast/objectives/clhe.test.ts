import { clhe } from '../../../src/contrast/objectives/clhe';
import { scope, type Tensor } from '../../../src/torch';
import { assertRefuses, assertValue, cosine, mean, random, rowsOf, sumExp } from './plain';

function infoNce(first: Tensor, second: Tensor, t: number): number {
  const [a, b] = [rowsOf(first), rowsOf(second)];
  return mean(a.map((row, i) => Math.log(sumExp(b.map((x) => cosine(row, x) / t))) - cosine(row, b[i]!) / t));
}

describe('clhe', () => {
  it('is the weighted sum of both terms, of one direction each', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 17]) {
        const items = [random([count, 4]), random([count, 4])] as const;
        const bundles = [random([3, 5]), random([3, 5])] as const;
        for (const execution of ['dense', 'tiled'] as const) {
          assertValue(clhe(items, bundles, { execution }), infoNce(...items, 0.2) + infoNce(...bundles, 0.2));
          const options = { itemWeight: 2, bundleWeight: 0.5, itemTemperature: 0.3, bundleTemperature: 0.7, execution };
          assertValue(clhe(items, bundles, options), 2 * infoNce(...items, 0.3) + 0.5 * infoNce(...bundles, 0.7));
        }
        assertValue(clhe(items, bundles, { bundleWeight: 0 }), infoNce(...items, 0.2));
        assertValue(clhe(items, bundles, { itemWeight: 0, bundleWeight: 0 }), 0);
      }
    });
  });

  it('refuses what does not fit', () => {
    const a = random([3, 4]);
    assertRefuses(() => clhe([a, random([2, 4])], [a, a]), /clhe: items\[1\]: expected shape \[3, 4\]/);
    assertRefuses(() => clhe([a, a], [a, random([3, 5])]), /clhe: bundles\[1\]: expected shape \[3, 4\]/);
    assertRefuses(() => clhe([a, a], [a, a], { itemWeight: -1 }), /weight of items must be a number at least 0/);
    assertRefuses(() => clhe([a, a], [a, a], { bundleTemperature: 0 }), /clhe: bundles: temperature must be/);
  });
});
