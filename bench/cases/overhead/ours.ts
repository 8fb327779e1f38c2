/** kontrast's side of the case: the operators called inside a scope. */
import { grad, scope, setThreads, slice, type Tensor, torch } from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';

/**
 * Calls between two ends of a scope. A step of the quickstart's training makes some 500 calls in 50 scopes, since layers open their own;
 * the largest holds 32 results.
 */
const CALLS_PER_PART = 100;

const y = torch.tensor([
  [0.5, -1, 0.25],
  [8, 2, -3],
]);
const z = y.t().contiguous();
const rows = torch.tensor([1, 0, 1], { dtype: 'int64' });
const makeX = (): Tensor =>
  torch.tensor([
    [1, -2, 3],
    [-4, 5, 6],
  ]);

/** Calls the operator so often and returns the last result. */
type Loop = (x: Tensor, calls: number) => Tensor;

/** One written-out loop an operator, as a user writes it: a shared loop over callbacks would add its own cost. */
const loops: Record<string, Loop> = {
  add(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.add(y);
    return last;
  },
  mul(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.mul(y);
    return last;
  },
  relu(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.relu();
    return last;
  },
  matmul(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.matmul(z);
    return last;
  },
  sum(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.sum();
    return last;
  },
  softmax(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.softmax(1);
    return last;
  },
  cat(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = torch.cat([x, y]);
    return last;
  },
  select(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.at(1);
    return last;
  },
  slice(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.at(slice(0, 1));
    return last;
  },
  index(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.at(rows);
    return last;
  },
  view(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.view([3, 2]);
    return last;
  },
  transpose(x, calls) {
    let last = x;
    for (let done = 0; done < calls; done++) last = x.transpose(0, 1);
    return last;
  },
};

const numbers = (tensor: Tensor): number[] => Array.from(tensor.flatten().dataSync() as Float32Array);

void serve({
  prepare(options) {
    setThreads(Number(options['threads']));
    return versions();
  },
  run(options) {
    const calls = Number(options['calls']);
    const gradient = options['gradient'] === true;
    const loop = loops[String(options['operator'])];
    return scope(() => {
      const x = makeX().requiresGrad_(gradient);
      const start = performance.now();
      // Every scope frees its results as it ends: that is part of what a call costs.
      for (let done = 0; done < calls; done += CALLS_PER_PART) {
        scope(() => {
          loop(x, CALLS_PER_PART);
        });
      }
      const seconds = (performance.now() - start) / 1000;
      const last = loop(x, 1);
      const slopes = gradient ? grad(last.mul(last).sum(), x).map((slope) => numbers(slope!)) : [];
      return { seconds, items: calls, result: [numbers(last), ...slopes] };
    });
  },
});
