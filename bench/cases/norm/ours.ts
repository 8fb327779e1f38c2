/** kontrast's side of the case: our layers, or LibTorch's operators called directly. */
import { manualSeed, scope, setThreads, torch, type Tensor } from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';
import { directly, ourLayers, type Work } from './layers';
import type { Batch, LayerName } from './work';

let areLayers = true;
let current: { name: string; work: Work; x: Tensor; gradient: Tensor } | undefined;

function setupFor(layer: LayerName, { shape, channelsLast }: Batch): NonNullable<typeof current> {
  const name = `${layer} ${channelsLast ? 'channels-last' : ''} ${shape.join(' ')}`;
  if (current?.name === name) return current;
  current?.x.dispose();
  current?.gradient.dispose();
  manualSeed(1);
  const memoryFormat = channelsLast ? 'channels_last' : 'contiguous_format';
  const random = (): Tensor => torch.randn(shape).contiguous({ memoryFormat });
  const work = (areLayers ? ourLayers[layer] : directly(layer))(shape);
  current = { name, work, x: random().requiresGrad_(true), gradient: random() };
  return current;
}

/** Writes to so much memory and frees it, all at once: what is computed later finds pages that are there. */
function touchMemory(bytes: number): void {
  const tensors = Array.from({ length: 4 }, () => torch.ones([bytes / 4], { dtype: 'uint8' }));
  for (const tensor of tensors) tensor.dispose();
}

void serve({
  prepare(options) {
    setThreads(Number(options['threads']));
    areLayers = options['way'] === 'layers';
    touchMemory(Number(options['touchedBytes']));
    return { ...versions(), precision: 'float32' };
  },
  run(options) {
    const { layer, steps } = options as unknown as Batch & { layer: LayerName };
    const { work, x, gradient } = setupFor(layer, options as unknown as Batch);
    const step = (): void => {
      scope(() => {
        work.forward(x).backward(gradient);
        for (const tensor of [x, ...work.parameters]) tensor.grad = null;
      });
    };
    const start = performance.now();
    for (let done = 0; done < steps; done++) step();
    const seconds = (performance.now() - start) / 1000;
    const sum = scope(() => work.forward(x).sum().itemSync());
    if (!Number.isFinite(sum)) throw new Error(`the outputs of ${layer} add up to ${sum}`);
    return { seconds, items: steps, result: [steps] };
  },
});
