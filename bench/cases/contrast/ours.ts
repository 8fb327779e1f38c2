/** kontrast's side of the case. */
import { contrast, type Execution } from '../../../src/contrast';
import { functional } from '../../../src/nn';
import { grad, scope, setThreads, torch, type DType, type Tensor } from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';

let execution: Execution = 'tiled';

/** The same numbers in every language; see peer.py. */
function embeddings(count: number, dimension: number, dtype: DType): [Tensor, Tensor] {
  const places = torch.arange(count * dimension, { dtype: 'float64' });
  const first = places.mul(0.7391).sin();
  const second = first.add(places.mul(1.3717).add(0.5).sin().mul(0.5));
  const unit = (x: Tensor): Tensor =>
    functional
      .normalize(x.reshape([count, dimension]))
      .to(dtype)
      .requiresGrad_();
  return [unit(first), unit(second)];
}

void serve({
  prepare(options) {
    setThreads(Number(options['threads']));
    execution = options['execution'] as Execution;
    return versions();
  },
  run(options) {
    const [count, dimension] = [Number(options['count']), Number(options['dimension'])];
    return scope(() => {
      const [anchors, others] = embeddings(count, dimension, options['dtype'] as DType);
      const labels = torch.arange(count, { dtype: 'int64' });
      const start = performance.now();
      const loss = contrast({
        anchors,
        candidates: { embeddings: others, labels },
        labels,
        similarity: 'dot',
        temperature: Number(options['temperature']),
        symmetric: true,
        execution,
      });
      const slopes = grad(loss, [anchors, others]);
      const seconds = (performance.now() - start) / 1000;
      const sizes = slopes.map((slope) => slope!.to('float64').abs().sum().itemSync());
      return { seconds, items: 1, result: [loss.itemSync(), ...sizes] };
    });
  },
});
