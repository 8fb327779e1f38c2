import * as assert from 'node:assert/strict';
import { ImageSet } from '../../src/data/image-set';
import { extractFeatures, rawPixels } from '../../src/evaluate/features';
import { Dropout, Flatten, Linear, Sequential } from '../../src/nn';
import { isGradEnabled, memory, scope, torch, type Tensor } from '../../src/torch';
import { InvalidArgumentError } from '../../src/torch/errors';
import { cyclicLabels, device } from './support';

const count = 11;
const images = torch
  .arange(count * 12)
  .remainder(256)
  .to('uint8')
  .view([count, 1, 3, 4])
  .to(device);
const set = new ImageSet({ images, labels: cyclicLabels(count, 2), classNames: ['a', 'b'] });

describe('extractFeatures', () => {
  const module = () =>
    new Sequential(new Flatten(), new Dropout({ p: 0.5 }), new Linear({ inFeatures: 12, outFeatures: 5 })).to(device);
  const linearOf = (net: ReturnType<typeof module>) =>
    [...net.modules()].find((part) => part instanceof Linear) as Linear;

  it('gives the features of all images, whatever the batch size', () => {
    const net = module();
    const expected = linearOf(net).forward(images.to('float32').div(255).flatten(1)).detach();
    for (const batchSize of [1, 4, 11, 1000]) {
      const features = extractFeatures({ module: net, images: batchSize === 4 ? set : images, batchSize });
      assert.deepEqual([features.shape, features.dtype, features.requiresGrad], [[count, 5], 'float32', false]);
      assert.ok(features.allclose(expected, 1e-5, 1e-6));
    }
  });

  it('runs in evaluation mode without gradients, and puts every part back into its mode', () => {
    const net = module();
    const [, dropout, linear] = net.modules().slice(-3);
    net.train();
    linear.training = false;
    const seen: boolean[] = [];
    const transform = (batch: Tensor) => {
      seen.push(dropout.training, isGradEnabled());
      return batch.to('float32');
    };
    extractFeatures({ module: net, images, transform });
    assert.deepEqual(seen, [false, false]);
    assert.deepEqual([net.training, dropout.training, linear.training, isGradEnabled()], [true, true, false, true]);
    const fails = () => {
      throw new Error('no');
    };
    assert.throws(() => extractFeatures({ module: net, images, transform: fails }), /^Error: no$/);
    assert.deepEqual([net.training, dropout.training, linear.training], [true, true, false]);
  });

  it('keeps the result and frees the rest', () => {
    const net = module();
    const before = memory().liveTensors;
    const features = scope(() => {
      const kept = extractFeatures({ module: net, images, batchSize: 3 });
      return { read: () => kept };
    }).read();
    assert.equal(memory().liveTensors, before + 1);
    assert.equal(features.shape[0], count);
    features.dispose();
  });

  it('reports progress, and computes in lower precision on request', () => {
    const net = module();
    const progress: number[][] = [];
    const exact = extractFeatures({ module: net, images, batchSize: 4, onProgress: (...args) => progress.push(args) });
    assert.deepEqual(progress, [
      [4, 11],
      [8, 11],
      [11, 11],
    ]);
    const coarse = extractFeatures({ module: net, images, autocast: 'bfloat16' });
    assert.equal(coarse.dtype, 'float32');
    assert.ok(!coarse.equal(exact));
    assert.ok(coarse.allclose(exact, 0.05, 0.02));
  });

  it('rejects no images, bad batch sizes and modules that do not give rows', () => {
    const net = module();
    const rejects = (options: Partial<Parameters<typeof extractFeatures>[0]>, part: string) =>
      assert.throws(
        () => extractFeatures({ module: net, images, ...options }),
        (error) => error instanceof InvalidArgumentError && error.message.includes(part),
      );
    rejects({ images: images.narrow(0, 0, 0) }, 'no images');
    rejects({ batchSize: 0 }, 'batch size');
    rejects({ module: new Sequential(new Flatten({ startDim: 2 })) }, '[11, D] for 11 images');
  });
});

describe('rawPixels', () => {
  it('are the bytes divided by 255, a row an image', () => {
    const pixels = rawPixels(set);
    assert.deepEqual(pixels.shape, [count, 12]);
    assert.ok(pixels.equal(images.to('float32').div(255).flatten(1)));
    assert.ok(rawPixels(images).equal(pixels));
    const transform = (bytes: Tensor) => bytes.to('float64').sub(3);
    assert.ok(rawPixels(set, transform).equal(images.to('float32').sub(3).flatten(1)));
  });
});
