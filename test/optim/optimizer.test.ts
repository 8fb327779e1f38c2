import assert from 'node:assert/strict';
import { memory, scope, torch, type Tensor } from '../../src/torch';
import { Linear, Parameter } from '../../src/nn';
import { AdamW, SGD, type AdamWOptions, type Optimizer, type SGDOptions } from '../../src/optim';
import { assertClose, largestDifference, numbers } from '../support/close';
import { device } from '../support/device';
import { golden } from '../support/golden';

interface Values {
  steps: number;
  cases: Record<string, { class: 'SGD' | 'AdamW'; lr: number; weight_decay?: number; [option: string]: unknown }>;
}

const set = golden<Values>('optimizers');
const { steps } = set.values;
const start = () => [0, 1, 2].map((index) => new Parameter(set.tensors[`start.${index}`]!.clone()));
const gradientOf = (step: number, index: number): Tensor | null =>
  step === 2 && index === 1 ? null : set.tensors[`gradient.${step}.${index}`]!.clone();

function make(name: string, parameters: Parameter[]): Optimizer<SGDOptions> | Optimizer<AdamWOptions> {
  const { class: kind, weight_decay: weightDecay, lr, ...rest } = set.values.cases[name]!;
  const groups = [{ parameters: parameters.slice(0, 2) }, { parameters: parameters.slice(2), lr: lr * 3 }];
  const options = { lr, weightDecay, ...rest };
  return kind === 'SGD' ? new SGD(groups, options) : new AdamW(groups, options);
}

function run(optimizer: { step(): void }, parameters: Parameter[], from = 0, to = steps): void {
  for (let step = from; step < to; step++) {
    parameters.forEach((parameter, index) => (parameter.grad = gradientOf(step, index)));
    optimizer.step();
  }
}

describe('SGD and AdamW', () => {
  for (const name of Object.keys(set.values.cases)) {
    it(`equals PyTorch over ${steps} steps, with two groups and a missing gradient: ${name}`, () => {
      const parameters = start();
      const optimizer = make(name, parameters);
      run(optimizer, parameters, 0, 1);
      parameters.forEach((p, i) => assertClose(p, set.tensors[`${name}.0.${i}`]!, { atol: 1e-6 }, `step 0, ${i}`));
      run(optimizer, parameters, 1);
      parameters.forEach((p, i) =>
        assertClose(p, set.tensors[`${name}.${steps - 1}.${i}`]!, { atol: 1e-6 }, `end, ${i}`),
      );
      const expected = set.under(`${name}.state.`);
      const { tensors } = optimizer.stateDict();
      assert.deepEqual([...tensors.keys()].sort(), [...expected.keys()].sort());
      for (const [key, tensor] of expected) assertClose(tensors.get(key)!, tensor, { atol: 1e-6 }, key);
    });

    it(`goes on exactly from a state dict: ${name}`, () => {
      const whole = start();
      const uninterrupted = make(name, whole);
      run(uninterrupted, whole);

      const first = start();
      const before = make(name, first);
      run(before, first, 0, 3);
      const resumed = first.map((parameter) => new Parameter(parameter.detach().clone()));
      const after = make(name, resumed);
      const { tensors, values } = before.stateDict();
      const copied = new Map([...tensors].map(([key, tensor]) => [key, tensor.clone()]));
      after.loadStateDict({ tensors: copied, values: JSON.parse(JSON.stringify(values)) });
      run(after, resumed, 3);
      resumed.forEach((parameter, index) => assert.deepEqual(numbers(parameter), numbers(whole[index]!)));
    });

    it(`does not depend on the order of elements in memory: ${name}`, () => {
      const [plain, mixed] = [start(), start()];
      mixed[1]!.setData(mixed[1]!.detach().contiguous({ memoryFormat: 'channels_last' }));
      mixed[0]!.setData(mixed[0]!.detach().t().contiguous().t());
      run(make(name, plain), plain);
      const optimizer = make(name, mixed);
      // The gradients stay contiguous, so parameters and gradients differ in order.
      run(optimizer, mixed);
      plain.forEach((parameter, index) => {
        assert.ok(largestDifference(parameter, mixed[index]!) < 1e-6, `parameter ${index}`);
      });
      assert.ok(mixed[1]!.isContiguous('channels_last'));
    });
  }

  it('goes on when the parameters change their order in memory after a step', () => {
    const [plain, moved] = [start(), start()];
    const [a, b] = [new AdamW(plain), new AdamW(moved)];
    run(a, plain, 0, 2);
    run(b, moved, 0, 2);
    moved[1]!.setData(moved[1]!.detach().contiguous({ memoryFormat: 'channels_last' }));
    run(a, plain, 2);
    run(b, moved, 2);
    assert.ok(largestDifference(plain[1]!, moved[1]!) < 1e-6);
  });

  it('treats complex parameters as twice as many real ones', () => {
    for (const kind of [SGD, AdamW]) {
      const real = new Parameter(torch.tensor([[1, 2], [3, -4]], { device })); // prettier-ignore
      const complex = new Parameter(torch.viewAsComplex(real.detach().clone()));
      const gradient = torch.tensor([[0.5, -1], [2, 0.1]], { device }); // prettier-ignore
      const optimizers = [new kind([real], { lr: 0.1 }), new kind([complex], { lr: 0.1 })];
      for (let step = 0; step < 2; step++) {
        real.grad = gradient.clone();
        complex.grad = torch.viewAsComplex(gradient.clone());
        optimizers.forEach((optimizer) => optimizer.step());
      }
      assertClose(complex.detach().viewAsReal(), real.detach());
    }
  });

  it('updates half-precision parameters', () => {
    for (const dtype of ['bfloat16', 'float64'] as const) {
      const parameter = new Parameter(torch.ones([4], { dtype, device }));
      const optimizer = new SGD([parameter], { lr: 0.5, momentum: 0.9 });
      for (let step = 0; step < 2; step++) {
        parameter.grad = torch.full([4], 0.25, { dtype, device });
        optimizer.step();
      }
      assertClose(parameter.to('float32'), torch.full([4], 1 - 0.125 - 0.5 * 0.475), { atol: 5e-3 });
    }
  });

  it('reads the learning rate of each group anew in every step', () => {
    const parameter = new Parameter(torch.zeros([1], { device }));
    const optimizer = new SGD([parameter], { lr: 1 });
    for (const lr of [1, 10]) {
      optimizer.groups[0]!.lr = lr;
      parameter.grad = torch.ones([1], { device });
      optimizer.step();
    }
    assert.deepEqual(numbers(parameter), [-11]);
    optimizer.zeroGrad();
    assert.equal(parameter.grad, null);
  });

  it('does not leak, and frees its state', () => {
    const layer = new Linear({ inFeatures: 4, outFeatures: 4, device });
    const before = memory().liveTensors;
    const optimizer = new AdamW(layer.parameters());
    const step = () =>
      scope(() => {
        layer.zeroGrad();
        layer
          .forward(torch.ones([2, 4], { device }))
          .sum()
          .backward();
        optimizer.step();
      });
    step();
    const after = memory().liveTensors;
    for (let index = 0; index < 10; index++) step();
    assert.equal(memory().liveTensors, after);
    optimizer.dispose();
    assert.equal(memory().liveTensors, before);
  });

  it('refuses parameters that make no sense', () => {
    const parameter = new Parameter(torch.zeros([2]));
    assert.throws(() => new SGD([]), /SGD: there are no parameters/);
    assert.throws(() => new SGD([parameter, parameter]), /a parameter of shape \[2\] is given twice/);
    assert.throws(() => new SGD([torch.zeros([1])] as unknown as Parameter[]), /only a Parameter|not iterable/);
    assert.throws(() => new SGD([{ parameters: [parameter] }, { parameters: [parameter] }]), /given twice/);
  });

  it('refuses options that make no sense', () => {
    const parameters = [new Parameter(torch.zeros([2]))];
    assert.throws(() => new SGD(parameters, { lr: -1 }), /SGD: lr must be a number of at least 0, found -1/);
    assert.throws(() => new SGD(parameters, { nesterov: true }), /nesterov needs a momentum above 0/);
    assert.throws(() => new AdamW(parameters, { betas: [0.9, 1] }), /AdamW: betas\[1\]/);
    assert.throws(() => new AdamW(parameters, { lr: NaN }), /AdamW: lr/);
  });

  it('refuses a state dict that does not fit, before anything changes', () => {
    const parameters = start();
    const optimizer = new AdamW(parameters);
    run(optimizer, parameters, 0, 1);
    const { tensors, values } = optimizer.stateDict();
    const saved = numbers(tensors.get('0.exp_avg')!);
    const load = (changes: (state: Map<string, Tensor>) => void, other = values) => {
      const state = new Map(tensors);
      changes(state);
      return () => optimizer.loadStateDict({ tensors: state, values: other });
    };
    assert.throws(
      load((state) => state.set('0.exp_avg', torch.zeros([1]))),
      /'0.exp_avg' must have shape \[3, 4\], found \[1\]/,
    );
    assert.throws(
      load((state) => state.set('9.exp_avg', torch.zeros([1]))),
      /unexpected tensor '9.exp_avg'/,
    );
    assert.throws(
      load((state) => state.delete('1.step')),
      /parameter 1 needs the state step, exp_avg, exp_avg_sq, found/,
    );
    assert.throws(() => new SGD(parameters).loadStateDict({ tensors, values }), /belong to AdamW, not to SGD/);
    const { groups } = values as { groups: Record<string, never>[] };
    const changed = (change: object) => ({ optimizer: 'AdamW', groups: [{ ...groups[0], ...change }] });
    assert.throws(
      load(() => undefined, { optimizer: 'AdamW', groups: [] }),
      /expected 1 groups, found 0/,
    );
    assert.throws(
      load(() => undefined, changed({ parameters: [0] })),
      /group 0 has 3 parameters, found 1/,
    );
    assert.throws(
      load(() => undefined, changed({ lr: 'fast' })),
      /group 0 needs a number 'lr', found "fast"/,
    );
    assert.throws(
      load(() => undefined, changed({ lr: -1 })),
      /lr must be a number of at least 0/,
    );
    assert.deepEqual(numbers(optimizer.stateDict().tensors.get('0.exp_avg')!), saved);
  });
});
