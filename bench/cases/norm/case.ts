import path from 'node:path';
import type { Case, Goal, Launch } from '../../harness/case';
import { python, typescript } from '../../harness/programs';
import { layers, settings, batches, type Layer, type LayerName } from './work';

const names = Object.keys(layers) as LayerName[];

const tasks = names.flatMap((layer) => {
  const goal: Layer = layers[layer];
  return goal.batches.map((batch) => {
    const { shape, channelsLast, steps } = batches[batch];
    const options = { layer, shape: [...shape], channelsLast, steps: goal.steps ?? steps };
    return { name: `${layer}, ${batch}`, options, goal };
  });
});

const goals: Goal[] = tasks.map(({ name, goal }) => ({
  kind: 'time ratio',
  task: name,
  implementation: 'kontrast',
  against: goal.against === 'python' ? 'pytorch' : 'libtorch',
  atMost: goal.atMost,
}));

/** More than any task takes at once. */
const touchedBytes = 2 ** 30;

/**
 * With memory that stays with the process when it is freed; each of them touches `touchedBytes` at first. Else whether a result of 16 MiB is
 * on fresh pages, which takes as long as computing it, hangs on what the process did before.
 */
function keepingMemory(launch: Launch): Launch {
  const tunables =
    'glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.hugetlb=1';
  return { ...launch, environment: { ...launch.environment, GLIBC_TUNABLES: tunables } };
}

/**
 * A forward and a backward pass of each norm in training. `libtorch` calls LibTorch's operator for the same layer, or its batch norm;
 * `pytorch` is the same layer as one writes it in Python, or PyTorch's batch norm.
 */
export const benchmark: Case = {
  name: 'norm',
  title: 'forward and backward of the norms, [64, 64, 32, 32] in both layouts and [256, 512], float32',
  unit: 'step',
  rounds: 9,
  warmup: 2,
  tasks: tasks.map(({ name, options }) => ({ name, options })),
  implementations: [
    {
      name: 'kontrast',
      launch: () => keepingMemory(typescript(path.join(__dirname, 'ours.ts'))),
      options: { way: 'layers', touchedBytes },
    },
    {
      name: 'libtorch',
      launch: () => keepingMemory(typescript(path.join(__dirname, 'ours.ts'))),
      options: { way: 'operators', touchedBytes },
    },
    {
      name: 'pytorch',
      launch: () => {
        const peer = python(path.join(__dirname, 'peer.py'));
        return 'unavailable' in peer ? peer : keepingMemory(peer);
      },
      options: { settings, touchedBytes },
    },
  ],
  reference: 'libtorch',
  // What the layers compute is another thing each; their tests compare it. That the outputs are numbers is checked.
  tolerance: { relative: 0, absolute: 0 },
  goals,
};
