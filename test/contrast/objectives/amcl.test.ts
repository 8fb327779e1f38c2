import assert from 'node:assert/strict';
import { Amcl } from '../../../src/contrast/objectives/amcl';
import { gradcheck, scope, type Tensor } from '../../../src/torch';
import { assertFinite, assertRefuses, assertValue, dot, learning, mean, random, rowsOf, total, unit } from './plain';

const expected = (loss: Amcl, first: Tensor, second: Tensor, queue?: Tensor): number => {
  const [count, heads] = [first.sizeOf(0), first.sizeOf(1)];
  const perHead = Array.from({ length: heads }, (_, h) => {
    const views = [first, second].flatMap((x) => rowsOf(x.select(1, h)).map(unit));
    const bank = queue === undefined ? undefined : rowsOf(queue.select(0, h)).map(unit);
    const inner = (rows: number[][]): number[][] =>
      rowsOf(loss.network.forward(random([rows.length, rows[0]!.length]).copy_(tensorOf(rows))));
    const [f, g] = [inner(views), bank === undefined ? [] : inner(bank)];
    const temperature = (a: number[], b: number[]): number =>
      loss.least + (loss.greatest - loss.least) / (1 + Math.exp(dot(a, b)));
    const losses = views.map((x, a) => {
      const partner = (a + count) % (2 * count);
      const tau = temperature(f[a]!, f[partner]!);
      const pairs =
        bank === undefined
          ? views.flatMap((y, b) => (b % count === a % count ? [] : [[dot(x, y), temperature(f[a]!, f[b]!)] as const]))
          : bank.map((y, b) => [dot(x, y), temperature(f[a]!, g[b]!)] as const);
      const hardest = [...pairs].sort((p, q) => q[0] - p[0]).slice(0, loss.negatives);
      const regular =
        (loss.dimension / 2) * Math.log(tau) + 1 / tau - total(hardest.map(([, t]) => Math.log(t) + 1 / t));
      return -dot(x, views[partner]!) / tau + mean(hardest.map(([s, t]) => s / t)) + loss.regularization * regular;
    });
    return mean(losses);
  });
  return total(perHead);
};
const tensorOf = (rows: number[][]): Tensor => {
  const flat = random([rows.length, rows[0]!.length]);
  rows.forEach((row, i) => row.forEach((value, j) => flat.at(i, j).fill_(value)));
  return flat;
};

describe('Amcl', () => {
  it('gives each pair its temperature, and sums over heads', () => {
    scope(() => {
      for (const count of [2, 3, 5]) {
        for (const negatives of [3, 100]) {
          const loss = new Amcl({
            dimension: 3,
            hidden: 4,
            negatives,
            regularization: 0.1,
            least: 0.05,
            dtype: 'float64',
          });
          const [a, b, queue] = [random([count, 2, 3]), random([count, 2, 3]), random([2, 6, 3])];
          assertValue(loss.forward(a, b), expected(loss, a, b));
          assertValue(loss.forward(a, b, queue), expected(loss, a, b, queue));
        }
      }
      const loss = new Amcl({ dimension: 3, least: 0.05, dtype: 'float64' });
      const [a, b, queue] = [random([1, 1, 3]), random([1, 1, 3]), random([1, 4, 3])];
      assertValue(loss.forward(a, b, queue), expected(loss, a, b, queue));
    });
  });

  it('has right gradients, for its network too, and is finite', () => {
    scope(() => {
      const loss = new Amcl({ dimension: 2, least: 0.1, dtype: 'float64' });
      gradcheck((a, b) => loss.forward(a!, b!), [learning([3, 2, 2]), learning([3, 2, 2])]);
      loss.forward(random([3, 2, 2]), random([3, 2, 2])).backward();
      for (const [name, parameter] of loss.namedParameters()) assert.notEqual(parameter.grad, null, name);
      assert.equal([...loss.stateDict().keys()][0], 'network.0.weight');
    });
    assertFinite(
      (t, a, b) => new Amcl({ dimension: 3, greatest: t }).forward(a!, b!),
      [
        [5, 2, 3],
        [5, 2, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const loss = new Amcl({ dimension: 3 });
    const x = (): Tensor => random([1, 2, 3], 'float32');
    assertRefuses(() => loss.forward(x(), x()), /a batch of one sample holds no negatives/);
    assertRefuses(() => loss.forward(x(), random([1, 3], 'float32')), /must both be \[N, H, 3\]/);
    assertRefuses(() => loss.forward(x(), x(), random([1, 4, 3], 'float32')), /queue: expected shape \[2, K, 3\]/);
    assertRefuses(() => new Amcl({ dimension: 3, least: 2, greatest: 1 }), /greatest must be a number above 2/);
  });
});
