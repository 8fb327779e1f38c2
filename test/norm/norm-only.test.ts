import assert from 'node:assert/strict';
import { Generator, scope, torch } from '../../src/torch';
import { Identity, Linear, Sequential } from '../../src/nn';
import { BatchNorm1d } from '../../src/norm';
import { decayGroups, isNorm, normParameters, trainNormsOnly } from '../../src/norm/norm-only';
import { UnMixTns } from '../../src/norm/unmix-tns';
import { CholeskyWhitening } from '../../src/norm/whitening';
import { DomainBatchNorm1d } from '../../src/norm/domain-batch-norm1d';
import { AdamW, SGD } from '../../src/optim';
import { numbers } from '../support/close';

const build = (): Sequential =>
  new Sequential({
    first: new Linear({ inFeatures: 3, outFeatures: 4 }),
    norm: new BatchNorm1d({ features: 4 }),
    inner: new Sequential(new DomainBatchNorm1d({ features: 4 })),
    last: new Linear({ inFeatures: 4, outFeatures: 2 }),
  });

class Odd extends BatchNorm1d {}

describe('normParameters, trainNormsOnly and decayGroups', () => {
  it('knows norms by their classes', () => {
    const norms = [new Odd({ features: 1 }), new CholeskyWhitening({ features: 1 })];
    for (const norm of [...norms, new UnMixTns(new BatchNorm1d({ features: 1 }))]) assert.ok(isNorm(norm));
    for (const other of [new Linear({ inFeatures: 1, outFeatures: 1 }), new Identity(), build()])
      assert.ok(!isNorm(other));
  });

  it('finds the scales and shifts of all norms by path', () => {
    assert.deepEqual(
      [...normParameters(build()).keys()],
      [
        'norm.weight',
        'norm.bias',
        ...[0, 1].flatMap((d) => ['weight', 'bias'].map((name) => `inner.0.domains.${d}.${name}`)),
      ],
    );
  });

  it('freezes all else, so that a step changes norms and the layers named', () => {
    const model = build();
    model
      .forward(torch.randn([8, 3]))
      .sum()
      .backward();
    const parameters = trainNormsOnly(model, { also: [model.at(-1)] });
    assert.equal(model.namedParameters().get('first.weight')!.grad, null);
    model.zeroGrad();
    const before = new Map([...model.namedParameters()].map(([name, parameter]) => [name, numbers(parameter)]));
    const optimizer = new SGD(parameters, { lr: 1 });
    scope(() => {
      model
        .forward(torch.randn([8, 3]))
        .square()
        .sum()
        .backward();
      optimizer.step();
    });
    const changed = [...model.namedParameters()]
      .filter(([name, parameter]) => numbers(parameter).some((value, index) => value !== before.get(name)![index]))
      .map(([name]) => name);
    // A shift before another norm has no effect, so whether it changes is up to rounding.
    assert.ok(!changed.includes('first.weight') && !changed.includes('first.bias'));
    for (const name of ['norm.weight', 'inner.0.domains.0.weight', 'last.weight', 'last.bias']) {
      assert.ok(changed.includes(name), name);
    }
    assert.equal(model.namedParameters().get('first.weight')!.grad, null);
  });

  it('draws scales from [0, 1) when told to', () => {
    const [a, b] = [3, 3].map((seed) => {
      const model = new Sequential(new BatchNorm1d({ features: 1000 }));
      trainNormsOnly(model, { start: 'uniform', generator: new Generator({ seed }) });
      return model.parameters().map(numbers) as [number[], number[]];
    });
    assert.deepEqual(a, b);
    const [weight, bias] = a!;
    assert.ok(weight.every((value) => value >= 0 && value < 1));
    assert.ok(Math.abs(weight.reduce((sum, value) => sum + value, 0) / 1000 - 0.5) < 0.05);
    assert.ok(bias.every((value) => value === 0));
  });

  it('refuses models without norms and modules of others, before anything changes', () => {
    const plain = new Sequential(new Linear({ inFeatures: 1, outFeatures: 1 }));
    assert.throws(() => trainNormsOnly(plain), /Sequential has no norm with a scale or a shift/);
    const model = build();
    assert.throws(() => trainNormsOnly(model, { also: [plain] }), /also names a Sequential that is not part/);
    assert.ok(model.parameters().every((parameter) => parameter.requiresGrad));
  });

  it('keeps weight decay from norms, and from biases unless told', () => {
    const model = build();
    const [decayed, spared] = decayGroups(model, { weightDecay: 0.1 });
    const names = new Map([...model.namedParameters()].map(([name, parameter]) => [parameter, name]));
    assert.deepEqual(
      decayed!.parameters.map((parameter) => names.get(parameter)),
      ['first.weight', 'last.weight'],
    );
    assert.equal(decayed!.weightDecay, 0.1);
    assert.equal(spared!.weightDecay, 0);
    assert.equal(decayed!.parameters.length + spared!.parameters.length, names.size);
    assert.equal(decayGroups(model, { weightDecay: 0.1, biases: true })[0]!.parameters.length, 4);
    trainNormsOnly(model);
    assert.equal(decayGroups(model, { weightDecay: 0.1 }).length, 1);
    assert.equal(new AdamW(decayGroups(model, { weightDecay: 0.1 })).groups[0]!.weightDecay, 0);
  });
});
