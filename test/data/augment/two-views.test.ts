import * as assert from 'node:assert/strict';
import { GaussianNoise } from '../../../src/data/augment/gaussian-noise';
import { Normalize } from '../../../src/data/augment/normalize';
import { TwoViews } from '../../../src/data/augment/two-views';
import { Generator, memory, torch } from '../../../src/torch';
import { apply, randomImages } from './support';

describe('TwoViews', () => {
  it('stacks two views of each image, rows i and N + i', () => {
    const images = randomImages(3, 1, 4, 4);
    const views = apply(new TwoViews({ augmentation: new Normalize({ mean: 0, std: 1 }) }), images);
    assert.ok(views.equal(torch.cat([images, images], 0)));
  });

  it('draws parameters of its own for each view', () => {
    const images = randomImages(3, 1, 4, 4);
    const twoViews = new TwoViews({ augmentation: new GaussianNoise({ sigma: [0.1, 0.1] }) });
    const views = apply(twoViews, images);
    assert.ok(!views.narrow(0, 0, 3).equal(views.narrow(0, 3, 3)));
    assert.ok(views.equal(apply(new GaussianNoise({ sigma: [0.1, 0.1] }), torch.cat([images, images], 0))));
  });

  it('gives the views as a pair', () => {
    const images = randomImages(3, 1, 4, 4);
    const twoViews = new TwoViews({ augmentation: new GaussianNoise() });
    const before = memory().liveTensors;
    const pair = twoViews.pair(images, new Generator({ seed: 1 }));
    assert.equal(memory().liveTensors, before + 2);
    assert.ok(torch.cat(pair, 0).equal(apply(twoViews, images)));
  });
});
