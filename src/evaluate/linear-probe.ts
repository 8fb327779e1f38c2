import { enableGrad, Generator, noGrad, scope, torch, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { Linear } from '../nn';
import { AdamW } from '../optim';
import { checkLabelled } from './checks';
import { classification, type Classification } from './knn';

/** What {@link linearProbe} takes. */
export interface LinearProbeOptions {
  /** Features of the training images: floating point [M, D]. */
  trainFeatures: Tensor;
  /** Their labels: int64 [M], from 0 to `classes` − 1. */
  trainLabels: Tensor;
  /** Features of what is classified: [N, D]. */
  testFeatures: Tensor;
  /** The right labels: int64 [N]. */
  testLabels: Tensor;
  /** The number of classes. */
  classes: number;
  /** Passes over the training features. Default: 10, or as many as make 300 steps if that is more. */
  epochs?: number;
  /** Rows a step. Default: 500. */
  batchSize?: number;
  /** The learning rate of the first step; it falls to 0 as a half cosine. Default: 0.01. */
  learningRate?: number;
  /** AdamW's decoupled weight decay. Default: 1e-4. */
  weightDecay?: number;
  /** Decides the order of the rows. Default: 0. */
  seed?: number;
}

/**
 * Multinomial logistic regression on frozen features: how much of the classes can be read off by one linear layer.
 *
 * The features are standardised by the training features' mean and standard deviation (at least a hundredth of the largest, so that a
 * dimension that hardly varies is not blown up). The layer starts at 0 and is trained by AdamW on the cross-entropy of shuffled
 * batches. The same seed gives the same result on the same machine.
 *
 * @throws InvalidArgumentError for shapes, dtypes, devices or labels that do not fit, or settings out of range
 */
export function linearProbe(options: LinearProbeOptions): Classification {
  const { trainFeatures, trainLabels, testFeatures, testLabels, classes } = options;
  const { batchSize = 500, learningRate = 0.01, weightDecay = 1e-4, seed = 0 } = options;
  const { epochs = Math.max(10, Math.ceil(300 / Math.ceil(trainFeatures.shape[0] / batchSize))) } = options;
  checkLabelled('train', trainFeatures, trainLabels, classes);
  checkLabelled('test', testFeatures, testLabels, classes, trainFeatures);
  for (const [name, value] of Object.entries({ epochs, batchSize })) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new InvalidArgumentError(`${name} must be a positive integer, not ${value}.`);
  }
  if (!(learningRate > 0 && learningRate < Infinity)) {
    throw new InvalidArgumentError(`learningRate must be above 0, not ${learningRate}.`);
  }
  return scope(() => {
    const [train, test] = standardise(trainFeatures, testFeatures);
    const [count, dimension] = train.shape;
    const device = train.device;
    const generator = new Generator({ seed });
    // The layer starts at 0 all the same; a generator for what it draws first leaves the default one, and so the caller's run, alone.
    const layer = new Linear({
      inFeatures: dimension,
      outFeatures: classes,
      dtype: train.dtype,
      generator: new Generator(),
    }).to(device);
    noGrad(() => layer.parameters().forEach((parameter) => parameter.zero_()));
    const optimizer = new AdamW(layer.parameters(), { lr: learningRate, weightDecay });
    try {
      const steps = epochs * Math.ceil(count / batchSize);
      let step = 0;
      for (let epoch = 0; epoch < epochs; epoch++) {
        scope(() => {
          const order = torch.randperm(count, { generator }).to(device);
          for (let start = 0; start < count; start += batchSize) {
            optimizer.groups[0].lr = (learningRate / 2) * (1 + Math.cos((Math.PI * step++) / steps));
            enableGrad(() =>
              scope(() => {
                const rows = order.narrow(0, start, Math.min(batchSize, count - start));
                const logits = layer.forward(train.indexSelect(0, rows));
                torch.crossEntropyLoss(logits, trainLabels.indexSelect(0, rows)).backward();
                optimizer.step();
                optimizer.zeroGrad();
              }),
            );
          }
        });
      }
      return noGrad(() => classification(layer.forward(test).argmax(1), testLabels, classes));
    } finally {
      optimizer.dispose();
      layer.dispose();
    }
  });
}

/** Both in float32 at least, by the statistics of the first. */
function standardise(train: Tensor, test: Tensor): [Tensor, Tensor] {
  return noGrad(() =>
    scope((): [Tensor, Tensor] => {
      const [wideTrain, wideTest] = [train, test].map((x) => x.to(x.dtype === 'float64' ? 'float64' : 'float32'));
      const mean = wideTrain.mean([0]);
      const deviation = wideTrain.std([0], { correction: 0 });
      // Features that are all constant have no scale; dividing by 1 leaves them at 0.
      const scale = deviation.max().mul_(0.01);
      const divisor = torch.where(scale.eq(0), torch.onesLike(deviation), deviation.maximum(scale));
      return [wideTrain.sub(mean).div_(divisor), wideTest.sub(mean).div_(divisor)];
    }),
  );
}
