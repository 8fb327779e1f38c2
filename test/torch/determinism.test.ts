import assert from 'node:assert/strict';
import {
  cudnn,
  getFloat32MatmulPrecision,
  InvalidArgumentError,
  isDeterministic,
  setDeterministic,
  setFloat32MatmulPrecision,
  torch,
  TorchError,
} from '../../src/torch';

/** An operator that has no deterministic form. */
function put(): void {
  const at = torch.tensor([1], { dtype: 'int64' });
  torch.zeros([4]).put_(at, torch.tensor([2]));
}

describe('deterministic mode', () => {
  afterEach(() => {
    setDeterministic(false);
  });

  it('refuses operators that have no deterministic form', () => {
    assert.equal(isDeterministic(), false);
    put();
    setDeterministic(true);
    assert.equal(isDeterministic(), true);
    assert.throws(
      put,
      (error: unknown) => error instanceof TorchError && /put_ does not have a deterministic/.test(error.message),
    );
    setDeterministic(false);
    put();
  });

  it('warns of them where that is asked for', async () => {
    setDeterministic(true, { warnOnly: true });
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
    put();
    assert.match((await warned).message, /put_ does not have a deterministic/);
  });

  it('fills new memory', () => {
    setDeterministic(true);
    assert.deepEqual(torch.empty([2, 2]).toArraySync(), [
      [NaN, NaN],
      [NaN, NaN],
    ]);
  });

  it('refuses what is neither true nor false', () => {
    assert.throws(() => {
      setDeterministic(1 as never);
    }, /deterministic mode is true or false, not 1/);
    assert.throws(() => {
      setDeterministic(true, { warnOnly: 'yes' as never });
    }, InvalidArgumentError);
    assert.equal(isDeterministic(), false);
  });
});

describe('cudnn', () => {
  it('has switches that move apart from each other', () => {
    const names = ['benchmark', 'deterministic', 'allowTF32'] as const;
    const state = (): boolean[] => names.map((name) => cudnn[name]);
    const before = state();
    assert.deepEqual(before, [false, false, true]);
    try {
      for (const [i, name] of names.entries()) {
        cudnn[name] = !before[i];
        assert.deepEqual(
          state(),
          before.map((on, j) => (i === j ? !on : on)),
        );
        cudnn[name] = before[i]!;
        assert.deepEqual(state(), before);
      }
      assert.throws(() => {
        cudnn.benchmark = 1 as never;
      }, /cudnn.benchmark is true or false/);
    } finally {
      for (const [i, name] of names.entries()) cudnn[name] = before[i]!;
    }
  });
});

describe('the precision of float32 products', () => {
  afterEach(() => {
    setFloat32MatmulPrecision('highest');
  });

  it('is what was set, the highest at first', () => {
    assert.equal(getFloat32MatmulPrecision(), 'highest');
    for (const precision of ['medium', 'high', 'highest'] as const) {
      setFloat32MatmulPrecision(precision);
      assert.equal(getFloat32MatmulPrecision(), precision);
    }
  });

  it('is one of three', () => {
    setFloat32MatmulPrecision('high');
    assert.throws(() => {
      setFloat32MatmulPrecision('low' as never);
    }, /'highest', 'high', 'medium', not 'low'/);
    assert.equal(getFloat32MatmulPrecision(), 'high');
  });
});
