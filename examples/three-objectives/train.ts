/** One encoder, three objectives, the same start: `npx jiti examples/three-objectives/train.ts`. See README.md beside this file. */
import { dcl, ntXent, supCon } from 'kontrast/contrast';
import * as data from 'kontrast/data';
import { extractFeatures, knnClassify, rawPixels } from 'kontrast/evaluate';
import { ProjectionHead, ResidualEncoder } from 'kontrast/models';
import { AdamW } from 'kontrast/optim';
import { Generator, scope, torch, type Tensor } from 'kontrast/torch';

/** Takes two views of a batch, [N, D] each, and its labels, int64 [N]. */
type Objective = (views: [Tensor, Tensor], labels: Tensor) => Tensor;

// One line each. Nothing below knows which one is trained.
const objectives: Record<string, Objective> = {
  'NT-Xent': (views) => ntXent(views, { temperature: 0.1 }),
  DCL: (views) => dcl(views, { temperature: 0.1 }),
  'SupCon, which sees labels': (views, labels) => supCon(torch.cat(views), labels.repeat([2]), { temperature: 0.1 }),
};

const [steps = 100, images = 10_000] = process.argv.slice(2).map(Number);
const train = data.loadFashionMnist({ split: 'train' }).subset(images);
const test = data.loadFashionMnist({ split: 'test' }).subset(Math.min(images, 2000));

const normalize = new data.Normalize({ mean: 0.286, std: 0.353 });
const twoViews = new data.TwoViews({
  augmentation: new data.Compose({
    augmentations: [
      new data.RandomResizedCrop({ scale: [0.35, 1], flipProbability: 0.5 }),
      new data.BrightnessContrast({ brightness: 0.8, contrast: 0.8 }),
      normalize,
    ],
  }),
});

/** Every objective meets the same starting weights, batches and views. */
function trainEncoder(objective: Objective | null): ResidualEncoder {
  const random = new Generator({ seed: 1 });
  const encoder = new ResidualEncoder({
    inChannels: 1,
    widths: [16, 32, 64],
    stemStride: 2,
    poolSize: 2,
    generator: random,
  });
  if (objective === null) return encoder;
  const head = new ProjectionHead({ inputSize: encoder.outputSize, outputSize: 64, generator: random });
  const optimizer = new AdamW([...encoder.parameters(), ...head.parameters()], { lr: 3e-3 });
  const loader = new data.DataLoader({ set: train, batchSize: Math.min(128, images), dropLast: true, seed: 1 });
  for (let step = 0; step < steps; step++) {
    scope(() => {
      const batch = loader.next();
      const both = torch.cat(twoViews.pair(data.toFloat(batch.images), random));
      const [first, second] = head.forward(encoder.forward(both)).chunk(2) as [Tensor, Tensor];
      objective([first, second], batch.labels).backward();
      optimizer.step();
      optimizer.zeroGrad();
    });
  }
  return encoder;
}

/** The share of test images that their 20 nearest training images classify rightly. */
function accuracy(featuresOf: (set: data.ImageSet) => Tensor): string {
  const result = knnClassify({
    trainFeatures: featuresOf(train),
    trainLabels: train.labels,
    testFeatures: featuresOf(test),
    testLabels: test.labels,
    classes: train.classNames.length,
  });
  return `${(100 * result.accuracy).toFixed(2)} %`;
}

const prepare = (batch: Tensor): Tensor => normalize.apply(data.toFloat(batch), new Generator({ seed: 1 }));

function accuracyOf(module: ResidualEncoder): string {
  return accuracy((set) => extractFeatures({ module, images: set, transform: prepare }));
}

const report = (name: string, value: string): void => {
  console.log(name.padEnd(26), value);
};
report('raw pixels', accuracy(rawPixels));
report('untrained encoder', accuracyOf(trainEncoder(null)));
for (const [name, objective] of Object.entries(objectives)) report(name, accuracyOf(trainEncoder(objective)));
