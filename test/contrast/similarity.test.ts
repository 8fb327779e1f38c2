import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { pairedSimilarity, similarityMatrix } from '../../src/contrast';
import { assertClose } from '../support/close';
import { device } from '../support/device';
import { gradcheck } from '../../src/torch';

describe('similarity', () => {
  const a = () => torch.tensor([[3, 4], [1, 0]], { device }); // prettier-ignore
  const b = () => torch.tensor([[0, 2], [5, 0], [-6, -8]], { device }); // prettier-ignore

  it('is the cosine or the dot product of every pair', () => {
    assertClose(similarityMatrix(a(), b()), torch.tensor([[0.8, 0.6, -1], [0, 1, -0.6]])); // prettier-ignore
    assertClose(similarityMatrix(a(), b(), 'dot'), torch.tensor([[8, 15, -50], [0, 5, -6]])); // prettier-ignore
  });

  it('is the diagonal of that for rows at the same position', () => {
    const [x, y] = [torch.randn([5, 3], { device }), torch.randn([5, 3], { device })];
    for (const kind of ['cosine', 'dot'] as const) {
      assertClose(pairedSimilarity(x, y, kind), similarityMatrix(x, y, kind).diagonal());
    }
  });

  it('passes the finite-difference check', () => {
    const inputs = [3, 2].map((rows) => torch.randn([rows, 4], { dtype: 'float64', device }).requiresGrad_());
    gradcheck((x, y) => similarityMatrix(x!, y!), inputs);
  });

  it('refuses shapes that do not fit', () => {
    assert.throws(
      () => similarityMatrix(a(), torch.zeros([2, 3], { device })),
      /b: expected shape \[N, 2\], found \[2, 3\]/,
    );
    assert.throws(() => pairedSimilarity(a(), b()), /b: expected shape \[2, 2\], found \[3, 2\]/);
  });
});
