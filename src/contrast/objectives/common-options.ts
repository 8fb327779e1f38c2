/** What most objectives take. */
import type { ScoreSimilarity } from '../contrast';
import type { Execution } from '../statistics';
import type { Reduction } from './parts';

/** Options with one meaning in all objectives. */
export interface CommonOptions {
  /** `'mean'` over the anchors with a loss (default), `'sum'`, or `'none'` for one loss an anchor, 0 where there is none. */
  reduction?: Reduction;
  /** Whether to hold the matrix of scores or to go through it tile by tile. Default `'auto'`: by size. */
  execution?: Execution | 'auto';
}

/** The same with a choice of similarity. */
export interface SimilarityOptions extends CommonOptions {
  /** The cosine (default), the dot product, or minus the squared distance. */
  similarity?: ScoreSimilarity;
}
