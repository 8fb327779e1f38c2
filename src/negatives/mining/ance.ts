import { integerFrom, positiveInteger } from '../../nn/checks';
import {
  InvalidArgumentError,
  joinStates,
  partOfState,
  type Generator,
  type StateDict,
  type Tensor,
} from '../../torch';
import { jsonNumber, jsonObject } from '../../torch/state';
import { Randomised } from '../randomised';
import { atPlaces, checkPositives, drawPlaces, evenly, rankedNegatives, type DocumentNegatives } from './negative-pool';
import type { SearchIndex } from './search-index';

/** What an {@link ANCE} is made from. */
export interface ANCEOptions {
  /** What documents are searched in: exact or approximate. It is part of the state. */
  index: SearchIndex;
  /** Steps from one renewal of the index to the next. Default: 10,000. */
  every?: number;
  /** Steps from the start of a renewal until the new index is searched. Default: 0, the step waits for it. */
  lag?: number;
  /** How many of a query's best documents negatives are drawn from. Default: 200, as in the authors' scripts. */
  depth?: number;
  /** Negatives of a query. Default: 1. */
  negatives?: number;
  /** Default: 0. */
  seed?: number | bigint | Generator;
}

/** All documents, as the present encoder sees them. */
export interface EncodedDocuments {
  /** [K, D] */
  embeddings: Tensor;
  /** int64 [K]. Default: 0 to K − 1. */
  ids?: Tensor;
}

/**
 * ANCE (Xiong et al. 2021, "Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text Retrieval"): negatives are drawn, each equally
 * likely, from the documents that an index of the whole corpus ranks highest and that are no positives. The index is renewed from time to time with the
 * present encoder, beside training.
 *
 *     n ~ uniform( top-`depth`(q) \ positives(q) )
 *
 * ```ts
 * const ance = new ANCE({ index: new ApproximateIndex({ dimension: 128 }), every: 1000, lag: 200 });
 * for (…) {
 *   await ance.step(() => ({ embeddings: encodeCorpus() }));
 *   const { ids } = ance.sample(queries, positives);
 * }
 * ```
 *
 * The new index comes into use a fixed number of steps after its renewal began, and a step waits if it is not whole by then: so a run can be repeated, and
 * goes on from its state with the same negatives. The authors' inferencer runs beside training on other machines, and its index comes when it
 * comes; they draw from the top 200 by dot product with an exact index. Depth and draw were checked against their scripts; the default of `every` is
 * from memory.
 *
 * For retrieval over a corpus of which a batch holds next to nothing.
 */
export class ANCE extends Randomised {
  readonly index: SearchIndex;
  readonly every: number;
  readonly lag: number;
  readonly depth: number;
  readonly negatives: number;
  #steps = 0;
  /** The step in which the renewal under way was started. */
  #started: number | null = null;

  constructor(options: ANCEOptions) {
    const { index, every = 10_000, lag = 0, depth = 200, negatives = 1, seed = 0 } = options;
    super('ANCE', seed);
    this.index = index;
    this.every = positiveInteger(every, 'ANCE: every');
    this.lag = integerFrom(0, lag, 'ANCE: lag');
    this.depth = positiveInteger(depth, 'ANCE: depth');
    this.negatives = positiveInteger(negatives, 'ANCE: negatives');
    if (lag >= every) throw new InvalidArgumentError(`ANCE: lag must be less than every, ${every}, found ${lag}`);
  }

  /** How many steps there were. */
  get steps(): number {
    return this.#steps;
  }

  /**
   * To be called once a training step, before {@link ANCE.sample}: starts a renewal when it is time, and puts a new index in use when its time has
   * come. The first one is built at once. If it fails, the step does not count.
   *
   * @param documents gives all documents; it is called when a renewal starts
   */
  async step(documents: () => EncodedDocuments | Promise<EncodedDocuments>): Promise<void> {
    const step = this.#steps;
    if (step % this.every === 0) {
      const { embeddings, ids } = await documents();
      const options = ids === undefined ? {} : { ids };
      if (this.index.size === 0) this.index.build(embeddings, options);
      else {
        this.index.prepare(embeddings, options);
        this.#started = step;
      }
    }
    if (this.#started !== null && step >= this.#started + this.lag) {
      await this.index.swap();
      this.#started = null;
    }
    this.#steps = step + 1;
  }

  /**
   * Draws negatives.
   *
   * @param queries [N, D], on any device
   * @param positives ids of the documents that are no negatives: int64 [N] or [N, P], −1 for none
   * @returns [N, K]
   * @throws InvalidArgumentError if something does not fit, before anything is drawn
   */
  sample(queries: Tensor, positives: Tensor): DocumentNegatives {
    const own = checkPositives(positives, queries, 'ANCE');
    const ranked = rankedNegatives(this.index, queries, own, this.depth);
    return atPlaces(ranked, drawPlaces(evenly(ranked.ids), this.negatives, this.generator));
  }

  /** The index, one under way included, the random numbers and where the steps stand. */
  override stateDict(): StateDict {
    const progress = { tensors: new Map<string, Tensor>(), values: { steps: this.#steps, started: this.#started } };
    return joinStates({ index: this.index.stateDict(), draws: super.stateDict(), progress });
  }

  override checkStateDict(state: StateDict): void {
    this.#checked(state);
  }

  override loadStateDict(state: StateDict): void {
    const { steps, started } = this.#checked(state);
    this.index.loadStateDict(partOfState(state, 'index'));
    this.generator.setState(partOfState(state, 'draws').tensors.get('generator')!);
    this.#steps = steps;
    this.#started = started;
  }

  #checked(state: StateDict): { steps: number; started: number | null } {
    const what = 'ANCE: the state dict';
    super.checkStateDict(partOfState(state, 'draws'));
    const values = jsonObject(partOfState(state, 'progress').values, what);
    const steps = integerFrom(0, jsonNumber(values, 'steps', what), `${what}: steps`);
    const started =
      values['started'] === null ? null : integerFrom(0, jsonNumber(values, 'started', what), `${what}: started`);
    this.index.checkStateDict(partOfState(state, 'index'));
    return { steps, started };
  }
}
