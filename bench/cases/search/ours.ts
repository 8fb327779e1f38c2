/** kontrast's side of the case. */
import { topScores } from '../../../src/nn';
import { noGrad, setThreads, type Tensor } from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';
import { embeddings } from './embeddings';

let precision: 'exact' | 'bfloat16' = 'exact';
let made: { queries: Tensor; keys: Tensor; exact: Tensor | null } | undefined;

void serve({
  prepare(options) {
    setThreads(Number(options['threads']));
    precision = options['precision'] as typeof precision;
    return versions();
  },
  run(options) {
    const [count, dimension, keys] = ['count', 'dimension', 'keys'].map((name) => Number(options[name]));
    const queries = Number(options['queries']);
    return noGrad(() => {
      made ??= { queries: embeddings(queries, dimension!, keys!), keys: embeddings(keys!, dimension!, 0), exact: null };
      const { queries: rows, keys: columns } = made;
      const start = performance.now();
      const found = topScores(rows, columns, { count: count!, precision });
      const seconds = (performance.now() - start) / 1000;
      if (precision !== 'exact') made.exact ??= topScores(rows, columns, { count: count! }).indices;
      const recall = made.exact === null ? 1 : recallOf(found.indices, made.exact);
      const means = [found.scores, found.scores.narrow(1, count! - 1, 1)].map((x) => x.to('float64').mean().itemSync());
      return { seconds, items: queries, result: [...means, recall] };
    });
  },
});

function recallOf(found: Tensor, expected: Tensor): number {
  const isFound = found.unsqueeze(2).eq(expected.unsqueeze(1)).any(2);
  return isFound.to('float64').mean().itemSync();
}
