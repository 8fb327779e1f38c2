import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, isTensor, type JsonObject, type Tensor } from '../../torch';
import { kMeans } from '../clustering/k-means';
import { digest, Groups, integers, type Integers } from './groups';
import { checkRows } from './ngame';
import { Deck, RandomSource } from './random-source';
import { RefreshableSampler, type SampledBatch, type SamplerOptions } from './sampler';

/** A batch of queries, each with one of its pairs. */
export interface TasBalancedBatch extends SampledBatch {
  /** For each query of `indices` the pair of passages to take: a position in the `pairs` that the sampler was given. */
  pairs: Int32Array;
}

/** What {@link TasBalancedSampler} takes. */
export interface TasBalancedSamplerOptions extends SamplerOptions {
  /** The number of queries. */
  size: number;
  /** Pairs of a positive and a negative passage. */
  pairs: {
    /** The query of each pair. */
    queries: Integers;
    /** The teacher's score of the positive passage minus that of the negative one. */
    margins: Tensor | readonly number[] | Float32Array | Float64Array;
  };
  /** The number of topics. Default: 2,000, or the number of queries. */
  clusters?: number;
  /** The topic of each query, from 0 to clusters − 1, if known. Otherwise call `refresh` first. */
  topics?: Integers;
  /** Queries a batch, of all ranks together. Default: 32. */
  batchSize?: number;
  /** How many topics a batch is drawn from, where they are large enough. Default: 1. */
  clustersPerBatch?: number;
  /** How a query's pair is drawn: evenly over ranges of its margins, or evenly over its pairs. Default: `'bins'`. */
  balance?: 'bins' | 'random';
  /** Ranges of equal width between a query's smallest and largest margin. Default: 10. */
  bins?: number;
  /** Batches an epoch. Default: as many as make up the number of queries. */
  batches?: number;
}

/**
 * TAS-Balanced (Hofstätter, Lin, Yang, Lin and Hanbury 2021, "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware
 * Sampling"): queries are clustered into topics once, each batch is drawn from one topic (or a few), so that the other queries' passages are
 * hard negatives, and pairs are drawn evenly over the teacher's margin, so that easy ones do not prevail: a query's margins are split into
 * ten ranges of equal width, of which one that is not empty is drawn, and of it a pair.
 *
 * A batch draws topics at random, without repetition, and from each at most batchSize / clustersPerBatch queries, until it is full. As
 * the authors' code but for three things: no query comes twice in a batch; a query of a single pair, or of equal margins, is not left out; an
 * epoch has an end. Queries without pairs are never drawn. The loss, Margin-MSE on the pairs and in the batch with a second teacher, is not
 * part of the sampler; that the paper clusters into 2,000 topics is from memory.
 */
export class TasBalancedSampler extends RefreshableSampler<TasBalancedBatch> {
  readonly batchSize: number;
  readonly clusters: number;
  readonly clustersPerBatch: number;
  readonly balance: 'bins' | 'random';
  readonly bins: number;
  readonly #batches: number;
  /** Pairs by query, and the range that each pair's margin is in. */
  readonly #pairs: Groups;
  readonly #binOf: Int32Array;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit */
  constructor(options: TasBalancedSamplerOptions) {
    const what = 'TasBalancedSampler';
    super(options.size, options, 'drop');
    this.batchSize = positiveInteger(options.batchSize ?? 32, `${what}: batchSize`);
    this.clusters = positiveInteger(options.clusters ?? Math.min(2000, this.size), `${what}: clusters`);
    this.clustersPerBatch = positiveInteger(options.clustersPerBatch ?? 1, `${what}: clustersPerBatch`);
    this.balance = options.balance ?? 'bins';
    if (!['bins', 'random'].includes(this.balance)) {
      throw new InvalidArgumentError(`${what}: balance must be 'bins' or 'random', found '${this.balance}'`);
    }
    this.bins = positiveInteger(options.bins ?? 10, `${what}: bins`);
    if (this.clustersPerBatch > this.batchSize) {
      throw new InvalidArgumentError(
        `${what}: clustersPerBatch must be at most the batch of ${this.batchSize}, found ${this.clustersPerBatch}`,
      );
    }
    this.#batches = positiveInteger(options.batches ?? Math.ceil(this.size / this.batchSize), `${what}: batches`);
    const queries = integers(options.pairs.queries, `${what}: pairs.queries`);
    if (queries.some((query) => query < 0 || query >= this.size)) {
      throw new InvalidArgumentError(`${what}: pairs.queries must run from 0 to ${this.size - 1}`);
    }
    const given = options.pairs.margins;
    const margins = Float64Array.from(isTensor(given) ? (given.dataSync() as ArrayLike<number>) : given);
    if (margins.length !== queries.length || !margins.every(Number.isFinite)) {
      throw new InvalidArgumentError(`${what}: pairs.margins must be ${queries.length} finite numbers`);
    }
    this.#pairs = Groups.of(queries, this.size);
    if (this.#queries().length < this.batchSize) {
      throw new InvalidArgumentError(
        `${what}: ${this.#queries().length} queries have pairs, fewer than a batch of ${this.batchSize}`,
      );
    }
    this.#binOf = binned(this.#pairs, margins, this.bins);
    this.#digest = digest(queries, margins);
    if (options.topics === undefined) return;
    const topics = integers(options.topics, `${what}: topics`, this.size);
    if (topics.some((topic) => topic < 0 || topic >= this.clusters)) {
      throw new InvalidArgumentError(`${what}: topics must run from 0 to ${this.clusters - 1}`);
    }
    this.renew({ topics });
  }

  /**
   * Clusters the queries into topics by k-means, from the next epoch on.
   *
   * @param embeddings floating-point [N, D], row i of query i
   * @throws InvalidArgumentError if they do not fit
   */
  refresh(embeddings: Tensor): void {
    checkRows(embeddings, this.size, 'TasBalancedSampler: embeddings');
    const { assignments, centroids } = kMeans(embeddings, { clusters: this.clusters, seed: this.seed });
    this.renew({ topics: integers(assignments, 'TasBalancedSampler: topics') });
    assignments.dispose();
    centroids.dispose();
  }

  /** Queries that have pairs. */
  #queries(): Int32Array {
    return Int32Array.from({ length: this.size }, (_, query) => query).filter((query) => this.#pairs.sizeOf(query) > 0);
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const topics = this.derived?.['topics'];
    if (!topics) throw new InvalidArgumentError('TasBalancedSampler: give topics, or call refresh(embeddings) first');
    const queries = this.#queries();
    const groups = Groups.of(
      queries.map((query) => topics[query]!),
      this.clusters,
    );
    const filled = Array.from({ length: this.clusters }, (_, topic) => topic).filter(
      (topic) => groups.sizeOf(topic) > 0,
    );
    const share = Math.floor(this.batchSize / this.clustersPerBatch);
    return Array.from({ length: this.#batches }, () => {
      const batch: number[] = [];
      const topicDeck = new Deck(filled, random);
      // What a topic has not given: it is asked again once all have had their turn.
      const rest = new Map<number, Int32Array>();
      while (batch.length < this.batchSize) {
        const topic = topicDeck.deal(1)[0]!;
        const left = rest.get(topic) ?? random.choose(groups.of(topic), groups.sizeOf(topic));
        const taken = Math.min(share, left.length, this.batchSize - batch.length);
        batch.push(...Array.from(left.subarray(0, taken), (place) => queries[place]!));
        rest.set(topic, left.subarray(taken));
      }
      return Int32Array.from(batch);
    });
  }

  protected override complete(batch: SampledBatch): TasBalancedBatch {
    const { epoch, step } = batch;
    // Each query has its own stream, so that its pair does not depend on the shard.
    const pairs = batch.indices.map((query) => this.#pair(query, new RandomSource(this.seed, epoch, step, query)));
    return { ...batch, pairs };
  }

  #pair(query: number, random: RandomSource): number {
    const pairs = this.#pairs.of(query);
    if (this.balance === 'random') return pairs[random.integer(pairs.length)]!;
    const filled = [...new Set(Array.from(pairs, (pair) => this.#binOf[pair]!))].sort((a, b) => a - b);
    const bin = filled[random.integer(filled.length)]!;
    const inBin = pairs.filter((pair) => this.#binOf[pair] === bin);
    return inBin[random.integer(inBin.length)]!;
  }

  protected override identity(): JsonObject {
    const { batchSize, clusters, clustersPerBatch, balance, bins } = this;
    return { batchSize, clusters, clustersPerBatch, balance, bins, batches: this.#batches, pairs: this.#digest };
  }

  protected override derivedLengths(): Record<string, number> {
    return { topics: this.size };
  }

  protected override derivedRange(): readonly [number, number] {
    return [0, this.clusters - 1];
  }
}

/** The range of each pair's margin, from 0: of equal width between the smallest and the largest margin of its query. */
function binned(pairs: Groups, margins: Float64Array, bins: number): Int32Array {
  const binOf = new Int32Array(margins.length);
  for (let query = 0; query < pairs.count; query++) {
    const own = pairs.of(query);
    let [low, high] = [Infinity, -Infinity];
    for (const pair of own) {
      low = Math.min(low, margins[pair]!);
      high = Math.max(high, margins[pair]!);
    }
    for (const pair of own) {
      const place = high > low ? ((margins[pair]! - low) / (high - low)) * bins : 0;
      binOf[pair] = Math.min(bins - 1, Math.floor(place));
    }
  }
  return binOf;
}
