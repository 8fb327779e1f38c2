import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { Parameter } from '../../src/nn';
import {
  InvalidArgumentError,
  memory,
  ops,
  scope,
  setPrintOptions,
  torch,
  type DType,
  type PrintChanges,
  type Tensor,
} from '../../src/torch';
import { camelCase } from '../../src/torch/names';
import { golden } from '../support/golden';

interface Case {
  source: { dtype: DType } & ({ shape: number[]; data: string } | { count: number; scale: number });
  steps: [name: string, ...args: unknown[]][];
  options: Record<string, unknown>;
  text: string;
}

function make({ source, steps }: Case): Tensor {
  const { dtype } = source;
  const start =
    'data' in source
      ? torch.fromBytes(Buffer.from(source.data, 'base64'), source.shape, dtype)
      : torch.arange(source.count, { dtype: 'float64' }).mul(source.scale).to(dtype);
  return steps.reduce((tensor, [name, ...args]) => {
    const method = (tensor as unknown as Record<string, (...args: unknown[]) => Tensor>)[camelCase(name)];
    return method ? method.apply(tensor, args) : (ops.aten![name]!(tensor, ...args) as Tensor);
  }, start);
}

const ourNames: Record<string, string> = { edgeitems: 'edgeItems', linewidth: 'lineWidth', sci_mode: 'sciMode' };

const printAll = (...values: unknown[]): string[] => values.map((value) => String(value));

describe('the text of tensors', () => {
  afterEach(() => {
    setPrintOptions({ profile: 'default' });
  });

  it('is what PyTorch prints', () => {
    const { cases } = golden<{ cases: Case[] }>('format').values;
    assert.ok(cases.length > 300);
    for (const one of cases) {
      setPrintOptions({ profile: 'default' });
      setPrintOptions(
        Object.fromEntries(Object.entries(one.options).map(([name, value]) => [ourNames[name] ?? name, value])),
      );
      scope(() => {
        assert.equal(String(make(one)), one.text, JSON.stringify([one.steps, one.options]));
      });
    }
  });

  it('tells that gradients flow, the class of a tensor of another one, and that it was disposed', () => {
    const x = torch.ones([2], { requiresGrad: true });
    const texts = printAll(x, x.mul(x), new Parameter(torch.zeros([1])));
    assert.deepEqual(texts, [
      'tensor([1., 1.], requires_grad=True)',
      'tensor([1., 1.], grad_fn=<MulBackward0>)',
      'Parameter containing:\ntensor([0.], requires_grad=True)',
    ]);
    x.dispose();
    assert.deepEqual(
      [String(x), inspect(x), inspect([x])],
      Array(2).fill('Tensor(disposed)').concat('[ Tensor(disposed) ]'),
    );
  });

  it('stands in for elements that cannot be read one by one', () => {
    const packed = ops.aten!.view!(torch.zeros([2, 3], { dtype: 'uint8' }), 'bits8');
    assert.equal(String(packed), 'tensor(..., size=(2, 3), dtype=torch.bits8)');
  });

  it('reads the edges of large tensors only', () => {
    // 40 GB each, were they read.
    const expanded = torch
      .tensor([[1], [2]])
      .reshape([2, 1, 1])
      .expand([2, 50_000, 100_000]);
    const started = performance.now();
    assert.match(String(expanded), /^tensor\(\[\[\[1\., 1\., 1\., {2}\.\.\., 1\., 1\., 1\.\],\n/);
    const strided = torch.arange(2_000_000).reshape([1000, 2000]).t().slice(0, 1, null, 7);
    assert.equal(
      String(strided.slice(1, 3, null, 2)),
      [
        'tensor([[   6001,   10001,   14001,  ..., 1990001, 1994001, 1998001],',
        '        [   6008,   10008,   14008,  ..., 1990008, 1994008, 1998008],',
        '        [   6015,   10015,   14015,  ..., 1990015, 1994015, 1998015],',
        '        ...,',
        '        [   7982,   11982,   15982,  ..., 1991982, 1995982, 1999982],',
        '        [   7989,   11989,   15989,  ..., 1991989, 1995989, 1999989],',
        '        [   7996,   11996,   15996,  ..., 1991996, 1995996, 1999996]])',
      ].join('\n'),
    );
    assert.ok(performance.now() - started < 2000);
  });

  it('leaves no tensors behind', () => {
    const tensors = [torch.zeros([50, 60]), torch.eye(3).toSparse(), torch.eye(3).toSparseCsr(), torch.zeros([])];
    tensors.push(torch.ones([2], { dtype: 'complex32' }), torch.zeros([2], { requiresGrad: true }));
    tensors.push(ops.aten!.to_mkldnn!(torch.ones([2, 2])) as Tensor);
    const before = memory().liveTensors;
    for (const tensor of tensors) inspect([tensor, { tensor }]);
    assert.equal(memory().liveTensors, before);
  });
});

describe('inspect', () => {
  const x = torch.tensor([
    [1, 2],
    [3, 4],
  ]);

  it('shows a tensor by itself as PyTorch does', () => {
    assert.equal(inspect(x), 'tensor([[1., 2.],\n        [3., 4.]])');
    assert.equal(inspect(x, { depth: 0 }), inspect(x));
  });

  it('keeps the rows of members below each other', () => {
    assert.equal(
      inspect({ weight: x, parts: [x, torch.tensor([1])] }),
      `{
  weight: tensor(
    [[1., 2.],
     [3., 4.]]),
  parts: [
    tensor(
      [[1., 2.],
       [3., 4.]]),
    tensor([1.])
  ]
}`,
    );
    assert.equal(inspect({ x }, { depth: Infinity }), inspect({ x }));
    assert.equal(inspect(new Map([['x', new Parameter(x)]])).split('\n')[1], "  'x' => Parameter containing:");
  });

  it('is short where the depth ends', () => {
    const deep = { x, half: torch.zeros([], { dtype: 'float16', device: 'meta' }), parameter: new Parameter(x) };
    assert.equal(
      inspect(deep, { depth: 0, breakLength: Infinity }),
      '{ x: Tensor [2, 2] float32, half: Tensor [] float16 meta, parameter: Parameter [2, 2] float32 }',
    );
    const gone = torch.zeros([1]);
    gone.dispose();
    assert.equal(inspect({ gone }, { depth: 0 }), '{ gone: Tensor(disposed) }');
  });
});

describe('setPrintOptions', () => {
  const x = torch.tensor([1.23456, 20]);

  afterEach(() => {
    setPrintOptions({ profile: 'default' });
  });

  it('changes what is given and keeps the rest, until a profile replaces all', () => {
    setPrintOptions({ precision: 1 });
    setPrintOptions({ sciMode: true });
    assert.equal(String(x), 'tensor([1.2e+00, 2.0e+01])');
    setPrintOptions({ sciMode: undefined, precision: 2 });
    assert.equal(String(x), 'tensor([1.23e+00, 2.00e+01])');
    setPrintOptions({ sciMode: null });
    assert.equal(String(x), 'tensor([ 1.23, 20.00])');
    setPrintOptions({ profile: 'default' });
    assert.equal(String(x), 'tensor([ 1.2346, 20.0000])');
  });

  const wrong: [object, RegExp][] = [
    [{ precision: -1 }, /precision is a whole number from 0 to 99, not -1/],
    [{ precision: 100 }, /precision is a whole number/],
    [{ threshold: NaN }, /threshold is a number from 0, not NaN/],
    [{ edgeItems: 1.5 }, /edgeItems is a whole number from 0, not 1.5/],
    [{ lineWidth: 0 }, /lineWidth is a whole number from 1, not 0/],
    [{ sciMode: 'yes' }, /sciMode is true, false or null, not yes/],
    [{ profile: 'long' }, /profile is one of default, short, full, not long/],
    [{ linewidth: 3 }, /linewidth is no print option; they are profile, precision, threshold, /],
  ];
  for (const [changes, message] of wrong) {
    it(`refuses ${inspect(changes)}`, () => {
      const given = { edgeItems: 1, ...changes } as PrintChanges;
      assert.throws(
        () => {
          setPrintOptions(given);
        },
        (error: Error) => error instanceof InvalidArgumentError && message.test(error.message),
      );
      assert.equal(String(torch.zeros([1001])), 'tensor([0., 0., 0.,  ..., 0., 0., 0.])');
    });
  }
});

describe('a tensor as JSON', () => {
  it('is nested arrays', () => {
    assert.equal(
      JSON.stringify({ x: torch.tensor([[1.5, -2]]), flag: torch.tensor(true) }),
      '{"x":[[1.5,-2]],"flag":true}',
    );
    assert.deepEqual(torch.zeros([2, 0]).toJSON(), [[], []]);
    assert.deepEqual(torch.ones([1], { dtype: 'complex64' }).toJSON(), [[1, 0]]);
  });

  it('has null for what is not finite, and strings for integers that no number holds', () => {
    assert.deepEqual(torch.tensor([NaN, Infinity, 1]).toJSON(), [null, null, 1]);
    assert.deepEqual(torch.tensor([2n ** 53n - 1n, -(2n ** 60n), 2n ** 53n]).toJSON(), [
      2 ** 53 - 1,
      '-1152921504606846976',
      '9007199254740992',
    ]);
  });
});
