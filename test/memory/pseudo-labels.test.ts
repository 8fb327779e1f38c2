import assert from 'node:assert/strict';
import { PseudoLabels } from '../../src/memory';
import { torch } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, everything, ints, random, rowsOf } from './plain';

/** Samples 0 and 3 are of a negative bag. */
const OPEN = [
  [true, false],
  [true, true],
  [true, true],
  [true, false],
  [true, true],
];
const make = () =>
  new PseudoLabels({
    samples: 5,
    classes: 2,
    allowed: torch.tensor(OPEN, { dtype: 'bool', device }),
    dtype: 'float64',
    device,
  });

describe('PseudoLabels', () => {
  it('follow what is decided among the allowed classes', () => {
    const labels = make();
    const model = OPEN.map((open) => open.map((is) => (is ? 1 / open.filter(Boolean).length : 0)));
    assertNear(numbers(labels.targets(ints([0, 1, 2, 3, 4]))), model.flat());
    for (const [ids, momentum] of [
      [[1], 0.95],
      [[4, 0, 2], 0.8],
      [[3, 1], 0.5],
    ] as const) {
      const scores = random([ids.length, 2]);
      const decided = numbers(labels.update(ints(ids), scores, momentum));
      ids.forEach((id, i) => {
        const open = rowsOf(scores)[i]!.map((score, c) => (OPEN[id]![c]! ? score : -Infinity));
        const best = open.indexOf(Math.max(...open));
        assert.equal(decided[i], best);
        model[id] = model[id]!.map((q, c) => momentum * q + (c === best ? 1 - momentum : 0));
      });
      assertNear(numbers(labels.targets(ints([0, 1, 2, 3, 4]))), model.flat());
    }
    assertNear(rowsOf(labels.targets(ints([0])))[0]!, [1, 0]);
    assert.deepEqual(numbers(labels.allowed(ints([3, 4]))).map(Boolean), [true, false, true, true]);
  });

  it('goes on exactly from its state', () => {
    const [first, second] = [make(), make()];
    first.update(ints([1, 2]), random([2, 2]));
    second.loadStateDict(copied(first.stateDict()));
    const scores = random([2, 2]);
    for (const labels of [first, second]) labels.update(ints([2, 4]), scores);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
  });

  it('refuses what does not fit, before anything changes', () => {
    const labels = make();
    const before = everything(copied(labels.stateDict()));
    assertRefuses(() => labels.update(ints([1, 1]), random([2, 2])), /ids must be distinct/);
    assertRefuses(() => labels.update(ints([1]), random([1, 3])), /scores of shape \[1, 2\], found \[1, 3\]/);
    assertRefuses(() => labels.update(ints([1]), random([1, 2]), 2), /momentum must be a number from 0 to 1/);
    assertRefuses(() => labels.targets(ints([5])), /ids must be from 0 to 4, found 5/);
    const none = torch.tensor(
      [
        [true, false],
        [false, false],
      ],
      { dtype: 'bool' },
    );
    assertRefuses(() => new PseudoLabels({ samples: 2, classes: 2, allowed: none }), /every sample needs a class/);
    assert.deepEqual(everything(labels.stateDict()), before);
  });
});
