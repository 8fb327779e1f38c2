import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Parameter } from '../../src/nn';
import { SGD, WarmupCosine, warmupCosine } from '../../src/optim';
import { golden } from '../support/golden';

interface Case {
  warmup: number;
  total: number;
  start: number;
  end: number;
  lr: number;
  rates: number[];
}

const optimizerAt = (lr: number) => new SGD([new Parameter(torch.zeros([1]))], { lr });

describe('WarmupCosine', () => {
  for (const { warmup, total, start, end, lr, rates } of golden<{ cases: Case[] }>('warmup_cosine').values.cases) {
    it(`equals PyTorch's LinearLR and CosineAnnealingLR: ${warmup} of ${total} steps`, () => {
      const optimizer = optimizerAt(lr);
      const schedule = new WarmupCosine({
        optimizer,
        stepsWarmup: warmup,
        stepsTotal: total,
        startFactor: start,
        endFactor: end,
      });
      rates.forEach((rate, step) => {
        assert.ok(
          Math.abs(optimizer.groups[0]!.lr - rate) < 1e-12,
          `step ${step}: ${optimizer.groups[0]!.lr}, ${rate}`,
        );
        schedule.step();
      });
      assert.ok(Math.abs(optimizer.groups[0]!.lr - end * lr) < 1e-12);
    });
  }

  it('rises in equal parts by default, and never stands at zero before the end', () => {
    const shape = { stepsWarmup: 3, stepsTotal: 5 };
    const factors = [0, 1, 2, 3, 4, 5, 9].map((step) => warmupCosine(step, shape));
    [0.25, 0.5, 0.75, 1, 0.5, 0, 0].forEach((factor, index) => assert.ok(Math.abs(factors[index]! - factor) < 1e-12));
  });

  it('goes on from its state', () => {
    const options = { stepsWarmup: 2, stepsTotal: 8 };
    const [a, b] = [optimizerAt(0.4), optimizerAt(0.1)];
    const first = new WarmupCosine({ optimizer: a, ...options });
    for (let step = 0; step < 5; step++) first.step();
    const second = new WarmupCosine({ optimizer: b, ...options });
    second.loadStateDict(first.stateDict());
    assert.equal(second.steps, 5);
    assert.equal(b.groups[0]!.lr, a.groups[0]!.lr);
  });

  it('refuses shapes and states that make no sense', () => {
    const optimizer = optimizerAt(1);
    assert.throws(
      () => new WarmupCosine({ optimizer, stepsWarmup: 9, stepsTotal: 8 }),
      /stepsWarmup \(9\) must not be more than stepsTotal \(8\)/,
    );
    assert.throws(() => new WarmupCosine({ optimizer, stepsTotal: 0 }), /stepsTotal must be an integer of at least 1/);
    const schedule = new WarmupCosine({ optimizer, stepsTotal: 8 });
    assert.throws(() => schedule.loadStateDict({ tensors: new Map(), values: { steps: 1 } }), /expected 1 peaks/);
    assert.throws(() => schedule.loadStateDict({ tensors: new Map(), values: null }), /expected an object, found null/);
  });
});
