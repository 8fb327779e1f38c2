import assert from 'node:assert/strict';
import { gradcheck, torch } from '../../src/torch';
import { Linear, Sequential } from '../../src/nn';
import { BatchNorm1d, BatchNorm2d } from '../../src/norm';
import { setDomain, withDomain } from '../../src/norm/domain-batch-norm';
import { DomainBatchNorm1d } from '../../src/norm/domain-batch-norm1d';
import { DomainBatchNorm2d } from '../../src/norm/domain-batch-norm2d';
import { DomainBatchNorm3d } from '../../src/norm/domain-batch-norm3d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

describe('DomainBatchNorm1d and DomainBatchNorm2d', () => {
  it('is a batch norm of its own for each domain, in training and evaluation', () => {
    const norm = new DomainBatchNorm2d({ features: 2, domains: 3, device, dtype });
    const plain = [0, 1, 2].map(() => new BatchNorm2d({ features: 2, device, dtype }));
    for (const domain of [0, 2, 2, 1]) {
      const x = torch.randn([4, 2, 3, 3], { dtype, device }).add(domain);
      norm.domain = domain;
      assertClose(norm.forward(x), plain[domain]!.forward(x), { atol: 0, rtol: 0 });
    }
    norm.eval();
    const x = torch.randn([2, 2, 3, 3], { dtype, device });
    plain.forEach((layer, domain) => {
      const y = withDomain(norm, domain, () => norm.forward(x));
      assertClose(y, layer.eval().forward(x), { atol: 0, rtol: 0 });
    });
    assert.equal(norm.domain, 1);
    const counts = [0, 1, 2].map((domain) => numbers(norm.domains.at(domain).numBatchesTracked!)[0]);
    assert.deepEqual(counts, [1, 1, 2]);
    assert.deepEqual(
      new DomainBatchNorm3d({ features: 2 }).forward(torch.ones([2, 2, 1, 2, 1])).shape,
      [2, 2, 1, 2, 1],
    );
  });

  it('has own or shared scales and shifts', () => {
    const own = new DomainBatchNorm1d({ features: 2, device });
    assert.equal(own.parameters().length, 4);
    const shared = new DomainBatchNorm1d({ features: 2, affineOf: 'shared', device, dtype });
    assert.equal(shared.parameters().length, 2);
    const [weight, bias] = shared.parameters();
    const x = torch.randn([5, 2], { dtype, device }).requiresGrad_();
    setDomain(shared, 1);
    gradcheck((input) => shared.forward(input), [x, weight!, bias!]);
    assert.deepEqual(numbers(shared.domains.at(0).numBatchesTracked!), [0]);
  });

  it('goes on the same after a resume', () => {
    for (const affineOf of ['own', 'shared'] as const) {
      const [a, b] = [0, 1].map(() => new DomainBatchNorm1d({ features: 2, affineOf, device, dtype })) as [
        DomainBatchNorm1d,
        DomainBatchNorm1d,
      ];
      const x = torch.randn([5, 2], { dtype, device });
      for (const domain of [0, 1]) withDomain(a, domain, () => a.forward(x.add(domain)));
      b.loadStateDict(a.stateDict());
      for (const domain of [0, 1]) {
        for (const norm of [a, b]) setDomain(norm, domain);
        assertClose(b.forward(x), a.forward(x), { atol: 0, rtol: 0 });
        assertClose(b.eval().forward(x), a.eval().forward(x), { atol: 0, rtol: 0 });
        for (const norm of [a, b]) norm.train();
      }
      assert.ok(a.stateDict().has('domains.1.running_mean'));
    }
  });

  it('is chosen for a whole model, and given back when the body throws', () => {
    const [first, second] = [0, 1].map(() => new DomainBatchNorm1d({ features: 2 })) as [
      DomainBatchNorm1d,
      DomainBatchNorm1d,
    ];
    const model = new Sequential(new Linear({ inFeatures: 2, outFeatures: 2 }), first, new Sequential(second));
    setDomain(second, 1);
    assert.throws(() =>
      withDomain(model, 1, () => {
        assert.deepEqual([first.domain, second.domain], [1, 1]);
        throw new Error('inside');
      }),
    );
    assert.deepEqual([first.domain, second.domain], [0, 1]);
  });

  it('refuses domains that do not exist and models without it', () => {
    const model = new Sequential(
      new DomainBatchNorm1d({ features: 2, domains: 3 }),
      new DomainBatchNorm1d({ features: 2 }),
    );
    assert.throws(
      () => setDomain(model, 2),
      /DomainBatchNorm1d: there is no domain 2: domains are numbered from 0 to 1/,
    );
    assert.equal((model.at(0) as DomainBatchNorm1d).domain, 0);
    assert.throws(
      () => setDomain(new BatchNorm1d({ features: 2 }), 0),
      /BatchNorm1d has no domain-specific batch norm/,
    );
    assert.throws(() => new DomainBatchNorm1d({ features: 2, domains: 0 }), /domains/);
    assert.throws(() => model.forward(torch.zeros([1, 2])), /BatchNorm1d: training needs more than one value/);
  });
});
