/** Trains in a worker thread, on random views, and reports the steps. */
import { parentPort, workerData } from 'node:worker_threads';
import { autocast, manualSeed, scope, setThreads, torch } from '../../src/torch';
import { makeMoCo, makeOptimizer } from '../cases/moco/method';
import { recipe } from '../cases/moco/recipe';

const { threads, milliseconds } = workerData as { threads: number; milliseconds: number };
setThreads(threads);
manualSeed(0);
const moco = makeMoCo('channels_last');
const optimizer = makeOptimizer(moco);
const { batch, imageSize } = recipe;

function step(): void {
  scope(() => {
    const view = () => torch.rand([batch, 1, imageSize, imageSize]);
    optimizer.zeroGrad();
    const { loss } = autocast({ dtype: 'bfloat16' }, () => moco.step(view(), view()));
    loss.backward();
    optimizer.step();
  });
}

// The first steps choose kernels and fill caches.
for (let i = 0; i < 5; i++) step();
parentPort!.postMessage('ready');
const end = performance.now() + milliseconds;
let steps = 0;
while (performance.now() < end) {
  step();
  steps++;
}
parentPort!.postMessage(steps);
