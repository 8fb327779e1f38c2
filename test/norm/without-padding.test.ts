import assert from 'node:assert/strict';
import { BatchNorm1d, PowerNorm, withoutPadding } from '../../src/norm';
import { gradcheck, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const lengths = [4, 1, 3];
const [samples, longest, features] = [3, 4, 5];
const mask = (): Tensor =>
  torch.tensor(
    lengths.map((length) => Array.from({ length: longest }, (_, position) => position < length)),
    { dtype: 'bool', device },
  );
const sequences = (): Tensor => torch.randn([samples, longest, features], { dtype, device });

/** The valid positions one after the other, by a loop. */
function rowsOf(x: Tensor): Tensor {
  const rows = lengths.flatMap((length, sample) =>
    Array.from({ length }, (_, position) => x.select(0, sample).select(0, position)),
  );
  return torch.stack(rows);
}

describe('withoutPadding', () => {
  it('normalises what is valid as a batch without the rest, forwards, backwards and in state', () => {
    for (const make of [
      () => new BatchNorm1d({ features, dtype, device }),
      () => new PowerNorm({ features, dtype, device, warmUp: 0 }),
    ]) {
      const [norm, alone] = [make(), make()];
      const x = sequences();
      const padded = x.maskedFill(mask().logicalNot().unsqueeze(-1), 1e9);
      const input = padded.requiresGrad_();
      const own = rowsOf(x).detach().requiresGrad_();
      const weights = sequences();
      const y = withoutPadding(input, mask(), (rows) => norm.forward(rows));
      const expected = alone.forward(own);
      assertClose(rowsOf(y), expected, { atol: 1e-12 });
      y.mul(weights).sum().backward();
      expected.mul(rowsOf(weights)).sum().backward();
      assertClose(rowsOf(input.grad!), own.grad!, { atol: 1e-10 });
      norm.parameters().forEach((parameter, i) => {
        assertClose(parameter.grad!, alone.parameters()[i]!.grad!, { atol: 1e-10 });
      });
      const [state, expectedState] = [norm.stateDict(), alone.stateDict()];
      for (const [name, tensor] of state)
        assertClose(tensor.to(dtype), expectedState.get(name)!.to(dtype), { atol: 1e-12 });
      // Padding passes, with the gradient that comes to it.
      const padding = mask().logicalNot();
      assert.ok(numbers(y.maskedSelect(padding.unsqueeze(-1))).every((value) => value === 1e9));
      assertClose(input.grad!.maskedSelect(padding.unsqueeze(-1)), weights.maskedSelect(padding.unsqueeze(-1)), {
        atol: 0,
      });
    }
  });

  it('passes the finite-difference check, and takes views and other dimensions', () => {
    const norm = new BatchNorm1d({ features, dtype, device, trackRunningStats: false });
    const f = (x: Tensor): Tensor => withoutPadding(x, mask(), (rows) => norm.forward(rows));
    gradcheck(f, [sequences().requiresGrad_()]);
    const x = torch.randn([features, 2, 3, 2], { dtype, device });
    const last = x.permute([1, 2, 3, 0]);
    const every = torch.ones([2, 3, 2], { dtype: 'bool', device });
    const y = withoutPadding(last, every, (rows) => norm.forward(rows));
    assertClose(y, norm.forward(last.reshape([-1, features])).view([2, 3, 2, features]), { atol: 1e-12 });
  });

  it('gives the dtype of the norm', () => {
    const norm = new BatchNorm1d({ features, device });
    const short = sequences().to('bfloat16');
    const y = withoutPadding(short, mask(), (rows) => norm.forward(rows).to('float32'));
    assert.equal(y.dtype, 'float32');
  });

  it('refuses masks that do not fit, padding alone, and norms that change the shape', () => {
    const same = (rows: Tensor): Tensor => rows;
    const x = sequences();
    assert.throws(() => withoutPadding(x, mask().t(), same), /found \[3, 4, 5\] and \[4, 3\] of bool/);
    assert.throws(() => withoutPadding(x, mask().to(dtype), same), /of float64/);
    assert.throws(() => withoutPadding(x, torch.zerosLike(mask()), same), /nothing but padding/);
    assert.throws(() => withoutPadding(x, mask(), (rows) => rows.sum([1])), /norm gave \[8\] for \[8, 5\]/);
  });
});
