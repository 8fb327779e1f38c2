import { positiveInteger } from '../../nn/checks';
import {
  InvalidArgumentError,
  joinStates,
  keep,
  noGrad,
  partOfState,
  scope,
  torch,
  type Generator,
  type StateDict,
  type Tensor,
} from '../../torch';
import { jsonNumber, jsonObject } from '../../torch/state';
import { Randomised } from '../randomised';
import { checkMatrix, checkTensor } from './miner';
import { atPlaces, checkPositives, drawPlaces, evenly, rankedNegatives } from './negative-pool';
import type { SearchIndex } from './search-index';

/** What an {@link ANCETele} is made from. */
export interface ANCETeleOptions {
  /** How many training queries there are. */
  queries: number;
  /** How many of the best documents are drawn from. Default: 200, as in the authors' scripts. */
  depth?: number;
  /** Negatives that a query gets from each source in an episode. Default: 30, as in the authors' scripts. */
  perSource?: number;
  /** Episodes of which the negatives are kept, the present one included: older ones leave. Default: 3, the authors' number of them. */
  episodes?: number;
  /** Default: 0. */
  seed?: number | bigint | Generator;
}

/** What {@link ANCETele.mine} takes. */
export interface ANCETeleInput {
  /** Which training queries these are, int64 [N], distinct. */
  rows: Tensor;
  /** [N, D] */
  queries: Tensor;
  /** [N, D]: each one's positive document, of which the neighbours are looked for. */
  positiveEmbeddings: Tensor;
  /** The ids of documents that are no negatives: int64 [N] or [N, P], −1 for none. */
  positives: Tensor;
}

/**
 * ANCE-Tele (Sun et al. 2022, "Reduce Catastrophic Forgetting of Dense Retrieval Training with Teleportation Negatives"): training goes in episodes, and at
 * the start of each, a query's pool of negatives is made of three sources:
 *
 *     current:    some of the top documents of the query
 *     lookahead:  some of the top documents of its positive document, which stand for what will be hard later on
 *     momentum:   the pool of the episode before
 *
 * without the query's positives. Sources, depth and numbers were checked against the authors' scripts, where the pool grows with every episode;
 * here the oldest leave after `episodes` of them. A document that comes from several sources is in the pool several times, as there. In a step
 * negatives are drawn from the pool, each equally likely.
 *
 * ```ts
 * tele.startEpisode();
 * for (const batch of …) tele.mine(index, batch);
 * const ids = tele.sample(rows, 7);
 * ```
 *
 * For retrieval training with mined negatives that forgets in one episode what it learned in the one before.
 */
export class ANCETele extends Randomised {
  readonly depth: number;
  readonly perSource: number;
  /** int64 [queries, episodes · 2 · perSource], the present episode first; −1 where there is none. On the CPU. */
  readonly #pool: Tensor;
  #episode = 0;

  constructor(options: ANCETeleOptions) {
    const { queries, depth = 200, perSource = 30, episodes = 3, seed = 0 } = options;
    super('ANCETele', seed);
    const count = positiveInteger(queries, 'ANCETele: queries');
    this.depth = positiveInteger(depth, 'ANCETele: depth');
    this.perSource = positiveInteger(perSource, 'ANCETele: perSource');
    const width = positiveInteger(episodes, 'ANCETele: episodes') * 2 * perSource;
    this.#pool = scope(() => keep(torch.full([count, width], -1, { dtype: 'int64' })));
  }

  /** The present episode: 0 before the first. */
  get episode(): number {
    return this.#episode;
  }

  /** Starts an episode: what the pools have becomes momentum. */
  startEpisode(): void {
    noGrad(() => {
      scope(() => {
        const own = 2 * this.perSource;
        const width = this.#pool.sizeOf(1);
        const before = this.#pool.narrow(1, 0, width - own).clone();
        this.#pool.narrow(1, own, width - own).copy_(before);
        this.#pool.narrow(1, 0, own).fill_(-1);
      });
    });
    this.#episode++;
  }

  /**
   * Mines the current and the lookahead negatives of some queries, in place of those that they got in this episode before.
   *
   * @throws InvalidArgumentError if something does not fit, or no episode was started, before anything changes
   */
  mine(index: SearchIndex, input: ANCETeleInput): void {
    const what = 'ANCETele';
    const { rows, queries, positiveEmbeddings, positives } = input;
    if (this.#episode === 0) throw new InvalidArgumentError(`${what}: call startEpisode() first`);
    checkMatrix(queries, `${what}: queries`);
    this.#checkRows(rows, queries.sizeOf(0));
    checkTensor(positiveEmbeddings, queries.shape, positiveEmbeddings.dtype, `${what}: positiveEmbeddings`);
    const own = checkPositives(positives, queries, what);
    noGrad(() => {
      scope(() => {
        const drawn = [queries, positiveEmbeddings].map((from) => {
          const ranked = rankedNegatives(index, from, own, this.depth);
          return atPlaces(ranked, drawPlaces(evenly(ranked.ids), this.perSource, this.generator)).ids;
        });
        const [at, ids] = [rows, torch.cat(drawn, 1)].map((x) => x.to({ device: 'cpu' }));
        this.#pool.narrow(1, 0, 2 * this.perSource).indexCopy_(0, at!, ids!);
      });
    });
  }

  /**
   * Draws negatives from the pools.
   *
   * @param rows which training queries, int64 [N]
   * @param count how many each, K
   * @returns ids, int64 [N, K], on the device of `rows`; −1 where a pool has fewer
   */
  sample(rows: Tensor, count: number): Tensor {
    positiveInteger(count, 'ANCETele: count');
    this.#checkRows(rows, rows.sizeOf(0), false);
    return noGrad(() =>
      scope(() => {
        const pool = this.#pool.indexSelect(0, rows.to({ device: 'cpu' }));
        const places = drawPlaces(evenly(pool), count, this.generator);
        return pool.gather(1, places.clampMin(0)).maskedFill_(places.lt(0), -1).to({ device: rows.device });
      }),
    );
  }

  /** The whole pool of some queries, int64 [N, C], the present episode first; −1 where there is none. */
  pool(rows: Tensor): Tensor {
    this.#checkRows(rows, rows.sizeOf(0), false);
    return noGrad(() => scope(() => this.#pool.indexSelect(0, rows.to({ device: 'cpu' })).to({ device: rows.device })));
  }

  /** The pools, the random numbers and the episode. */
  override stateDict(): StateDict {
    const pool = { tensors: new Map([['ids', this.#pool.detach()]]), values: { episode: this.#episode } };
    return joinStates({ pool, draws: super.stateDict() });
  }

  override checkStateDict(state: StateDict): void {
    this.#checked(state);
  }

  override loadStateDict(state: StateDict): void {
    const { ids, episode } = this.#checked(state);
    this.generator.setState(partOfState(state, 'draws').tensors.get('generator')!);
    noGrad(() => {
      this.#pool.copy_(ids).dispose();
    });
    this.#episode = episode;
  }

  #checked(state: StateDict): { ids: Tensor; episode: number } {
    const what = 'ANCETele: the state dict';
    super.checkStateDict(partOfState(state, 'draws'));
    const { tensors, values } = partOfState(state, 'pool');
    const ids = tensors.get('ids');
    if (ids === undefined) throw new InvalidArgumentError(`${what} lacks 'pool.ids'`);
    checkTensor(ids, this.#pool.shape, 'int64', `${what}: 'pool.ids'`);
    return { ids, episode: jsonNumber(jsonObject(values, what), 'episode', what) };
  }

  #checkRows(rows: Tensor, count: number, distinct = true): void {
    const queries = this.#pool.sizeOf(0);
    checkTensor(rows, [count], 'int64', 'ANCETele: rows');
    checkRange(rows, queries, distinct, 'ANCETele: rows');
  }
}

/** @throws InvalidArgumentError naming `what` unless rows run from 0 to `size` − 1, and are distinct if they must be */
export function checkRange(rows: Tensor, size: number, distinct: boolean, what: string): void {
  if (rows.numel() === 0) return;
  scope(() => {
    const [sorted] = rows.sort();
    const last = sorted.numel() - 1;
    const [low, high] = [sorted.select(0, 0), sorted.select(0, last)].map((x) => Number(x.itemSync()));
    if (low! < 0 || high! >= size) {
      throw new InvalidArgumentError(`${what} must be from 0 to ${size - 1}, found ${low! < 0 ? low : high}`);
    }
    if (
      distinct &&
      sorted
        .narrow(0, 1, last)
        .eq(sorted.narrow(0, 0, last))
        .any()
        .itemSync()
    ) {
      throw new InvalidArgumentError(`${what} must be distinct, two are alike`);
    }
  });
}
