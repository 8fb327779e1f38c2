/** kontrast's side of the case. */
import { contrast } from '../../../src/contrast';
import { functional } from '../../../src/nn';
import {
  grad,
  manualSeed,
  memory,
  resetPeakMemory,
  scope,
  synchronize,
  torch,
  type DType,
  type Tensor,
} from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';

const device = 'cuda:0';

void serve({
  prepare() {
    return versions();
  },
  run(options) {
    const [count, dimension] = [Number(options['count']), Number(options['dimension'])];
    const dtype = options['dtype'] as DType;
    return scope(() => {
      manualSeed(1);
      const labels = torch.arange(count, { dtype: 'int64', device });
      // Drawn in the short type: at a million rows the draw itself would else be the peak.
      const unit = (x: Tensor): Tensor => functional.normalize(x).to(dtype).detach().requiresGrad_();
      const [anchors, others] = scope(() => {
        const first = torch.randn([count, dimension], { device, dtype });
        const second = first.add(torch.randn([count, dimension], { device, dtype }), { alpha: 0.5 });
        return [unit(first), unit(second)] as const;
      });
      synchronize(device);
      resetPeakMemory(device);
      const before = memory(device).cuda!.allocatedBytes;
      const start = performance.now();
      const loss = contrast({
        anchors,
        candidates: { embeddings: others, labels },
        labels,
        similarity: 'dot',
        temperature: Number(options['temperature']),
        symmetric: true,
        execution: 'tiled',
      });
      const slopes = grad(loss, [anchors, others]);
      synchronize(device);
      const seconds = (performance.now() - start) / 1000;
      const peakBytes = memory(device).cuda!.peakAllocatedBytes - before;
      const sizes = slopes.map((slope) => slope!.to('float32').abs().sum().itemSync());
      return { seconds, items: 1, result: [loss.itemSync(), ...sizes], peakBytes };
    });
  },
});
