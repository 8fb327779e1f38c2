import { cse, cseReconstruction } from '../../../src/contrast/objectives/cse';
import { gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { assertRefuses, assertValue, cosine, learning, mean, random, rowsOf, squared, unit } from './plain';

const flags = (values: boolean[]): Tensor => torch.tensor(values);

describe('cse', () => {
  it('draws whole samples together and keeps defects apart', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        const [x, y] = [random([count, 4]), random([count, 4])];
        const defective = Array.from({ length: count }, (_, i) => i % 3 !== 1);
        const expected = rowsOf(x).map((row, i) => {
          const c = cosine(row, rowsOf(y)[i]!);
          return defective[i]! ? (1 + c) / 2 : 1 - c;
        });
        assertValue(cse(x, y, flags(defective)), mean(expected));
        assertValue(cse(x, y, flags(defective), { reduction: 'sum' }), mean(expected) * count);
        assertClose(cse(x, y, flags(defective), { reduction: 'none' }), torch.tensor(expected, { dtype: 'float64' }), {
          atol: 1e-12,
        });
      }
      // Of maps, the mean over channels and rows of the cosine along the width.
      const [x, y] = [random([2, 3, 4, 5]), random([2, 3, 4, 5])];
      const each = cse(x.reshape([24, 5]), y.reshape([24, 5]), flags(Array<boolean>(24).fill(true)), {
        reduction: 'none',
      });
      assertValue(cse(x, y, flags([true, true])), mean(numbers(each)));
    });
  });

  it('has right gradients, and bears vectors of 0', () => {
    scope(() => {
      gradcheck((x, y) => cse(x!, y!, flags([true, false])), [learning([2, 3, 2]), learning([2, 3, 2])]);
      const zero = torch.zeros([2, 3]).requiresGrad_();
      cse(zero, zero, flags([true, false])).backward();
      assertClose(zero.grad!, torch.zeros([2, 3]));
    });
    assertRefuses(() => cse(random([2, 3]), random([3, 3]), flags([true, true])), /second: expected shape \[2, 3\]/);
    assertRefuses(() => cse(random([2, 3]), random([2, 3]), flags([true])), /defective: expected shape \[2\]/);
    assertRefuses(() => cse(random([2, 3]), random([2, 3]), torch.ones([2])), /defective must be bool, found float32/);
  });
});

describe('cseReconstruction', () => {
  it('is half the squared distance of directions, by level and position', () => {
    scope(() => {
      const levels = [random([2, 3, 2, 2]), random([2, 5, 1, 3])];
      const targets = [random([2, 3, 2, 2]), random([2, 5, 1, 3])];
      const expected = levels.map((level, l) => {
        const vectors = (x: Tensor): number[][] => rowsOf(x.permute([0, 2, 3, 1]).reshape([-1, x.sizeOf(1)]));
        const [a, b] = [vectors(level), vectors(targets[l]!)];
        const sum = a.reduce((s, row, i) => s + squared(unit(row), unit(b[i]!)) / 2, 0);
        return sum / (level.sizeOf(2) * level.sizeOf(3));
      });
      assertValue(cseReconstruction(levels, targets), mean(expected));
      gradcheck((x, y) => cseReconstruction([x!], [y!]), [learning([1, 2, 2, 1]), learning([1, 2, 2, 1])]);
    });
    assertRefuses(() => cseReconstruction([], []), /as many levels, at least one; found 0 and 0/);
    assertRefuses(
      () => cseReconstruction([random([2, 3])], [random([2, 3])]),
      /must be \[N, C, H, W\], found \[2, 3\]/,
    );
  });
});
