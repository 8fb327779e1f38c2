import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, type JsonObject } from '../../torch';
import { digest, Groups, integers, numbered, type Integers } from './groups';
import type { RandomSource } from './random-source';
import { EpochSampler, type SamplerOptions } from './sampler';

/** What {@link CategoryBalanceSampler} takes. */
export interface CategoryBalanceSamplerOptions extends SamplerOptions {
  /** The label of each row. */
  labels: Integers;
  /** The category of each row: all rows of a label have the same. */
  categories: Integers;
  /** Different categories a batch. */
  categoriesPerBatch: number;
  /** Labels of each category. */
  labelsPerCategory: number;
  /** Rows of each label. */
  samplesPerLabel: number;
  /** Whether a category is as likely as the number of its labels says; otherwise all are equally likely. Default: true. */
  weightCategories?: boolean;
  /** Whether a category of too few labels repeats them; otherwise it is refused. Default: false. */
  resampleLabels?: boolean;
  /** Batches an epoch. Default: ⌈labels / labelsPerCategory⌉. */
  batches?: number;
}

/**
 * Batches of whole categories (as in open-metric-learning): a few categories, of each a few labels, of each label a few rows, all drawn
 * anew for each batch. Negatives of the same category are the hard ones, and with a weight for each category no label is drawn more
 * often than another because its category is small. Differs from {@link HierarchicalSampler} in that categories are drawn, not gone
 * through set by set. A label of too few rows repeats them.
 */
export class CategoryBalanceSampler extends EpochSampler {
  readonly categoriesPerBatch: number;
  readonly labelsPerCategory: number;
  readonly samplesPerLabel: number;
  readonly weightCategories: boolean;
  readonly resampleLabels: boolean;
  readonly #batches: number;
  readonly #labels: Groups;
  readonly #rows: Groups;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: CategoryBalanceSamplerOptions) {
    const what = 'CategoryBalanceSampler';
    const labels = integers(options.labels, `${what}: labels`);
    const categories = integers(options.categories, `${what}: categories`, labels.length);
    super(labels.length, options);
    this.categoriesPerBatch = positiveInteger(options.categoriesPerBatch, `${what}: categoriesPerBatch`);
    this.labelsPerCategory = positiveInteger(options.labelsPerCategory, `${what}: labelsPerCategory`);
    this.samplesPerLabel = positiveInteger(options.samplesPerLabel, `${what}: samplesPerLabel`);
    this.weightCategories = options.weightCategories ?? true;
    this.resampleLabels = options.resampleLabels ?? false;
    const own = numbered(labels);
    const groups = numbered(categories);
    const categoryOf = new Int32Array(own.count).fill(-1);
    own.numbers.forEach((label, row) => {
      if (categoryOf[label] === -1) categoryOf[label] = groups.numbers[row]!;
      if (categoryOf[label] === groups.numbers[row]) return;
      throw new InvalidArgumentError(`${what}: label ${labels[row]} has several categories`);
    });
    this.#rows = Groups.of(own.numbers, own.count);
    this.#labels = Groups.of(categoryOf, groups.count);
    if (this.categoriesPerBatch > groups.count) {
      throw new InvalidArgumentError(
        `${what}: categoriesPerBatch must be at most the ${groups.count} categories, found ${this.categoriesPerBatch}`,
      );
    }
    for (let category = 0; category < groups.count && !this.resampleLabels; category++) {
      if (this.#labels.sizeOf(category) >= this.labelsPerCategory) continue;
      throw new InvalidArgumentError(
        `${what}: category ${categories[groups.numbers.indexOf(category)]} has ${this.#labels.sizeOf(category)} labels, fewer than ` +
          `labelsPerCategory ${this.labelsPerCategory}; resampleLabels would repeat them`,
      );
    }
    this.#batches = positiveInteger(
      options.batches ?? Math.ceil(own.count / this.labelsPerCategory),
      `${what}: batches`,
    );
    this.#digest = digest(labels, categories);
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const { categoriesPerBatch, labelsPerCategory, samplesPerLabel } = this;
    return Array.from({ length: this.#batches }, () => {
      const batch = new Int32Array(categoriesPerBatch * labelsPerCategory * samplesPerLabel);
      const labels = this.#categories(random).flatMap((category) =>
        Array.from(random.draw(this.#labels.of(category), labelsPerCategory)),
      );
      labels.forEach((label, place) => {
        batch.set(random.draw(this.#rows.of(label), samplesPerLabel), place * samplesPerLabel);
      });
      return batch;
    });
  }

  /** Different categories, one after the other by their weights among those left. */
  #categories(random: RandomSource): number[] {
    const weights = Array.from({ length: this.#labels.count }, (_, category) =>
      this.weightCategories ? this.#labels.sizeOf(category) : 1,
    );
    let total = weights.reduce((sum, weight) => sum + weight, 0);
    return Array.from({ length: this.categoriesPerBatch }, () => {
      const category = random.weighted(weights, total);
      total -= weights[category]!;
      weights[category] = 0;
      return category;
    });
  }

  protected override identity(): JsonObject {
    const { categoriesPerBatch, labelsPerCategory, samplesPerLabel, weightCategories, resampleLabels } = this;
    const options = { categoriesPerBatch, labelsPerCategory, samplesPerLabel, weightCategories, resampleLabels };
    return { ...options, batches: this.#batches, labels: this.#digest };
  }
}
