import assert from 'node:assert/strict';
import { autocast, Generator, grad, gradcheck, scope, torch, type DType, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { rows, type Row } from './table';

/** Tensors that learn, alike in every run. */
function inputsOf(row: Row, samples: number, dimension: number, dtype: DType = 'float64'): Tensor[] {
  const generator = new Generator({ seed: samples });
  const shapes = row.shapes?.(samples, dimension) ?? [
    [samples, dimension],
    [samples, dimension],
  ];
  return shapes.map((shape) => torch.randn(shape, { dtype: 'float64', generator }).to({ dtype }).requiresGrad_());
}

const learningTemperature = (value: number): Tensor => torch.tensor(value, { dtype: 'float64' }).requiresGrad_();

describe('every preset', () => {
  for (const row of rows) {
    const executions = row.tiled === false ? (['dense'] as const) : (['dense', 'tiled'] as const);
    const learns = row.temperature !== false;

    if (row.tiled !== false) {
      it(`${row.name}: dense equals tiled, value and gradients`, () => {
        for (const [samples, dimension] of [
          [2, 1],
          [3, 4],
          [33, 7],
          [261, 5],
        ] as const) {
          scope(() => {
            const inputs = inputsOf(row, samples, dimension);
            const temperature = learns ? learningTemperature(0.3) : 0.3;
            const [dense, tiled] = (['dense', 'tiled'] as const).map((execution) => {
              const loss = row.loss(inputs, { temperature, execution });
              const given = typeof temperature === 'number' ? inputs : [...inputs, temperature];
              const slopes = loss.requiresGrad ? grad(loss, given, { allowUnused: true }) : [];
              return [loss.detach(), ...slopes.map((slope) => slope ?? torch.zeros([]))];
            });
            dense!.forEach((expected, i) => {
              const name = `${samples} samples, ${i === 0 ? 'loss' : `gradient ${i - 1}`}`;
              assertClose(tiled![i]!, expected, { atol: 1e-10, rtol: 1e-10 }, name);
            });
          });
        }
      });
    }

    it(`${row.name}: finite differences confirm the gradients`, () => {
      scope(() => {
        for (const execution of executions) {
          const inputs = inputsOf(row, 4, 3);
          if (learns) inputs.push(learningTemperature(0.6));
          gradcheck((...given) => {
            const temperature = learns ? given.at(-1)! : 0.6;
            return row.loss(learns ? given.slice(0, -1) : given, { temperature, execution });
          }, inputs);
        }
      });
    });

    it(`${row.name}: one sample`, () => {
      scope(() => {
        for (const execution of executions) {
          const inputs = inputsOf(row, 1, 3);
          const compute = (): Tensor => row.loss(inputs, { temperature: 0.1, execution });
          if (row.alone instanceof RegExp) {
            assert.throws(compute, row.alone);
            continue;
          }
          const loss = compute();
          if (row.alone === 'finite') assert.ok(Number.isFinite(loss.itemSync()));
          else assert.ok(Math.abs(loss.itemSync() - (row.alone ?? 0)) < 1e-12, String(loss.itemSync()));
          assertFiniteGradients(loss, inputs);
        }
      });
    });

    it(`${row.name}: float32 holds at extreme temperatures`, () => {
      scope(() => {
        for (const temperature of [0.005, 10]) {
          for (const execution of executions) {
            for (const samples of [2, 7]) {
              const inputs = inputsOf(row, samples, 5, 'float32');
              const loss = row.loss(inputs, { temperature, execution });
              assert.equal(loss.dtype, 'float32');
              assert.ok(Number.isFinite(loss.itemSync()), `${temperature}: ${loss.itemSync()}`);
              assertFiniteGradients(loss, inputs);
            }
          }
        }
      });
    });

    it(`${row.name}: bfloat16 embeddings keep scores of float32, also under autocast`, () => {
      scope(() => {
        const short = inputsOf(row, 7, 5, 'bfloat16');
        const wide = short.map((x) => x.detach().to('float32'));
        for (const execution of executions) {
          const options = { temperature: 0.1, execution };
          const loss = autocast({ device: 'cpu' }, () => row.loss(short, options));
          assert.equal(loss.dtype, 'float32');
          // Elements are rounded to 9 bits once more than the embeddings were.
          assertClose(loss.detach(), row.loss(wide, options).detach(), { rtol: 4e-3 });
          assertFiniteGradients(loss, short);
        }
      });
    });
  }
});

function assertFiniteGradients(loss: Tensor, inputs: Tensor[]): void {
  if (!loss.requiresGrad) return;
  for (const slope of grad(loss, inputs, { allowUnused: true })) {
    if (slope !== null) assert.equal(slope.isfinite().all().itemSync(), 1);
  }
}
