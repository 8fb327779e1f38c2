/** Formats numbers; what does it is made at the first, since that takes longer than a whole module takes to load. */
function formatter(options: Intl.NumberFormatOptions): { format(value: number): string } {
  let made: Intl.NumberFormat | undefined;
  return { format: (value) => (made ??= new Intl.NumberFormat('en-US', options)).format(value) };
}

const whole = formatter({ maximumFractionDigits: 0 });
const significant = formatter({ maximumSignificantDigits: 4 });
const oneDecimal = formatter({ minimumFractionDigits: 1, maximumFractionDigits: 1 });
const twoDecimals = formatter({ minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** A hyphen is narrower than a digit and breaks lines; the minus sign does neither. */
function withMinus(text: string): string {
  return text.replace('-', '\u2212');
}

/** A number for reading: whole numbers in full with separators, others with four significant digits. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'not a number';
  if (!Number.isFinite(value)) return value > 0 ? 'infinite' : withMinus('-infinite');
  if (Number.isInteger(value) || Math.abs(value) >= 10_000) return withMinus(whole.format(value));
  if (Math.abs(value) < 1e-4) return withMinus(Number(value.toPrecision(3)).toExponential());
  return withMinus(significant.format(value));
}

/** A fraction as a percentage with one decimal: 0.8812 is `88.1%`. */
export function formatPercent(fraction: number): string {
  return `${withMinus(oneDecimal.format(fraction * 100))}%`;
}

/** The difference of two fractions in percentage points, with its sign: 0.021 is `+2.1`. */
export function formatPoints(difference: number): string {
  const text = oneDecimal.format(Math.abs(difference * 100));
  if (text === '0.0') return '±0.0';
  return `${difference > 0 ? '+' : '\u2212'}${text}`;
}

/** A cosine similarity with two decimals. */
export function formatSimilarity(value: number): string {
  if (!Number.isFinite(value)) return formatNumber(value);
  const text = twoDecimals.format(value);
  return withMinus(text === '-0.00' ? '0.00' : text);
}
