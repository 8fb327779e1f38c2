import { setImmediate } from 'node:timers/promises';
import { dispose, Generator, keep, noGrad, scope, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import type { Augmentation, ImageSet } from '../data';
import { toFloat } from '../data/augment/to-float';
import type { Module } from '../nn';
import { extractFeatures, rawPixels } from './features';
import { knnClassify } from './knn';
import { linearProbe } from './linear-probe';
import {
  alignment,
  retrieve,
  similarityHistograms,
  uniformity,
  type Retrieval,
  type SimilarityHistograms,
} from './similarity';

/** What {@link evaluateEncoder} takes. */
export interface EvaluateEncoderOptions {
  /** The trained encoder: images to features [N, D]. */
  encoder: Module;
  /** The same architecture as it was before training, for comparison. Default: left out. */
  untrained?: Module;
  /** Labelled images that the classifiers learn from. */
  train: ImageSet;
  /** Labelled images that they are tested on. */
  test: ImageSet;
  /** Makes floating-point images in [0, 1] of the encoder's input, e.g. `(x) => normalize.apply(x, generator)`. Default: nothing. */
  normalize?: (images: Tensor) => Tensor;
  /** Makes the views for the similarities of positive and negative pairs. Default: no such figures. */
  augmentation?: Augmentation;
  /** Whether raw pixels (as the encoders get them, so normalised) get a row. Default: true. */
  pixels?: boolean;
  /** Whether the linear probe is trained. Default: true. */
  probe?: boolean;
  /** Neighbours of the kNN classifier. Default: 20. */
  k?: number;
  /** Temperature of the kNN classifier's votes. Default: 0.07. */
  temperature?: number;
  /** How many test images make views. Default: 2000, or all if there are fewer. */
  pairs?: number;
  /** How many test images of each class get neighbours. Default: 1. */
  queriesPerClass?: number;
  /** How many neighbours those get. Default: 8. */
  neighbors?: number;
  /** Runs the encoders under autocast in this type. Default: no autocast. */
  autocast?: 'bfloat16' | 'float16';
  /** Images a batch. Default: 1000. */
  batchSize?: number;
  /** Decides the views and the probe's order of rows. Default: 0. */
  seed?: number;
  /** Called before each step with what is done next, e.g. `trained encoder: features`. */
  onStage?: (stage: string) => void;
}

/** How well the classes can be told by one kind of features. */
export interface EvaluationRow {
  /** `raw pixels`, `untrained encoder` or `trained encoder`. */
  name: string;
  /** Features an image. */
  dimension: number;
  /** Accuracy of the weighted kNN classifier, 0 to 1. */
  knn: number;
  /** The same for each class. */
  knnByClass: number[];
  /** Accuracy of the linear probe, 0 to 1; null when it was not asked for. */
  linearProbe: number | null;
}

/** How an encoder's features of views lie. */
export interface ViewSimilarities extends SimilarityHistograms {
  /** How many images had two views. */
  images: number;
  /** See {@link alignment}. */
  alignment: number;
  /** See {@link uniformity}; of the test images as they are. */
  uniformity: number;
}

/** What {@link evaluateEncoder} found out. All but the tensor is plain JSON. */
export interface Evaluation {
  rows: EvaluationRow[];
  classNames: string[];
  settings: { k: number; temperature: number; seed: number; trainImages: number; testImages: number };
  /** By the trained encoder; null without an augmentation. */
  similarities: ViewSimilarities | null;
  /** By the untrained encoder, on the same views; null without it or an augmentation. */
  untrainedSimilarities: ViewSimilarities | null;
  /** Test images and their nearest training images by the trained encoder. */
  retrievals: Retrieval[];
  /** The trained encoder's features of the test images, float32 [N, D]; kept, for projections. */
  testFeatures: Tensor;
}

/**
 * Measures what an encoder's features are worth: the accuracy of a weighted kNN classifier and of a linear probe, beside raw pixels and
 * the untrained encoder; how similar two views of an image are, and views of different images; the nearest neighbours of a few
 * images.
 *
 * The event loop gets its turn between the steps; each of them blocks it for up to a few seconds.
 *
 * @throws InvalidArgumentError when the sets do not fit together or a setting is out of range
 */
export async function evaluateEncoder(options: EvaluateEncoderOptions): Promise<Evaluation> {
  const { encoder, untrained, train, test, normalize, augmentation, batchSize, autocast } = options;
  const {
    pixels = true,
    probe = true,
    k = 20,
    temperature = 0.07,
    neighbors = 8,
    queriesPerClass = 1,
    seed = 0,
  } = options;
  const { pairs = Math.min(2000, test.size), onStage = () => undefined } = options;
  const classes = train.classNames.length;
  if (train.classNames.join('\n') !== test.classNames.join('\n')) {
    throw new InvalidArgumentError(`"${train.name}" and "${test.name}" have different classes.`);
  }
  if (augmentation && !(Number.isSafeInteger(pairs) && pairs >= 2 && pairs <= test.size)) {
    throw new InvalidArgumentError(`pairs must be an integer from 2 to ${test.size}, not ${pairs}.`);
  }
  const stage = async (name: string) => {
    onStage(name);
    await setImmediate();
  };
  const input = normalize ? (bytes: Tensor) => normalize(toFloat(bytes)) : toFloat;
  const featuresOf = (module: Module, images: ImageSet | Tensor, transform = input) =>
    extractFeatures({ module, images, transform, batchSize, autocast });

  const rows: EvaluationRow[] = [];
  const classify = async (name: string, trainFeatures: Tensor, testFeatures: Tensor) => {
    const device = trainFeatures.device;
    const data = {
      trainFeatures,
      testFeatures,
      trainLabels: keep(train.labels.to(device)),
      testLabels: keep(test.labels.to(device)),
      classes,
    };
    try {
      await stage(`${name}: kNN`);
      const knn = knnClassify({ ...data, k, temperature });
      dispose(knn.predictions);
      let linear: number | null = null;
      if (probe) {
        await stage(`${name}: linear probe`);
        const result = linearProbe({ ...data, seed });
        dispose(result.predictions);
        linear = result.accuracy;
      }
      rows.push({
        name,
        dimension: trainFeatures.shape[1],
        knn: knn.accuracy,
        knnByClass: knn.classAccuracy,
        linearProbe: linear,
      });
    } finally {
      dispose(data.trainLabels, data.testLabels);
    }
  };

  const viewSimilarities = async (name: string, module: Module, testFeatures: Tensor) => {
    if (!augmentation) return null;
    await stage(`${name}: similarities`);
    const generator = new Generator({ seed });
    const view = () => {
      const transform = (bytes: Tensor) => {
        const augmented = augmentation.apply(toFloat(bytes), generator);
        return normalize ? normalize(augmented) : augmented;
      };
      return featuresOf(module, test.images.narrow(0, 0, pairs), transform);
    };
    return scope((): ViewSimilarities => {
      const [first, second] = [view(), view()];
      const figures = {
        ...similarityHistograms(first, second),
        images: pairs,
        alignment: alignment(first, second),
        uniformity: uniformity(testFeatures),
      };
      dispose(first, second);
      return figures;
    });
  };

  if (pixels) {
    const [trainPixels, testPixels] = [rawPixels(train, input), rawPixels(test, input)];
    try {
      await classify('raw pixels', trainPixels, testPixels);
    } finally {
      dispose(trainPixels, testPixels);
    }
  }
  let untrainedSimilarities: ViewSimilarities | null = null;
  if (untrained) {
    await stage('untrained encoder: features');
    const trainFeatures = featuresOf(untrained, train);
    const testFeatures = featuresOf(untrained, test);
    try {
      await classify('untrained encoder', trainFeatures, testFeatures);
      untrainedSimilarities = await viewSimilarities('untrained encoder', untrained, testFeatures);
    } finally {
      dispose(trainFeatures, testFeatures);
    }
  }
  await stage('trained encoder: features');
  const trainFeatures = featuresOf(encoder, train);
  const testFeatures = featuresOf(encoder, test);
  try {
    await classify('trained encoder', trainFeatures, testFeatures);
    const similarities = await viewSimilarities('trained encoder', encoder, testFeatures);
    await stage('trained encoder: nearest neighbours');
    const retrievals = noGrad(() =>
      scope(() =>
        retrieve({
          queryFeatures: testFeatures,
          queryLabels: test.labels.to(testFeatures.device),
          rows: firstOfEachClass(test, queriesPerClass),
          candidateFeatures: trainFeatures,
          candidateLabels: train.labels.to(trainFeatures.device),
          k: neighbors,
        }),
      ),
    );
    return {
      rows,
      classNames: [...train.classNames],
      settings: { k, temperature, seed, trainImages: train.size, testImages: test.size },
      similarities,
      untrainedSimilarities,
      retrievals,
      testFeatures,
    };
  } catch (error) {
    dispose(testFeatures);
    throw error;
  } finally {
    dispose(trainFeatures);
  }
}

/** The first rows of each class, class by class. */
function firstOfEachClass(set: ImageSet, count: number): number[] {
  const found = set.classNames.map((): number[] => []);
  Array.from(set.labels.dataSync() as BigInt64Array, Number).forEach((label, row) => {
    if (found[label].length < count) found[label].push(row);
  });
  return found.flat();
}
