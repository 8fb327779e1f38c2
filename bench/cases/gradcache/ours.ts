/** kontrast's side of the case. */
import { contrast } from '../../../src/contrast';
import { GELU, Linear, Module, ModuleList } from '../../../src/nn';
import { manualSeed, memory, noGrad, resetPeakMemory, scope, setThreads, torch, type Tensor } from '../../../src/torch';
import { gradCache } from '../../../src/train';
import { peakResidentBytes } from '../../harness/adapter';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';
import { work } from './work';

/** What a dropout layer multiplies by, layer after layer. */
type Masks = readonly Tensor[];

class Encoder extends Module {
  readonly layers = new ModuleList(
    Array.from({ length: work.hiddenLayers }, (_, i) => {
      const inFeatures = i === 0 ? work.inputSize : work.hiddenSize;
      return new Linear({ inFeatures, outFeatures: work.hiddenSize });
    }),
  );
  readonly activation = new GELU();
  readonly last = new Linear({ inFeatures: work.hiddenSize, outFeatures: work.embeddingSize });
  /** Told of every pass. */
  onForward: () => void = () => undefined;

  override forward(x: Tensor, masks?: Masks): Tensor {
    this.onForward();
    let hidden = x;
    [...this.layers].forEach((layer, i) => {
      const active = this.activation.forward(layer.forward(hidden));
      hidden = masks ? active.mul(masks[i]!) : torch.dropout(active, work.dropout, true);
    });
    return this.last.forward(hidden);
  }
}

/** The same numbers in every language: LibTorch draws them in the same order; see peer.py. */
function weigh(encoder: Encoder): void {
  manualSeed(work.seed);
  noGrad(() => {
    for (const parameter of encoder.parameters()) {
      const values = torch.randn(parameter.shape);
      parameter.copy_(parameter.ndim === 2 ? values.mul(Math.sqrt(2 / parameter.sizeOf(1))) : values.mul(0.1));
    }
  });
}

function views(batch: number): [Tensor, Tensor] {
  const samples = torch.randn([batch, work.inputSize]);
  const view = (): Tensor => samples.add(torch.randn([batch, work.inputSize]), { alpha: 0.5 });
  return [view(), view()];
}

/** What dropout draws for a view, chunk after chunk and layer after layer, of the whole view. */
function masksOf(batch: number, chunk: number): Masks {
  const masks = Array.from({ length: work.hiddenLayers }, () => torch.empty([batch, work.hiddenSize]));
  const parts = masks.map((mask) => mask.split(chunk));
  parts[0]!.forEach((_, i) => {
    for (const part of parts) part[i]!.bernoulli_(1 - work.dropout);
  });
  return masks.map((mask) => mask.div_(1 - work.dropout));
}

const objective = (first: Tensor, second: Tensor): Tensor => {
  const labels = torch.arange(first.sizeOf(0), { dtype: 'int64' });
  const candidates = { embeddings: second, labels };
  return contrast({ anchors: first, candidates, labels, temperature: work.temperature, symmetric: true });
};

const encoder = new Encoder();
weigh(encoder);

function clearGradients(): void {
  for (const parameter of encoder.parameters()) parameter.grad = null;
}

/** The step that is measured; `onEmbeddings` is told when the objective gets them. */
function step(inputs: readonly Tensor[], chunk: number, onEmbeddings: () => void = () => undefined): Tensor {
  manualSeed(work.seed + 1);
  const towers = inputs.map((input) => ({ encoder, input }));
  const loss = (first: Tensor, second: Tensor): Tensor => {
    onEmbeddings();
    return objective(first, second);
  };
  return gradCache(towers, loss as (...embeddings: Tensor[]) => Tensor, { chunk }).loss;
}

/** The loss and, of every parameter's gradient, the sum of sizes and the length. */
function fingerprint(loss: Tensor): number[] {
  const sizes = encoder.parameters().flatMap((parameter) => {
    const gradient = parameter.grad!.to('float64');
    return [gradient.abs().sum().itemSync(), gradient.square().sum().sqrt().itemSync()];
  });
  return [loss.itemSync(), ...sizes];
}

/** What a step takes beyond parameters, inputs and what was there before it, in bytes. */
interface StepMemory {
  /** The most that LibTorch's tensors took. */
  peak: number;
  /**
   * The most while samples were encoded, without what grows with the batch or belongs to the parameters: the embeddings and the gradients by
   * them, the parameters' gradients.
   */
  activations: number;
  /** The most from the objective's first line to the end of its backward pass, the embeddings included. */
  objective: number;
  /** What the process grew by, at its peak. */
  resident: number;
}

function stepMemory(inputs: readonly Tensor[], chunk: number): StepMemory {
  const batch = inputs[0]!.sizeOf(0);
  const gradients = encoder.parameters().reduce((sum, parameter) => sum + 4 * parameter.numel(), 0);
  const kept = 4 * inputs.length * batch * work.embeddingSize;
  const phases = { first: 0, objective: 0, second: 0 };
  let phase: keyof typeof phases = 'first';
  const before = memory().cpuBytes;
  const residentBefore = process.memoryUsage.rss();
  resetPeakMemory();
  const enter = (next: keyof typeof phases): void => {
    phases[phase] = memory().peakCpuBytes - before;
    phase = next;
    resetPeakMemory();
  };
  encoder.onForward = () => {
    if (phase === 'objective') enter('second');
  };
  step(inputs, chunk, () => {
    enter('objective');
  });
  enter('first');
  encoder.onForward = () => undefined;
  return {
    peak: Math.max(phases.first, phases.objective, phases.second),
    // In the first pass only embeddings are held, in the second the gradients by them as well.
    activations: Math.max(phases.first - kept, phases.second - 2 * kept - gradients),
    objective: phases.objective,
    resident: (peakResidentBytes('self') ?? 0) - residentBefore,
  };
}

/** The greatest difference between the chunks' and the whole batch's gradients, of each parameter, by the greatest number of the latter. */
function gradientErrors(inputs: readonly Tensor[], chunk: number): Record<string, number> {
  clearGradients();
  step(inputs, chunk);
  const found = encoder.parameters().map((parameter) => parameter.grad!);
  clearGradients();
  manualSeed(work.seed + 1);
  const embeddings = inputs.map((input) => encoder.forward(input, masksOf(input.sizeOf(0), chunk)));
  objective(embeddings[0]!, embeddings[1]!).backward();
  const names = [...encoder.namedParameters()];
  return Object.fromEntries(
    names.map(([name, parameter], i) => {
      const whole = parameter.grad!;
      return [name, found[i]!.sub(whole).abs().max().itemSync() / whole.abs().max().itemSync()];
    }),
  );
}

void serve({
  prepare(options) {
    setThreads(Number(options['threads']));
    return versions();
  },
  run(options) {
    const [batch, chunks] = [Number(options['batch']), Number(options['chunks'])];
    const chunk = Math.ceil(batch / chunks);
    return scope(() => {
      manualSeed(work.seed);
      const inputs = views(batch);
      clearGradients();
      if (options['ask'] === 'memory') {
        const start = performance.now();
        const result = { ...stepMemory(inputs, chunk) };
        return { seconds: (performance.now() - start) / 1000, items: batch, result };
      }
      const start = performance.now();
      const loss = step(inputs, chunk);
      const seconds = (performance.now() - start) / 1000;
      const result = options['ask'] === 'gradients' ? gradientErrors(inputs, chunk) : fingerprint(loss);
      clearGradients();
      return { seconds, items: batch, result };
    });
  },
});
