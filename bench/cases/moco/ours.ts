/** kontrast's side of the case. Every run starts again from the shared state. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { MoCo } from '../../../src/models';
import type { AdamW } from '../../../src/optim';
import {
  autocast,
  noGrad,
  readSafetensors,
  scope,
  setThreads,
  torch,
  type MemoryFormat,
  type Tensor,
} from '../../../src/torch';
import type { StateDict } from '../../../src/torch/state';
import { choosePrecision, type PrecisionChoice } from '../../../src/train/precision';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';
import { files, makeMoCo, makeOptimizer } from './method';
import { recipe } from './recipe';

interface Setup {
  moco: MoCo;
  start: StateDict;
  /** [steps, 2, batch, 1, size, size] */
  views: Tensor;
  precision: 'float32' | 'bfloat16';
}

let setup: Setup | undefined;

function prepare(folder: string, choice: PrecisionChoice, memoryFormat: MemoryFormat): Setup {
  const { steps, batch, imageSize } = recipe;
  const moco = makeMoCo(memoryFormat);
  const { tensors } = readSafetensors(path.join(folder, files.state));
  return {
    moco,
    start: { tensors: new Map(Object.entries(tensors)), values: moco.stateDict().values },
    views: torch.fromBytes(
      readFileSync(path.join(folder, files.views)),
      [steps, 2, batch, 1, imageSize, imageSize],
      'float32',
    ),
    precision: choosePrecision(choice, 'cpu'),
  };
}

/** One step as the trainer takes it. */
function trainStep({ moco, views, precision }: Setup, optimizer: AdamW, step: number): number {
  return scope(() => {
    const batch = views.select(0, step);
    const contrast = () => moco.step(batch.select(0, 0), batch.select(0, 1));
    optimizer.zeroGrad();
    const { loss } = precision === 'bfloat16' ? autocast({ device: 'cpu', dtype: 'bfloat16' }, contrast) : contrast();
    loss.backward();
    optimizer.step();
    return loss.itemSync();
  });
}

void serve({
  prepare({ threads, folder, precision, memoryFormat }) {
    setThreads(Number(threads));
    setup = prepare(String(folder), precision as PrecisionChoice, memoryFormat as MemoryFormat);
    return { ...versions(), precision: setup.precision };
  },
  run() {
    if (setup === undefined) throw new Error('run came before prepare');
    const { steps, stepsCompared, batch } = recipe;
    noGrad(() => {
      setup!.moco.loadStateDict(setup!.start);
    });
    const optimizer = makeOptimizer(setup.moco);
    const losses: number[] = [];
    const start = performance.now();
    for (let step = 0; step < steps; step++) losses.push(trainStep(setup, optimizer, step));
    const seconds = (performance.now() - start) / 1000;
    optimizer.dispose();
    return { seconds, items: steps * batch, result: losses.slice(0, stepsCompared) };
  },
});
