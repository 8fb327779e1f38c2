/** What finds documents for queries, and can be renewed while it is in use. */
import type { ScoreSimilarity } from '../../contrast/contrast';
import { positiveInteger } from '../../nn/checks';
import { topScores } from '../../nn';
import { dispose, InvalidArgumentError, keep, noGrad, scope, torch, type Tensor } from '../../torch';
import type { StateDict, Stateful } from '../../torch/state';
import { jsonObject } from '../../torch/state';
import { checkMatrix, checkTensor } from './miner';

/** The documents found for each query, best first. */
export interface FoundDocuments {
  /** [Q, k]; −∞ where there are fewer. */
  scores: Tensor;
  /** int64 [Q, k]; −1 where there are fewer. */
  ids: Tensor;
}

/** What is put into an index. */
export interface DocumentOptions {
  /** int64 [K], distinct and at least 0. Default: 0 to K − 1. */
  ids?: Tensor;
}

/**
 * An index of documents. A new one can be filled while the old one is searched: {@link SearchIndex.prepare} starts that, {@link SearchIndex.swap} puts it
 * in the old one's place.
 */
export interface SearchIndex extends Stateful {
  readonly similarity: ScoreSimilarity;
  /** How many documents it has. */
  readonly size: number;
  /** Whether a new one is being filled or waits to be swapped in. */
  readonly isPreparing: boolean;
  /** The documents of the highest scores for each query. */
  search(queries: Tensor, count: number): FoundDocuments;
  /** Fills it anew, at once. */
  build(embeddings: Tensor, options?: DocumentOptions): void;
  /** Starts to fill a new one beside the one in use, in place of one that was started before. */
  prepare(embeddings: Tensor, options?: DocumentOptions): void;
  /** Waits until the new one is whole, and puts it in place of the old one. Without a new one nothing happens. */
  swap(): Promise<void>;
  /** @throws InvalidArgumentError what `loadStateDict` would throw; changes nothing */
  checkStateDict(state: StateDict): void;
}

/**
 * Checks documents for an index, and gives the ids that they have.
 *
 * @throws InvalidArgumentError naming `what`
 */
export function checkDocuments(
  embeddings: Tensor,
  { ids }: DocumentOptions,
  dimension: number | undefined,
  what: string,
): Tensor {
  checkMatrix(embeddings, `${what}: embeddings`);
  const [count, width] = [embeddings.sizeOf(0), embeddings.sizeOf(1)];
  if (dimension !== undefined && width !== dimension) {
    throw new InvalidArgumentError(`${what}: embeddings must have ${dimension} columns, found ${width}`);
  }
  if (ids !== undefined) checkTensor(ids, [count], 'int64', `${what}: ids`);
  return noGrad(() =>
    scope(() => {
      if (!embeddings.isfinite().all().itemSync()) {
        throw new InvalidArgumentError(`${what}: embeddings must be finite, found NaN or infinity`);
      }
      if (ids === undefined) return torch.arange(count, { dtype: 'int64', device: embeddings.device });
      const [sorted] = ids.sort();
      const twice = sorted.narrow(0, 1, count - 1).eq(sorted.narrow(0, 0, count - 1));
      if (sorted.select(0, 0).lt(0).itemSync()) throw new InvalidArgumentError(`${what}: ids must be at least 0`);
      if (twice.any().itemSync()) throw new InvalidArgumentError(`${what}: ids must be distinct, two are alike`);
      return ids.clone();
    }),
  );
}

/** @throws InvalidArgumentError naming `what` unless queries and the count fit */
export function checkSearch(queries: Tensor, count: number, dimension: number | undefined, what: string): void {
  checkMatrix(queries, `${what}: queries`);
  if (dimension !== undefined && queries.sizeOf(1) !== dimension) {
    throw new InvalidArgumentError(`${what}: queries must have ${dimension} columns, found ${queries.sizeOf(1)}`);
  }
  positiveInteger(count, `${what}: count`);
}

/** What an {@link ExactIndex} is made from. */
export interface ExactIndexOptions {
  /** Default: `'cosine'`. */
  similarity?: ScoreSimilarity;
}

interface Documents {
  embeddings: Tensor;
  ids: Tensor;
}

/**
 * Exact search under the face of an index: the embeddings themselves, kept where they are. Renewing it takes no time, but holds old and new embeddings
 * until the swap.
 *
 * For corpora up to some million documents on a GPU, or some hundred thousand on a CPU; else `ApproximateIndex`.
 */
export class ExactIndex implements SearchIndex {
  readonly similarity: ScoreSimilarity;
  #active: Documents | undefined;
  #prepared: Documents | undefined;

  constructor(options: ExactIndexOptions = {}) {
    this.similarity = checkSimilarity(options.similarity ?? 'cosine', 'ExactIndex');
  }

  get size(): number {
    return this.#active?.embeddings.sizeOf(0) ?? 0;
  }

  get isPreparing(): boolean {
    return this.#prepared !== undefined;
  }

  /** @throws InvalidArgumentError if it is empty, or queries do not fit */
  search(queries: Tensor, count: number): FoundDocuments {
    const active = this.#active;
    if (active === undefined) throw new InvalidArgumentError('ExactIndex: it is empty: build it first');
    checkSearch(queries, count, active.embeddings.sizeOf(1), 'ExactIndex');
    return noGrad(() =>
      scope(() => {
        const { device } = queries;
        const placed = queries.detach().to({ device: active.embeddings.device });
        const { scores, indices } = topScores(placed, active.embeddings, { count, similarity: this.similarity });
        const ids = active.ids.take(indices.clampMin(0)).maskedFill_(indices.lt(0), -1);
        return { scores: scores.to({ device }), ids: ids.to({ device }) };
      }),
    );
  }

  build(embeddings: Tensor, options: DocumentOptions = {}): void {
    const documents = held(embeddings, options);
    free(this.#active);
    this.#active = documents;
  }

  prepare(embeddings: Tensor, options: DocumentOptions = {}): void {
    const documents = held(embeddings, options);
    free(this.#prepared);
    this.#prepared = documents;
  }

  swap(): Promise<void> {
    if (this.#prepared !== undefined) {
      free(this.#active);
      this.#active = this.#prepared;
      this.#prepared = undefined;
    }
    return Promise.resolve();
  }

  stateDict(): StateDict {
    const tensors = new Map<string, Tensor>();
    for (const [stage, documents] of [
      ['active', this.#active],
      ['prepared', this.#prepared],
    ] as const) {
      for (const [name, tensor] of Object.entries(documents ?? {})) tensors.set(`${stage}.${name}`, tensor.detach());
    }
    return { tensors, values: { similarity: this.similarity } };
  }

  checkStateDict(state: StateDict): void {
    const what = 'ExactIndex: the state dict';
    const { similarity } = jsonObject(state.values, what);
    if (similarity !== this.similarity) {
      throw new InvalidArgumentError(
        `${what} has similarity ${JSON.stringify(similarity)}, this index '${this.similarity}'`,
      );
    }
    for (const stage of ['active', 'prepared']) savedDocuments(state, stage, what);
  }

  loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
    const [active, prepared] = ['active', 'prepared'].map((stage) => {
      const saved = savedDocuments(state, stage, 'ExactIndex: the state dict');
      return saved && held(saved.embeddings, saved);
    });
    free(this.#active);
    free(this.#prepared);
    this.#active = active;
    this.#prepared = prepared;
  }
}

/** @throws InvalidArgumentError naming `what` */
export function checkSimilarity(similarity: ScoreSimilarity, what: string): ScoreSimilarity {
  if (!['cosine', 'dot', 'euclidean'].includes(similarity)) {
    throw new InvalidArgumentError(`${what}: similarity must be 'cosine', 'dot' or 'euclidean', found '${similarity}'`);
  }
  return similarity;
}

/** Documents of a saved state: embeddings and ids of a stage, if there are any. */
export function savedDocuments(
  state: StateDict,
  stage: string,
  what: string,
): { embeddings: Tensor; ids: Tensor } | undefined {
  const [embeddings, ids] = ['embeddings', 'ids'].map((name) => state.tensors.get(`${stage}.${name}`));
  if (embeddings === undefined && ids === undefined) return undefined;
  if (embeddings === undefined || ids === undefined) {
    throw new InvalidArgumentError(`${what} must have both or none of '${stage}.embeddings' and '${stage}.ids'`);
  }
  checkMatrix(embeddings, `${what}: '${stage}.embeddings'`);
  checkTensor(ids, [embeddings.sizeOf(0)], 'int64', `${what}: '${stage}.ids'`);
  return { embeddings, ids };
}

function held(embeddings: Tensor, options: DocumentOptions): Documents {
  return scope(() => {
    const ids = checkDocuments(embeddings, options, undefined, 'ExactIndex');
    const { device } = embeddings;
    return noGrad(() => ({ embeddings: keep(embeddings.detach().clone()), ids: keep(ids.to({ device })) }));
  });
}

function free(documents: Documents | undefined): void {
  if (documents !== undefined) dispose(documents.embeddings, documents.ids);
}
