import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Identity, Linear, Module, ModuleList, Sequential, type AnyModule } from '../../src/nn';
import { BatchNorm1d, BatchNorm2d } from '../../src/norm';
import {
  convertNorms,
  toBatchNorm,
  toDomainBatchNorm,
  toGhostBatchNorm,
  toGroupNorm,
  toIdentity,
  toInstanceNorm,
  toNorm,
  toSplitBatchNorm,
} from '../../src/norm/convert-norms';
import { DomainBatchNorm1d } from '../../src/norm/domain-batch-norm1d';
import { withDomain } from '../../src/norm/domain-batch-norm';
import { FilterResponseNorm } from '../../src/norm/filter-response-norm';
import { GhostBatchNorm2d } from '../../src/norm/ghost-batch-norm2d';
import { GroupNorm } from '../../src/norm/group-norm';
import { InstanceNorm2d } from '../../src/norm/instance-norm2d';
import { SplitBatchNorm2d } from '../../src/norm/split-batch-norm2d';
import { ProjectionHead, ResidualEncoder } from '../../src/models';
import { assertClose, numbers } from '../support/close';

/** A small network whose norms have seen a batch. */
function trained(): ResidualEncoder {
  const model = new ResidualEncoder({ inChannels: 1, widths: [4, 8] });
  model.forward(torch.randn([6, 1, 6, 6]).add(1));
  return model;
}

const kinds = (model: AnyModule): string[] =>
  model
    .modules()
    .map((module) => module.constructor.name)
    .filter((name) => name.includes('Norm'));

describe('convertNorms', () => {
  it('converts every norm, in properties and lists, keeping parameters, statistics and mode', () => {
    const model = trained();
    const before = new Map([...model.stateDict()].map(([name, tensor]) => [name, tensor.clone()]));
    const x = torch.randn([4, 1, 6, 6]);
    const expected = model.eval().forward(x);
    const count = kinds(model).length;
    assert.equal(convertNorms(model, toSplitBatchNorm({ splits: 2 })), model);
    assert.deepEqual(kinds(model), Array<string>(count).fill('SplitBatchNorm2d'));
    assert.deepEqual([...model.stateDict().keys()], [...before.keys()]);
    for (const [name, tensor] of model.stateDict()) assertClose(tensor, before.get(name)!, { atol: 0, rtol: 0 }, name);
    assert.ok(model.modules().every((module) => !module.training));
    assertClose(model.forward(x), expected, { atol: 0, rtol: 0 });
    convertNorms(model, toBatchNorm());
    assertClose(model.forward(x), expected, { atol: 0, rtol: 0 });
  });

  it('has the common kinds ready', () => {
    const make = (): BatchNorm2d => new BatchNorm2d({ features: 4, eps: 0.5, momentum: 0.3, dtype: 'float64' });
    const one = (to: Parameters<typeof convertNorms>[1]): AnyModule => convertNorms<AnyModule>(make(), to);
    const ghost = one(toGhostBatchNorm({ ghostSize: 3 })) as GhostBatchNorm2d;
    assert.ok(ghost instanceof GhostBatchNorm2d);
    assert.deepEqual([ghost.eps, ghost.momentum, ghost.ghostSize, ghost.weight!.dtype], [0.5, 0.3, 3, 'float64']);
    const group = one(toGroupNorm((features) => features / 2)) as GroupNorm;
    assert.deepEqual([group.groups, group.eps], [2, 0.5]);
    assert.ok(one(toInstanceNorm()) instanceof InstanceNorm2d);
    assert.ok(one(toIdentity()) instanceof Identity);
    assert.ok(one(toNorm(FilterResponseNorm)) instanceof FilterResponseNorm);
    assert.equal((one(toNorm({ '2d': SplitBatchNorm2d }, { splits: 5 })) as SplitBatchNorm2d).splits, 5);
    const plain = convertNorms<AnyModule>(new BatchNorm1d({ features: 2, affine: false }), toGroupNorm(1)) as GroupNorm;
    assert.equal(plain.weight, null);
  });

  it('gives each domain the old state, and takes that of the domain in use back', () => {
    const old = new BatchNorm1d({ features: 2 });
    old.forward(torch.randn([5, 2]).add(3));
    const dual = convertNorms<AnyModule>(old, toDomainBatchNorm()) as DomainBatchNorm1d;
    const x = torch.randn([3, 2]);
    for (const domain of [0, 1]) {
      assertClose(
        withDomain(dual, domain, () => dual.eval().forward(x)),
        old.eval().forward(x),
        { atol: 0 },
      );
    }
    dual.train();
    withDomain(dual, 1, () => dual.forward(torch.randn([5, 2]).sub(7)));
    dual.domain = 1;
    const back = convertNorms<AnyModule>(dual, toBatchNorm()) as BatchNorm1d;
    assertClose(back.runningMean!, dual.domains.at(1).runningMean!, { atol: 0, rtol: 0 });
    assert.deepEqual(numbers(back.numBatchesTracked!), [2]);
  });

  it('asks a predicate, and calls a function of your own', () => {
    const model = trained();
    convertNorms(model, toGroupNorm(2), { where: (_, path) => path.startsWith('stages.1') });
    assert.deepEqual(new Set(kinds(model)), new Set(['BatchNorm2d', 'GroupNorm']));
    assert.ok(model.bn1 instanceof BatchNorm2d);
    const paths: string[] = [];
    convertNorms(model, (norm, path) => {
      paths.push(path);
      return norm instanceof GroupNorm ? norm : new Identity();
    });
    assert.deepEqual(new Set(kinds(model)), new Set(['GroupNorm']));
    assert.ok(paths.includes('bn1') && paths.includes('stages.0.0.bn2'));
  });

  it('converts a norm that stands in several places once, and keeps what is frozen so', () => {
    class Twice extends Module {
      readonly first = new BatchNorm1d({ features: 2 });
      readonly again = this.first;
      readonly list = new ModuleList<Module>([this.first]);
      override forward(x: ReturnType<typeof torch.zeros>) {
        return this.again.forward(this.first.forward(x));
      }
    }
    const model = new Twice();
    model.first.weight!.requiresGrad_(false);
    convertNorms(model, toNorm(GroupNorm, { groups: 2 }));
    assert.ok((model.first as AnyModule) instanceof GroupNorm);
    assert.equal(model.again, model.first);
    assert.equal(model.list.at(0), model.first);
    assert.deepEqual([model.first.weight!.requiresGrad, model.first.bias!.requiresGrad], [false, true]);
  });

  it('converts the norms of lists of modules of a class of their own', () => {
    const head = new ProjectionHead({ inputSize: 2, norm: (features) => new BatchNorm1d({ features }) });
    assert.equal(convertNorms(head, toIdentity()), head);
    assert.ok(head.at(1) instanceof Identity);
  });

  it('leaves a model as it was if a norm stands where it cannot be replaced', () => {
    class Closed extends Module {
      readonly bn = new BatchNorm1d({ features: 2 });
      readonly #hidden = new BatchNorm1d({ features: 2 });
      override namedChildren(): Map<string, AnyModule> {
        return new Map([...super.namedChildren(), ['hidden', this.#hidden]]);
      }
      override forward(x: ReturnType<typeof torch.zeros>) {
        return this.#hidden.forward(this.bn.forward(x));
      }
    }
    const model = new Closed();
    const { bn } = model;
    assert.throws(() => convertNorms(model, toIdentity()), /Closed holds no child 'hidden' that can be replaced/);
    assert.equal(model.bn, bn);
  });

  it('refuses what it cannot do, before anything changes', () => {
    const plain = new Sequential(new Linear({ inFeatures: 1, outFeatures: 1 }));
    assert.throws(() => convertNorms(plain, toBatchNorm()), /Sequential has no norm to convert/);
    const model = trained();
    assert.throws(() => convertNorms(model, toGroupNorm(3)), /3 groups do not divide 4 channels/);
    assert.throws(() => convertNorms(model, toBatchNorm(), { where: () => false }), /none that where lets through/);
    assert.deepEqual(new Set(kinds(model)), new Set(['BatchNorm2d']));
    const grouped = convertNorms(model, toGroupNorm(2));
    assert.throws(
      () => convertNorms(grouped, toBatchNorm()),
      /'bn1' is a GroupNorm, from which it does not follow which of BatchNorm1d/,
    );
    convertNorms(grouped, toNorm(BatchNorm2d));
    assert.deepEqual(new Set(kinds(model)), new Set(['BatchNorm2d']));
  });
});
