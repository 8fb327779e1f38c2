import assert from 'node:assert/strict';
import { torch, type Tensor } from '../../src/torch';
import { Identity, Linear, Module, ReLU, Sequential } from '../../src/nn';
import { BatchNorm1d } from '../../src/norm';
import { probeDepth } from '../../src/norm/depth-probes';
import { ResidualEncoder } from '../../src/models';
import { assertClose, numbers } from '../support/close';

const dtype = 'float64';
const near = (actual: number | null, expected: number, what: string): void =>
  assert.ok(actual !== null && Math.abs(actual - expected) < 1e-10, `${what}: ${actual}, expected ${expected}`);
const lengthOf = (tensor: Tensor): number => Math.sqrt(numbers(tensor).reduce((sum, value) => sum + value * value, 0));

/** Norm and ReLU in place, as residual blocks have them. */
class Block extends Module {
  readonly linear = new Linear({ inFeatures: 3, outFeatures: 4, dtype });
  readonly norm = new BatchNorm1d({ features: 4, dtype });
  readonly relu = new ReLU({ inPlace: true });
  override forward(x: Tensor): Tensor {
    return this.relu.forward(this.norm.forward(this.linear.forward(x)));
  }
}

describe('probeDepth', () => {
  it('gives mean, variance and norm of what each layer gave when it gave it', () => {
    const model = new Sequential({ block: new Block(), last: new Linear({ inFeatures: 4, outFeatures: 2, dtype }) });
    const { linear, norm } = model.at(0) as Block;
    const x = torch.randn([5, 3], { dtype });
    const outputs = [linear.forward(x)];
    outputs.push(norm.forward(outputs[0]!), norm.forward(outputs[0]!).relu());
    outputs.push(model.at(1).forward(outputs[2]!));
    const rows = probeDepth(model, x);
    assert.deepEqual(rows.map(({ name }) => name), ['block.linear', 'block.norm', 'block.relu', 'last']); // prettier-ignore
    assert.deepEqual(rows.map(({ kind }) => kind), ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']); // prettier-ignore
    rows.forEach((row, index) => {
      const values = numbers(outputs[index]!);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      near(row.mean, mean, 'mean');
      near(row.variance, values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length, 'variance');
      near(row.norm, lengthOf(outputs[index]!) / Math.sqrt(5), 'norm');
      assert.deepEqual([row.depth, row.gradientNorm, row.parameterGradientNorm], [index, null, null]);
    });
    assert.equal(rows[0]!.shape, '5 × 4');
  });

  it('gives the norms of gradients by activations and by parameters', () => {
    const model = new Sequential({ block: new Block(), last: new Linear({ inFeatures: 4, outFeatures: 2, dtype }) });
    const { linear, norm } = model.at(0) as Block;
    const x = torch.randn([5, 3], { dtype });
    const weights = torch.randn([5, 2], { dtype });
    const loss = (output: Tensor): Tensor => output.mul(weights).sum();
    const outputs = [linear.forward(x)];
    outputs.push(norm.forward(outputs[0]!));
    outputs.push(outputs[1]!.relu());
    outputs.push(model.at(1).forward(outputs[2]!));
    outputs.forEach((output) => output.retainGrad());
    loss(outputs[3]!).backward();
    const expected = new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter.grad!.clone()]));
    model.zeroGrad();
    const rows = probeDepth(model, x, { loss });
    rows.forEach(({ gradientNorm, name }, index) => near(gradientNorm, lengthOf(outputs[index]!.grad!), name));
    for (const { name, parameterGradientNorm } of rows) {
      const own = [...expected]
        .filter(([path]) => path.startsWith(`${name}.`))
        .map(([, gradient]) => lengthOf(gradient));
      if (own.length === 0) assert.equal(parameterGradientNorm, null);
      else near(parameterGradientNorm, Math.hypot(...own), name);
    }
    assert.ok(model.parameters().every((parameter) => parameter.grad === null));
  });

  it('leaves the model as it was', () => {
    const model = new ResidualEncoder({ inChannels: 1, widths: [4, 8] });
    model.bn1.training = false;
    const before = new Map([...model.stateDict()].map(([name, tensor]) => [name, tensor.clone()]));
    const rows = probeDepth(model, torch.randn([3, 1, 6, 6]), { loss: (y) => y.square().mean(), training: true });
    assert.ok(rows.length > 8 && rows.every(({ gradientNorm }) => gradientNorm !== null));
    for (const [name, tensor] of model.stateDict()) assertClose(tensor, before.get(name)!, { atol: 0, rtol: 0 }, name);
    assert.deepEqual([model.bn1.training, model.training], [false, true]);
    assert.ok(model.modules().every((module) => !Object.hasOwn(module, 'forward')));
    assert.throws(() => probeDepth(model, torch.zeros([1, 2, 6, 6])));
    assert.ok(model.modules().every((module) => !Object.hasOwn(module, 'forward')));
  });

  it('shows a signal that dies out without norms, and one that does not with them', () => {
    const deep = (norms: boolean): Sequential =>
      new Sequential(
        ...Array.from({ length: 8 }, () => [
          new Linear({ inFeatures: 16, outFeatures: 16 }),
          ...(norms ? [new BatchNorm1d({ features: 16 })] : []),
          new ReLU(),
        ]).flat(),
      );
    const last = (norms: boolean): number => probeDepth(deep(norms), torch.randn([32, 16])).at(-1)!.norm;
    assert.ok(last(false) < 1 && last(true) > 2);
  });

  it('asks a predicate, and refuses what it cannot probe', () => {
    const model = new Sequential(new Sequential(new Identity()), new Linear({ inFeatures: 2, outFeatures: 2 }));
    const x = torch.ones([2, 2]);
    assert.deepEqual(
      probeDepth(model, x, { where: (_, path) => path === '0' }).map(({ name }) => name),
      ['0'],
    );
    assert.throws(() => probeDepth(model, x, { where: () => false }), /Sequential called no module/);
    assert.throws(() => probeDepth(model, x, { loss: (y) => y }), /the loss must be one number, found shape \[2, 2\]/);
    model.requiresGrad_(false);
    assert.equal(probeDepth(model, x, { loss: (y) => y.sum() })[1]!.gradientNorm, null);
  });
});
