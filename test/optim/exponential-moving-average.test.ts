import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Linear, Sequential } from '../../src/nn';
import { BatchNorm1d } from '../../src/norm';
import { ExponentialMovingAverage, cosineMomentum } from '../../src/optim';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const network = () =>
  new Sequential(new Linear({ inFeatures: 2, outFeatures: 3, device }), new BatchNorm1d({ features: 3, device }));

describe('ExponentialMovingAverage', () => {
  it('equals a loop over the elements', () => {
    const [source, target] = [network(), network()];
    const average = new ExponentialMovingAverage({ source, target, momentum: 0.75 });
    const expected = target.parameters().map(numbers);
    for (let step = 0; step < 3; step++) {
      source.parameters().forEach((parameter) => parameter.detach().add_(0.5 * (step + 1)));
      source.parameters().forEach((parameter, index) => {
        const values = numbers(parameter);
        expected[index] = expected[index]!.map((value, element) => 0.75 * value + 0.25 * values[element]!);
      });
      average.step();
    }
    target.parameters().forEach((parameter, index) => {
      assertClose(parameter.detach().flatten(), torch.tensor(expected[index]!), { atol: 1e-6 });
    });
    assert.equal(average.steps, 3);
  });

  it('copies, averages or keeps buffers', () => {
    for (const [buffers, mean, count] of [
      ['copy', 4, 5],
      ['average', 2, 5],
      ['keep', 0, 0],
    ] as const) {
      // prettier-ignore
      const [source, target] = [network(), network()];
      source.namedBuffers().get('1.running_mean')!.fill_(4);
      source.namedBuffers().get('1.num_batches_tracked')!.fill_(5);
      new ExponentialMovingAverage({ source, target, momentum: 0.5, buffers }).step();
      assert.deepEqual(numbers(target.namedBuffers().get('1.running_mean')!), [mean, mean, mean], buffers);
      assert.deepEqual(numbers(target.namedBuffers().get('1.num_batches_tracked')!), [count], buffers);
    }
  });

  it('follows a schedule, and goes on from its state', () => {
    const options = { source: network(), target: network(), momentum: cosineMomentum({ start: 0.5, stepsTotal: 4 }) };
    const average = new ExponentialMovingAverage(options);
    assert.equal(average.momentum, 0.5);
    average.step();
    average.step();
    assert.ok(Math.abs(average.momentum - 0.75) < 1e-12);
    const resumed = new ExponentialMovingAverage(options);
    resumed.loadStateDict(average.stateDict());
    assert.equal(resumed.momentum, average.momentum);
  });

  it('refuses modules of different structure', () => {
    const source = network();
    const other = new Sequential(new Linear({ inFeatures: 2, outFeatures: 4, device }));
    assert.throws(
      () => new ExponentialMovingAverage({ source, target: other }),
      /parameter '0.weight' has shape \[3, 2\], the target's has \[4, 2\]/,
    );
    const part = new Sequential(source.at(0));
    assert.throws(
      () => new ExponentialMovingAverage({ source: part, target: source }),
      /target's parameter '1.weight' is not in the source/,
    );
  });
});
