import { InvalidArgumentError } from '../torch/errors';

/** A value among the facts of a run. Numbers are shown with thousands separators and four significant digits. */
export type ReportFact = string | number | boolean | null;

/**
 * What is known of the run, in the order in which it is shown. Single values stand below the title; groups (options,
 * versions, …) become lists at the end of the page.
 */
export type ReportFacts = Readonly<Record<string, ReportFact | Readonly<Record<string, ReportFact>>>>;

/** One more curve beside the named ones, for example how full the queue is. */
export interface ReportSeries {
  /** What is measured; the title of the chart. */
  name: string;
  /** The unit of the values, when they have one. */
  unit?: string;
  /** One value a step; a value that is not finite leaves a gap. */
  values: ArrayLike<number>;
}

/**
 * The course of training. Each series has as many values as `step`; a value that is not finite leaves a gap. Where a
 * step occurs twice, as after a resume, the later entry counts.
 */
export interface ReportCurves {
  /** Number of optimiser steps done when the values of the same index were measured. */
  step: ArrayLike<number>;
  /** The contrastive loss, in nats. */
  loss?: ArrayLike<number>;
  /** The learning rate of the first parameter group. */
  learningRate?: ArrayLike<number>;
  /** Mean cosine similarity of a query and its positive key, -1 … 1. */
  positiveSimilarity?: ArrayLike<number>;
  /** Mean cosine similarity of a query and its negatives, -1 … 1. */
  negativeSimilarity?: ArrayLike<number>;
  /** Training speed. */
  imagesPerSecond?: ArrayLike<number>;
  /** Any other series, one chart each. */
  other?: readonly ReportSeries[];
}

/** Counts of values in bins; bin `i` holds the values in `[edges[i], edges[i + 1])`. */
export interface Histogram {
  /** Ascending bin borders; one more than there are counts. */
  edges: ArrayLike<number>;
  /** Number of values in each bin, ≥ 0. */
  counts: ArrayLike<number>;
}

/** How similar queries are to their positive keys and to their negatives, as cosine similarities. */
export interface ReportHistograms {
  positive: Histogram;
  negative: Histogram;
}

/** Points in the plane with a class each, for example from {@link projectTwoDimensional}. */
export interface Projection {
  points: readonly (readonly [x: number, y: number])[];
  /** Class index of each point. */
  labels: ArrayLike<number>;
}

/** A value of the untrained encoder beside that of the trained one; either may be missing. */
export interface BeforeAfter<T> {
  before?: T;
  after?: T;
}

/** One row of the result table. Accuracies are fractions from 0 to 1; null is shown as a dash. */
export interface ReportTableRow {
  name: string;
  /** Accuracy of the weighted k-nearest-neighbour classifier. */
  knn?: number | null;
  /** Accuracy of the linear probe. */
  linearProbe?: number | null;
}

/** An image with 8 bits a channel, rows from top to bottom, the channels of a pixel beside each other. */
export interface ReportImage {
  width: number;
  height: number;
  /** 1 is grey, 3 is RGB, 4 is RGBA. */
  channels: 1 | 3 | 4;
  /** `width * height * channels` values. */
  pixels: Uint8Array | Uint8ClampedArray;
}

/** A test image and the training images that the encoder finds most similar to it, best first. */
export interface ReportNeighbours {
  query: ReportImage;
  /** Class index of the query. */
  label: number;
  neighbours: readonly {
    image: ReportImage;
    /** Class index of the neighbour. */
    label: number;
    /** Cosine similarity to the query, -1 … 1. */
    similarity: number;
  }[];
}

/** All that a report shows. Only the title is required; what is missing or empty is left out of the page. */
export interface ReportData {
  title: string;
  /** One sentence below the title. */
  subtitle?: string;
  facts?: ReportFacts;
  /** The first row is the baseline to which the others are compared. */
  table?: readonly ReportTableRow[];
  curves?: ReportCurves;
  histograms?: BeforeAfter<ReportHistograms>;
  projection?: BeforeAfter<Projection>;
  neighbours?: readonly ReportNeighbours[];
  /** The name of each class index; a class without a name is shown by its number. */
  classNames?: readonly string[];
}

/**
 * Checks that the parts of a report fit together, before anything is drawn or written.
 *
 * @throws InvalidArgumentError that names the part by its path in the data, such as `curves.loss`.
 */
export function checkReportData(data: ReportData): void {
  if (typeof data.title !== 'string' || data.title.trim() === '') {
    throw new InvalidArgumentError('A report needs a title: give title a text that is not empty.');
  }
  if (data.curves) checkCurves(data.curves);
  for (const moment of ['before', 'after'] as const) {
    const histograms = data.histograms?.[moment];
    if (histograms) {
      checkHistogram(`histograms.${moment}.positive`, histograms.positive);
      checkHistogram(`histograms.${moment}.negative`, histograms.negative);
    }
    const projection = data.projection?.[moment];
    if (projection) checkProjection(`projection.${moment}`, projection);
  }
  data.table?.forEach((row, index) => {
    checkAccuracy(`table[${index}].knn`, row.knn);
    checkAccuracy(`table[${index}].linearProbe`, row.linearProbe);
  });
  data.neighbours?.forEach((entry, index) => {
    checkImage(`neighbours[${index}].query`, entry.query);
    checkLabel(`neighbours[${index}].label`, entry.label);
    entry.neighbours.forEach((neighbour, rank) => {
      checkImage(`neighbours[${index}].neighbours[${rank}].image`, neighbour.image);
      checkLabel(`neighbours[${index}].neighbours[${rank}].label`, neighbour.label);
    });
  });
}

function checkCurves(curves: ReportCurves): void {
  const count = curves.step.length;
  const check = (name: string, values: ArrayLike<number> | undefined): void => {
    if (values && values.length !== count) {
      throw new InvalidArgumentError(
        `curves.${name} has ${values.length} values but curves.step has ${count}: give one value a step ` +
          '(NaN where none was measured).',
      );
    }
  };
  check('loss', curves.loss);
  check('learningRate', curves.learningRate);
  check('positiveSimilarity', curves.positiveSimilarity);
  check('negativeSimilarity', curves.negativeSimilarity);
  check('imagesPerSecond', curves.imagesPerSecond);
  curves.other?.forEach((series, index) => check(`other[${index}].values`, series.values));
  for (let index = 0; index < count; index++) {
    if (!Number.isFinite(curves.step[index])) {
      throw new InvalidArgumentError(
        `curves.step[${index}] is ${curves.step[index]}: every step must be a finite number.`,
      );
    }
  }
}

function checkHistogram(name: string, { edges, counts }: Histogram): void {
  if (edges.length !== counts.length + 1 && counts.length > 0) {
    throw new InvalidArgumentError(
      `${name} has ${counts.length} counts and ${edges.length} edges: there must be one edge more than counts.`,
    );
  }
  for (let index = 0; index < counts.length; index++) {
    if (!Number.isFinite(edges[index]) || !(edges[index]! < edges[index + 1]!)) {
      throw new InvalidArgumentError(`${name}.edges must be finite and ascending; they are not at index ${index}.`);
    }
    if (!Number.isFinite(counts[index]) || counts[index]! < 0) {
      throw new InvalidArgumentError(
        `${name}.counts[${index}] is ${counts[index]}: a count is a number of at least 0.`,
      );
    }
  }
}

function checkProjection(name: string, { points, labels }: Projection): void {
  if (points.length !== labels.length) {
    throw new InvalidArgumentError(
      `${name} has ${points.length} points and ${labels.length} labels: give each point one.`,
    );
  }
  points.forEach(([x, y], index) => {
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      throw new InvalidArgumentError(`${name}.points[${index}] is (${x}, ${y}): coordinates must be finite.`);
    }
    checkLabel(`${name}.labels[${index}]`, labels[index]!);
  });
}

function checkAccuracy(name: string, value: number | null | undefined): void {
  if (value !== null && value !== undefined && !(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError(`${name} is ${value}: an accuracy is a fraction from 0 to 1.`);
  }
}

function checkLabel(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 0) {
    throw new InvalidArgumentError(`${name} is ${value}: a label is a class index, 0 or above.`);
  }
}

function checkImage(name: string, { width, height, channels, pixels }: ReportImage): void {
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new InvalidArgumentError(
      `${name} is ${width} by ${height} pixels: both sides must be whole numbers of at least 1.`,
    );
  }
  if (![1, 3, 4].includes(channels)) {
    throw new InvalidArgumentError(`${name} has ${channels} channels: give 1 (grey), 3 (RGB) or 4 (RGBA).`);
  }
  if (pixels.length !== width * height * channels) {
    throw new InvalidArgumentError(
      `${name} has ${pixels.length} values, but ${width} by ${height} pixels with ${channels} channels ` +
        `need ${width * height * channels}.`,
    );
  }
}
