import assert from 'node:assert/strict';
import { ProgressiveTargets, softTargetCrossEntropy } from '../../src/memory';
import { gradcheck, type Tensor } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, everything, ints, mean, random, rowsOf, value } from './plain';

const softmax = (row: number[]): number[] => {
  const sum = row.reduce((total, x) => total + Math.exp(x), 0);
  return row.map((x) => Math.exp(x) / sum);
};

const make = () => new ProgressiveTargets({ samples: 4, classes: 3, epochs: 5, alpha: 0.6, dtype: 'float64', device });

describe('ProgressiveTargets', () => {
  it('softens labels by the last prediction, more and more', () => {
    const memory = make();
    const last = new Map<number, number[]>();
    for (let epoch = 0; epoch < 6; epoch++) {
      for (const ids of [[0], [3, 1]]) {
        const labels = ids.map((id) => id % 3);
        const alpha = (0.6 * Math.min(epoch + 1, 5)) / 5;
        const targets = memory.targets(ints(ids), ints(labels), epoch);
        const expected = ids.flatMap((id, i) => {
          const hard = [0, 1, 2].map((c) => (c === labels[i] ? 1 : 0));
          const past = last.get(id) ?? hard;
          return hard.map((x, c) => (1 - alpha) * x + alpha * past[c]!);
        });
        assertNear(numbers(targets), expected);
        const logits = random([ids.length, 3]);
        memory.record(ints(ids), logits.requiresGrad_());
        rowsOf(logits).forEach((row, i) => last.set(ids[i]!, softmax(row)));
        assert.ok(!targets.requiresGrad);
      }
    }
  });

  it('goes on exactly from its state', () => {
    const [first, second] = [make(), make()];
    first.record(ints([2, 0]), random([2, 3]));
    second.loadStateDict(copied(first.stateDict()));
    const logits = random([1, 3]);
    for (const memory of [first, second]) memory.record(ints([2]), logits);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
  });

  it('refuses what does not fit', () => {
    const memory = make();
    assertRefuses(() => memory.targets(ints([0]), ints([3]), 0), /labels must be from 0 to 2, found 3/);
    assertRefuses(() => memory.targets(ints([4]), ints([0]), 0), /ids must be from 0 to 3, found 4/);
    assertRefuses(() => memory.targets(ints([0]), ints([0]), -1), /epoch must be an integer of at least 0/);
    assertRefuses(() => memory.record(ints([0]), ints([0])), /logits must be floating-point/);
    assertRefuses(() => memory.record(ints([0, 0]), random([2, 3])), /ids must be distinct/);
    assertRefuses(
      () => new ProgressiveTargets({ samples: 1, classes: 2, epochs: 3, alpha: 2 }),
      /alpha must be a number/,
    );
  });
});

describe('softTargetCrossEntropy', () => {
  it('equals a loop, and has the gradients of finite differences', () => {
    for (const count of [1, 3]) {
      const [logits, targets] = [random([count, 4]), random([count, 4]).softmax(1)];
      const expected = rowsOf(logits).map((row, i) => {
        const p = softmax(row);
        return -rowsOf(targets)[i]!.reduce((sum, t, c) => sum + t * Math.log(p[c]!), 0);
      });
      assertNear(numbers(softTargetCrossEntropy(logits, targets, { reduction: 'none' })), expected);
      assertNear([value(softTargetCrossEntropy(logits, targets))], [mean(expected)]);
      const sum = expected.reduce((a, b) => a + b, 0);
      assertNear([value(softTargetCrossEntropy(logits, targets, { reduction: 'sum' }))], [sum]);
      gradcheck((x: Tensor) => softTargetCrossEntropy(x, targets), [logits.requiresGrad_()]);
    }
    assertRefuses(() => softTargetCrossEntropy(random([2, 3]), random([2, 4])), /must both be \[N, C\]/);
  });
});
