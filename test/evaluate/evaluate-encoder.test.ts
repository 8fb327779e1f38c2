import * as assert from 'node:assert/strict';
import { Compose, GaussianNoise, ImageSet } from '../../src/data';
import { evaluateEncoder, evaluationJson } from '../../src/evaluate';
import { Flatten, Linear, Sequential, type Module } from '../../src/nn';
import { defaultGenerator, Generator, memory, noGrad, torch } from '../../src/torch';
import { InvalidArgumentError } from '../../src/torch/errors';
import { cyclicLabels, device } from './support';

const classNames = ['left', 'middle', 'right'];

/** Noisy images of 3 × 3 pixels, brighter in the column that the label says. */
function stripes(count: number, seed: number): ImageSet {
  const labels = cyclicLabels(count, 3);
  const noise = torch
    .rand([count, 1, 3, 3], { generator: new Generator({ seed }) })
    .to(device)
    .mul(150);
  const bright = torch.eye(3, { device }).indexSelect(0, labels).view([count, 1, 1, 3]).mul(60);
  return new ImageSet({ name: 'stripes', images: noise.add(bright).to('uint8'), labels, classNames });
}

/** The sums of the columns (informative), or the first two pixels of the first row times 0.1. */
function encoder(useful: boolean): Module {
  const linear = new Linear({ inFeatures: 9, outFeatures: 3 });
  const weights = useful ? torch.eye(3).repeat([1, 3]) : torch.eye(3, 9).mul(torch.tensor([[1], [0.001], [0.001]]));
  noGrad(() => {
    linear.weight.copy_(weights);
    linear.bias!.zero_();
  });
  return new Sequential(new Flatten(), linear).to(device);
}

describe('evaluateEncoder', () => {
  const train = stripes(300, 1);
  const test = stripes(90, 2);
  const normalize = (images: ReturnType<typeof torch.zeros>) => images.sub(0.4);

  it('measures pixels, the untrained and the trained encoder', async () => {
    const stages: string[] = [];
    const options = {
      encoder: encoder(true),
      untrained: encoder(false),
      train,
      test,
      normalize,
      augmentation: new Compose({ augmentations: [new GaussianNoise({ sigma: [0.05, 0.05] })] }),
      k: 5,
      pairs: 30,
      queriesPerClass: 2,
      neighbors: 4,
      onStage: (stage: string) => stages.push(stage),
    };
    const state = defaultGenerator().getState();
    const result = await evaluateEncoder(options);
    assert.deepEqual(
      result.rows.map(({ name, dimension }) => [name, dimension]),
      [
        ['raw pixels', 9],
        ['untrained encoder', 3],
        ['trained encoder', 3],
      ],
    );
    const [, untrained, trained] = result.rows;
    assert.ok(trained.knn > untrained.knn + 0.1, `${trained.knn} ${untrained.knn}`);
    assert.ok(trained.linearProbe! > untrained.linearProbe! + 0.1, `${trained.linearProbe} ${untrained.linearProbe}`);
    assert.ok(Math.abs(trained.knnByClass.reduce((sum, share) => sum + share, 0) / 3 - trained.knn) < 1e-9);
    assert.deepEqual(result.settings, { k: 5, temperature: 0.07, seed: 0, trainImages: 300, testImages: 90 });

    const { similarities, untrainedSimilarities, retrievals } = result;
    assert.equal(similarities!.images, 30);
    assert.equal(
      similarities!.positives.reduce((sum, number) => sum + number, 0),
      30,
    );
    assert.equal(
      similarities!.negatives.reduce((sum, number) => sum + number, 0),
      30 * 29,
    );
    assert.ok(similarities!.meanPositive > similarities!.meanNegative + 0.2);
    assert.ok(similarities!.alignment > 0 && similarities!.alignment < 1);
    assert.ok(similarities!.uniformity < 0);
    assert.equal(untrainedSimilarities!.images, 30);
    assert.ok(untrainedSimilarities!.meanPositive !== similarities!.meanPositive);
    assert.deepEqual(
      retrievals.map(({ index, label }) => [index, label]),
      [0, 3, 1, 4, 2, 5].map((row) => [row, row % 3]),
    );
    for (const { neighbors } of retrievals) assert.equal(neighbors.length, 4);
    assert.deepEqual(result.testFeatures.shape, [90, 3]);
    assert.deepEqual(stages, [
      'raw pixels: kNN',
      'raw pixels: linear probe',
      'untrained encoder: features',
      'untrained encoder: kNN',
      'untrained encoder: linear probe',
      'untrained encoder: similarities',
      'trained encoder: features',
      'trained encoder: kNN',
      'trained encoder: linear probe',
      'trained encoder: similarities',
      'trained encoder: nearest neighbours',
    ]);

    const again = await evaluateEncoder(options);
    assert.deepEqual(evaluationJson(again), evaluationJson(result));
    assert.deepEqual(JSON.parse(JSON.stringify(evaluationJson(result))), evaluationJson(result));
    assert.ok(state.equal(defaultGenerator().getState()), 'the default generator has moved');
  });

  it('leaves out what is not asked for', async () => {
    const { rows, similarities, untrainedSimilarities } = await evaluateEncoder({
      encoder: encoder(true),
      train,
      test,
      pixels: false,
      probe: false,
    });
    assert.deepEqual(
      rows.map(({ name, linearProbe }) => [name, linearProbe]),
      [['trained encoder', null]],
    );
    assert.deepEqual([similarities, untrainedSimilarities], [null, null]);
  });

  it('leaves only the test features behind', async () => {
    const options = {
      encoder: encoder(true),
      untrained: encoder(false),
      train,
      test,
      augmentation: new GaussianNoise(),
      pairs: 10,
    };
    (await evaluateEncoder(options)).testFeatures.dispose();
    global.gc?.();
    const before = memory().liveTensors;
    const { testFeatures } = await evaluateEncoder(options);
    assert.ok(memory().liveTensors <= before + 1, `${memory().liveTensors - before} tensors are left`);
    testFeatures.dispose();
  });

  it('rejects sets of different classes, and more pairs than images', async () => {
    const other = new ImageSet({
      images: test.images.clone(),
      labels: test.labels.clone(),
      classNames: ['a', 'b', 'c'],
    });
    await assert.rejects(evaluateEncoder({ encoder: encoder(true), train, test: other }), InvalidArgumentError);
    const augmentation = new GaussianNoise();
    for (const pairs of [91, 1, 2.5]) {
      await assert.rejects(evaluateEncoder({ encoder: encoder(true), train, test, augmentation, pairs }), /pairs/);
    }
  });
});
