import * as assert from 'node:assert/strict';
import { linearProbe } from '../../src/evaluate/linear-probe';
import { defaultGenerator, memory, noGrad, torch } from '../../src/torch';
import { InvalidArgumentError } from '../../src/torch/errors';
import { clusters, cyclicLabels, device, randomFeatures } from './support';

describe('linearProbe', () => {
  const classes = 4;
  const make = (spread: number) => ({
    trainFeatures: clusters(1200, 8, classes, spread, 1),
    trainLabels: cyclicLabels(1200, classes),
    testFeatures: clusters(400, 8, classes, spread, 2),
    testLabels: cyclicLabels(400, classes),
    classes,
  });

  it('separates what a line can separate', () => {
    assert.equal(linearProbe(make(0.1)).accuracy, 1);
  });

  it('is at chance where there is nothing to learn', () => {
    const { accuracy } = linearProbe({ ...make(1), trainFeatures: randomFeatures(1200, 8, 5) });
    assert.ok(accuracy > 0.05 && accuracy < 0.5, String(accuracy));
  });

  it('comes close to the best linear rule for normal clusters', () => {
    const data = make(1.2);
    const { accuracy } = linearProbe({ ...data, epochs: 30, batchSize: 100 });
    // For clusters of equal spread the best rule is the nearest centre, which is linear; the centres are known here.
    const centres = randomFeatures(classes, 8, 77);
    const nearest = torch
      .cdist(data.testFeatures, centres)
      .argmin(1)
      .eq(data.testLabels)
      .to('float32')
      .mean()
      .itemSync();
    assert.ok(nearest < 1);
    assert.ok(Math.abs(accuracy - nearest) < 0.04, `${accuracy} against ${nearest}`);
  });

  it('does not depend on the features being shifted, scaled or constant', () => {
    const data = make(0.8);
    const { accuracy } = linearProbe(data);
    const change = (features: typeof data.trainFeatures) =>
      torch.cat([features.mul(1000).add(500), torch.full([features.shape[0], 1], 3, { device })], 1);
    const changed = linearProbe({
      ...data,
      trainFeatures: change(data.trainFeatures),
      testFeatures: change(data.testFeatures),
    });
    assert.ok(Math.abs(changed.accuracy - accuracy) <= 0.01);
    const constant = torch.ones([1200, 8], { device });
    const flat = linearProbe({ ...data, trainFeatures: constant, testFeatures: constant.narrow(0, 0, 400) });
    assert.equal(flat.accuracy, 0.25);
  });

  it('gives the same for the same seed, also under noGrad, and leaves the default generator alone', () => {
    const data = make(1.2);
    const state = defaultGenerator().getState();
    const first = linearProbe(data);
    assert.ok(first.predictions.equal(linearProbe(data).predictions));
    assert.ok(first.predictions.equal(noGrad(() => linearProbe(data)).predictions));
    assert.ok(state.equal(defaultGenerator().getState()));
  });

  it('frees all but the predictions', () => {
    const data = make(1);
    const before = memory().liveTensors;
    linearProbe({ ...data, epochs: 1 });
    assert.equal(memory().liveTensors, before + 1);
  });

  it('rejects what does not fit', () => {
    const data = make(1);
    const rejects = (options: Partial<Parameters<typeof linearProbe>[0]>, part: string) =>
      assert.throws(
        () => linearProbe({ ...data, ...options }),
        (error) => error instanceof InvalidArgumentError && error.message.includes(part),
      );
    rejects({ epochs: 0 }, 'epochs');
    rejects({ batchSize: 1.5 }, 'batchSize');
    rejects({ learningRate: 0 }, 'learningRate');
    rejects({ weightDecay: -1 }, 'weightDecay');
    rejects({ classes: 2 }, 'from 0 to 3');
    rejects({ testFeatures: randomFeatures(400, 7) }, '[N, 8]');
  });
});
