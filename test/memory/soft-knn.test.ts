import assert from 'node:assert/strict';
import { SoftKnn } from '../../src/memory';
import { grad, gradcheck, scope, type Tensor } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, cosine, everything, ints, random, rowsOf, value } from './plain';

interface Entry {
  row: number[];
  label: number;
  id: number;
}

/** NaN where there is no loss. */
function byLoop(query: Entry, entries: Entry[], k: number, t: number, missing: 'nearest' | 'skip'): number {
  const others = entries
    .filter(({ id }) => id !== query.id)
    .map((entry) => ({ ...entry, score: cosine(query.row, entry.row) }))
    .sort((a, b) => b.score - a.score);
  const votes = others.slice(0, k);
  if (!votes.some(({ label }) => label === query.label)) {
    const nearest = others.find(({ label }) => label === query.label);
    if (missing === 'skip' || nearest === undefined) return NaN;
    votes.push(nearest);
  }
  const sum = (some: typeof votes) => some.reduce((total, { score }) => total + Math.exp(score / t), 0);
  return -Math.log(sum(votes.filter(({ label }) => label === query.label)) / sum(votes));
}

const labelsOf = (count: number, classes: number) => Array.from({ length: count }, (_, i) => (i * 7) % classes);

describe('SoftKnn', () => {
  it('equals a loop, also where no neighbour agrees', () => {
    let lacking = 0;
    for (const [size, k, classes] of [
      [1, 1, 2],
      [3, 2, 2],
      [17, 3, 4],
      [17, 40, 3],
      [17, 1, 9],
    ] as const) {
      for (const missing of ['nearest', 'skip'] as const) {
        scope(() => {
          const memory = new SoftKnn({
            size,
            dimension: 3,
            k,
            temperature: 0.4,
            missing,
            ids: true,
            dtype: 'float64',
            device,
          });
          const [rows, x] = [random([size, 3]), random([7, 3])];
          const [entryLabels, labels] = [labelsOf(size, classes), labelsOf(7, classes + 1)];
          const ids = (count: number) => Array.from({ length: count }, (_, i) => i % 5);
          memory.enqueue(rows, ints(entryLabels), { ids: ints(ids(size)) });
          const entries = rowsOf(rows).map((row, i) => ({ row, label: entryLabels[i]!, id: i % 5 }));
          for (const withIds of [true, false]) {
            const queries = rowsOf(x).map((row, i) => ({ row, label: labels[i]!, id: withIds ? i % 5 : -1 }));
            const losses = queries.map((query) => byLoop(query, entries, k, 0.4, missing));
            const there = losses.filter((loss) => !Number.isNaN(loss));
            lacking += losses.length - there.length;
            const options = withIds ? { ids: ints(ids(7)) } : {};
            const each = memory.loss(x, ints(labels), { ...options, reduction: 'none' });
            assertNear(
              numbers(each),
              losses.map((loss) => (Number.isNaN(loss) ? 0 : loss)),
            );
            const sum = there.reduce((total, loss) => total + loss, 0);
            assertNear([value(memory.loss(x, ints(labels), options))], [sum / Math.max(1, there.length)]);
            assertNear([value(memory.loss(x, ints(labels), { ...options, reduction: 'sum' }))], [sum]);
          }
        });
      }
    }
    assert.ok(lacking > 0);
  });

  it('has the gradients of finite differences, and numbers where nothing agrees', () => {
    const memory = new SoftKnn({ size: 9, dimension: 3, k: 3, temperature: 0.5, dtype: 'float64', device });
    memory.enqueue(random([9, 3]), ints(labelsOf(9, 2)));
    gradcheck((x: Tensor) => memory.loss(x, ints([0, 1, 0])), [random([3, 3]).requiresGrad_()]);
    const x = random([2, 3]).requiresGrad_();
    const loss = memory.loss(x, ints([5, 5]));
    assert.deepEqual([value(loss), ...numbers(grad(loss, [x])[0]!)], [0, 0, 0, 0, 0, 0, 0]);
  });

  it('goes on exactly from its state', () => {
    const made = () => new SoftKnn({ size: 3, dimension: 2, device });
    const [first, second] = [made(), made()];
    first.enqueue(random([2, 2]), ints([0, 1]));
    second.loadStateDict(copied(first.stateDict()));
    const batch = random([2, 2]);
    for (const memory of [first, second]) memory.enqueue(batch, ints([1, 2]));
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
    assert.equal(second.filled, 3);
  });

  it('refuses what does not fit', () => {
    const memory = new SoftKnn({ size: 3, dimension: 2, device });
    assertRefuses(() => memory.loss(random([1, 2]), ints([0])), /the memory is empty/);
    memory.enqueue(random([2, 2]), ints([0, 1]));
    assertRefuses(() => memory.loss(random([1, 2]), ints([0, 1])), /labels of shape \[1\], found \[2\]/);
    assertRefuses(() => memory.loss(random([1, 2]), ints([0]), { ids: ints([0]) }), /made without ids/);
    assertRefuses(() => memory.loss(random([0, 2]), ints([])), /there are no embeddings/);
    assertRefuses(() => new SoftKnn({ size: 3, dimension: 2, k: 0 }), /k must be an integer of at least 1/);
    assertRefuses(
      () => new SoftKnn({ size: 3, dimension: 2, temperature: -1 }),
      /temperature must be a number above 0/,
    );
  });
});
