/** kontrast's side of the case. */
import { functional, topScores } from '../../../src/nn';
import { dispose, noGrad, scope, setThreads, torch, type Tensor } from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';

let precision: 'exact' | 'bfloat16' = 'exact';
let made: { queries: Tensor; keys: Tensor; exact: Tensor | null } | undefined;

/** Numbers that look random, the same in every language: see peer.py. */
function embeddings(rows: number, dimension: number, from: number): Tensor {
  const parts: Tensor[] = [];
  for (let start = 0; start < rows; start += 100_000) {
    const size = Math.min(100_000, rows - start);
    parts.push(
      scope(() => {
        const first = (from + start) * dimension;
        const places = torch.arange(first, first + size * dimension, { dtype: 'float64' });
        const noise = places.mul(12.9898).sin().mul(43758.5453);
        const centred = noise.sub(noise.floor()).sub(0.5);
        return functional.normalize(centred.reshape([size, dimension])).to('float32');
      }),
    );
  }
  const whole = torch.cat(parts);
  dispose(...parts);
  return whole;
}

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
