import assert from 'node:assert/strict';
import fc from 'fast-check';
import { exponential, fixed } from '../../src/torch/number-text';

/** A positive number as a fraction of integers. */
function fractionOf(number: number): { top: bigint; bottom: bigint } {
  let bottom = 1n;
  while (!Number.isInteger(number)) {
    number *= 2;
    bottom *= 2n;
  }
  return { top: BigInt(number), bottom };
}

function roundToEven(top: bigint, bottom: bigint): bigint {
  const [whole, rest] = [top / bottom, (top % bottom) * 2n];
  return rest > bottom || (rest === bottom && whole % 2n === 1n) ? whole + 1n : whole;
}

function withPoint(digits: bigint, decimals: number): string {
  const text = String(digits).padStart(decimals + 1, '0');
  return decimals === 0 ? text : `${text.slice(0, -decimals)}.${text.slice(-decimals)}`;
}

function slowFixed(number: number, decimals: number): string {
  const { top, bottom } = fractionOf(number);
  return withPoint(roundToEven(top * 10n ** BigInt(decimals), bottom), decimals);
}

function slowExponential(number: number, decimals: number): string {
  const { top, bottom } = fractionOf(number);
  for (let exponent = -330; ; exponent++) {
    const shift = BigInt(Math.abs(decimals - exponent));
    const digits =
      exponent <= decimals ? roundToEven(top * 10n ** shift, bottom) : roundToEven(top, bottom * 10n ** shift);
    // The first exponent at which the rounded number has no more digits than are wanted.
    if (String(digits).length > decimals + 1) continue;
    const size = String(Math.abs(exponent)).padStart(2, '0');
    return `${withPoint(digits, decimals)}e${exponent < 0 ? '-' : '+'}${size}`;
  }
}

const decimals = fc.integer({ min: 0, max: 12 });
/** Numbers of few binary digits, many of which lie in the middle between two decimal ones. */
const dyadic = fc
  .tuple(fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: -20, max: 60 }))
  .map(([top, exponent]) => top * 2 ** exponent);
const anyNumber = fc.double({ min: 5e-324, max: 1e300, noNaN: true });

describe('number text', () => {
  it('rounds ties to the even digit', () => {
    assert.equal(fixed(0.03125, 4), '0.0312');
    assert.equal(fixed(0.09375, 4), '0.0938');
    assert.deepEqual(
      [0.5, 1.5, 2.5, -2.5].map((number) => fixed(number, 0)),
      ['0', '2', '2', '-2'],
    );
    assert.equal(exponential(2.5, 0), '2e+00');
    assert.equal(exponential(12345, 3), '1.234e+04');
    assert.equal(exponential(12355, 3), '1.236e+04');
    assert.equal(exponential(-6.25e-2, 1), '-6.2e-02');
  });

  it('rounds every number as exact arithmetic does', () => {
    for (const numbers of [dyadic, anyNumber]) {
      fc.assert(
        fc.property(numbers, decimals, (number, digits) => {
          assert.equal(fixed(number, digits), slowFixed(number, digits));
          assert.equal(fixed(-number, digits), `-${slowFixed(number, digits)}`);
          assert.equal(exponential(number, digits), slowExponential(number, digits));
        }),
        { seed: 3, numRuns: 300 },
      );
    }
  });

  it('writes zeros with their sign, and what is not finite', () => {
    assert.equal(fixed(0, 2), '0.00');
    assert.equal(fixed(-0, 0), '-0');
    assert.equal(fixed(-1e-9, 2), '-0.00');
    assert.equal(exponential(-0, 1), '-0.0e+00');
    assert.deepEqual(
      [NaN, Infinity, -Infinity].map((number) => [fixed(number, 3), exponential(number, 3)]),
      [
        ['nan', 'nan'],
        ['inf', 'inf'],
        ['-inf', '-inf'],
      ],
    );
  });

  it('writes exponents of at least two digits, and large numbers without one', () => {
    assert.equal(exponential(1e-7, 4), '1.0000e-07');
    assert.equal(exponential(1e300, 1), '1.0e+300');
    assert.equal(fixed(1e22, 1), '10000000000000000000000.0');
    assert.equal(fixed(1e22, 0), '10000000000000000000000');
  });
});
