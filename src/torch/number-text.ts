/**
 * Numbers as decimal text, rounded to the nearest and at a tie to the even digit, as C and Python round. JavaScript's own methods
 * round ties away from zero, and ties are common: 0.03125 to four digits is one.
 */

/** The most digits after the decimal point: telling a tie takes one more, and JavaScript's own methods end at 100. */
export const mostDigits = 99;

/** With this many digits after the decimal point. What is not finite is `inf`, `-inf` or `nan`. */
export function fixed(value: number, digits: number): string {
  if (!Number.isFinite(value)) return notFinite(value);
  const size = Math.abs(value);
  // A tie is an odd number of halves of the last digit, and 5 divides such a number as often as 10 does: what is left is a power of 2.
  const halves = size * 2 ** (digits + 1);
  const isTie = Number.isInteger(halves) && halves % 2 === 1;
  return sign(value) + toEven(fixedAtLeast(size, digits), isTie, () => fixedAtLeast(size, digits + 1));
}

/** With one digit before the decimal point, this many after it, and an exponent of two digits or more. */
export function exponential(value: number, digits: number): string {
  if (!Number.isFinite(value)) return notFinite(value);
  const size = Math.abs(value);
  const [mantissa = '', exponent = ''] = size.toExponential(digits).split('e');
  const [longer = '', longerExponent = ''] = size.toExponential(digits + 1).split('e');
  const isTie =
    longer.endsWith('5') && isExactly(size, BigInt(longer.replace('.', '')), Number(longerExponent) - digits - 1);
  const rounded = toEven(mantissa, isTie, () => longer);
  return `${sign(value)}${rounded}e${exponent[0]!}${exponent.slice(1).padStart(2, '0')}`;
}

function notFinite(value: number): string {
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

function sign(value: number): string {
  return value < 0 || Object.is(value, -0) ? '-' : '';
}

/** As `toFixed`, which gives an exponent from 10 ** 21 on. */
function fixedAtLeast(size: number, digits: number): string {
  if (size < 1e21) return size.toFixed(digits);
  return `${String(BigInt(size))}${digits === 0 ? '' : '.'}${'0'.repeat(digits)}`;
}

/** Takes back a tie that was rounded up to an odd digit: `longer` is the number with the 5 that made the tie. */
function toEven(roundedUp: string, isTie: boolean, longer: () => string): string {
  if (!isTie || Number(roundedUp.at(-1)) % 2 === 0) return roundedUp;
  return longer().slice(0, -1).replace(/\.$/, '');
}

/** Whether a number is `digits * 10 ** exponent` to its last bit. */
function isExactly(size: number, digits: bigint, exponent: number): boolean {
  // Both sides times the power of 10 that makes integers of them; times a power of 2 a number stays exact.
  const scaled = exponent < 0 ? size * 2 ** -exponent : size;
  if (!Number.isInteger(scaled)) return false;
  return exponent < 0
    ? BigInt(scaled) * 5n ** BigInt(-exponent) === digits
    : BigInt(scaled) === digits * 10n ** BigInt(exponent);
}
