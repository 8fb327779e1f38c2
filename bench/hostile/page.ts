/** What a run of hostile calls found, and the page that tells of it. */
import { callText, type Call } from './calls';

/** A random call that ended its process. */
export interface Crash {
  operator: string;
  how: string;
  /** Whether it ends a process when it is made alone. */
  repeats: boolean;
  call: Call;
  /** The end of the standard error. */
  message: string;
}

/** A call that ended a process in an earlier run. */
export interface Known {
  operator: string;
  /** How it ended the process then. */
  how: string;
  /** How it ends one now; empty where it does not. */
  now: string;
  /** The error that refuses it now; empty where it returns. */
  refusal: string;
  call: Call;
}

export interface Results {
  libtorch: string;
  seeds: number[];
  overloads: number;
  /** Random calls, over all seeds. */
  calls: number;
  known: Known[];
  crashes: Crash[];
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return 'None.\n';
  return row(titles) + row(titles.map(() => '---')) + rows.map(row).join('');
}

/** The first of each key, in the order of the keys. */
function firsts<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  const byKey = new Map<string, T>();
  for (const item of items) if (!byKey.has(keyOf(item))) byKey.set(keyOf(item), item);
  return [...byKey].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item);
}

/** The call as code; long ones are cut, the results of the run hold them whole. */
function codeOf(call: Call): string {
  const text = callText(call);
  return `\`${text.length > 220 ? `${text.slice(0, 217)}...` : text}\``;
}

export function pageOf({ libtorch, seeds, overloads, calls, known, crashes }: Results): string {
  const left = [
    ...crashes.map(({ operator, how, repeats, call }) => ({
      operator,
      how: repeats ? how : `${how}, not each time`,
      call,
    })),
    ...known.filter(({ now }) => now !== '').map(({ operator, now, call }) => ({ operator, how: now, call })),
  ];
  const isLong = ({ how }: { how: string }): boolean => how.startsWith('hangs');
  const leftRows = (items: typeof left): string[][] =>
    firsts(items, ({ operator, how }) => `${operator} ${how}`).map(({ operator, how, call }) => [
      operator,
      how,
      codeOf(call),
    ]);
  const refused = known.filter(({ now, refusal }) => now === '' && refusal !== '');
  const refusedRows = firsts(
    refused,
    ({ operator, refusal }) => `${operator} ${/'\w+'/.exec(refusal)?.[0] ?? refusal}`,
  ).map(({ operator, how, refusal, call }) => [operator, how, codeOf(call), refusal.replace(/^\S+ \S+ \S+: /, '')]);
  const operators = new Set(refused.map(({ operator }) => operator)).size;
  return `# Operators that crash

Some of LibTorch's operators end the process when their arguments make no sense: a kernel divides by zero, or reads memory that a
shape promises. PyTorch ends in the same way. Where a cheap check prevents it, kontrast makes that check before the call and throws an
\`InvalidArgumentError\`; the checks are in \`native/checks.cc\`.

This page is written by \`bench/hostile/run.ts\`, which calls every operator with random and hostile arguments, in processes that may
crash: ${overloads.toLocaleString('en')} overloads of LibTorch ${libtorch}, ${calls.toLocaleString('en')} calls with the seeds ${seeds.join(', ')}.
Operators that need a process group are left out. \`tensor(csr int64 [3, 0] hostile)\` stands for a tensor in that layout, of that
dtype and shape, and with such values; \`linear\` for weights that \`quantized::linear_prepack\` packed.

## What still ends the process

No cheap check tells these calls from good ones. What weights were packed for, say, shows only when they are unpacked.

${table(['operator', 'ends with', 'call'], leftRows(left.filter((item) => !isLong(item))))}
## What runs on

Calls that were stopped after 20 s: LibTorch counts as far as the number that it is given.

${table(['operator', 'ends with', 'call'], leftRows(left.filter(isLong)))}
## What is refused

${String(refused.length)} calls of ${String(operators)} overloads ended a process without the checks. One for each overload and argument:

${table(['operator', 'ended with', 'call', 'what the error says'], refusedRows)}`;
}
