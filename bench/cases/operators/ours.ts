/** kontrast's side of the case: the operators called inside a scope, or outside of any. */
import { type Tensor, scope, setThreads, torch } from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';

/** Calls between two ends of a scope, or between two turns of the event loop. */
const CALLS_PER_PART = 1000;

/** Calls the operator so often and returns the last result. */
type Loop = (calls: number) => Tensor;

/** One written-out loop an operator, as a user writes it: a shared loop over callbacks would add its own cost. */
function makeLoops(): Record<string, Loop> {
  const a = torch.tensor([1, 2, 3, 4]);
  const b = torch.tensor([0.5, -1, 0.25, 8]);
  const square = torch.arange(64, { dtype: 'float32' }).view([8, 8]).div(64);
  return {
    add(calls) {
      let last = a;
      for (let done = 0; done < calls; done++) last = a.add(b);
      return last;
    },
    mul(calls) {
      let last = a;
      for (let done = 0; done < calls; done++) last = a.mul(b);
      return last;
    },
    matmul(calls) {
      let last = square;
      for (let done = 0; done < calls; done++) last = square.matmul(square);
      return last;
    },
    sum(calls) {
      let last = a;
      for (let done = 0; done < calls; done++) last = a.sum();
      return last;
    },
  };
}

let loops: Record<string, Loop> = {};
let inScope = true;

/** Every scope frees its 1000 results as it ends: that is part of what a call costs. */
function runInScopes(loop: Loop, calls: number): void {
  for (let done = 0; done < calls; done += CALLS_PER_PART) {
    scope(() => {
      loop(CALLS_PER_PART);
    });
  }
}

/** Results are garbage here; the turns of the event loop let finalizers run, which is part of what a call costs. */
async function runOutside(loop: Loop, calls: number): Promise<void> {
  for (let done = 0; done < calls; done += CALLS_PER_PART) {
    loop(CALLS_PER_PART);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

void serve({
  prepare(options) {
    setThreads(Number(options['threads']));
    inScope = options['way'] === 'scope';
    loops = makeLoops();
    return versions();
  },
  async run(options) {
    const calls = Number(options['calls']);
    const loop = loops[String(options['operator'])];
    const start = performance.now();
    if (inScope) runInScopes(loop, calls);
    else await runOutside(loop, calls);
    const seconds = (performance.now() - start) / 1000;
    const result = scope(() => Array.from(loop(1).flatten().dataSync() as Float32Array));
    return { seconds, items: calls, result };
  },
});
