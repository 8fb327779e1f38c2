/** Versions as Python packages write them (PEP 440), and the conditions that packages put on them. */

/** A version, split the way it is compared. */
export interface PythonVersion {
  epoch: number;
  release: readonly number[];
  /** `a`, `b` or `rc` with its number; null for a version that is not one before a release. */
  pre: readonly ['a' | 'b' | 'rc', number] | null;
  /** The number after `post`, or -1. */
  post: number;
  /** The number after `dev`, or infinity: a development version comes before what it leads to. */
  dev: number;
  /** What stands after `+`; empty when nothing does. */
  local: string;
}

const pattern = new RegExp(
  '^v?(?:(?<epoch>\\d+)!)?(?<release>\\d+(?:\\.\\d+)*)' +
    '(?:[-_.]?(?<pre>alpha|beta|preview|pre|rc|a|b|c)[-_.]?(?<preNumber>\\d*))?' +
    '(?:-(?<shortPost>\\d+)|[-_.]?(?:post|rev|r)[-_.]?(?<post>\\d*))?' +
    '(?:[-_.]?dev[-_.]?(?<dev>\\d*))?' +
    '(?:\\+(?<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?$',
);

/** Splits a version; null when the text is none. */
export function parsePythonVersion(text: string): PythonVersion | null {
  const parts = pattern.exec(text.trim().toLowerCase())?.groups;
  if (parts === undefined) return null;
  const { epoch, release, pre, preNumber, shortPost, post, dev, local } = parts as Record<string, string | undefined>;
  const stage = pre === undefined ? null : pre.startsWith('a') ? 'a' : pre.startsWith('b') ? 'b' : 'rc';
  const postNumber = shortPost ?? post;
  return {
    epoch: Number(epoch ?? 0),
    release: release!.split('.').map(Number),
    pre: stage === null ? null : [stage, Number(preNumber || 0)],
    post: postNumber === undefined ? -1 : Number(postNumber),
    dev: dev === undefined ? Infinity : Number(dev),
    local: (local ?? '').replace(/[-_]/g, '.'),
  };
}

/** Whether a version leads up to a release and is none itself. */
export function isPrerelease(version: PythonVersion): boolean {
  return version.pre !== null || version.dev !== Infinity;
}

/** Negative, zero or positive as `a` is older than, the same as or newer than `b`. */
export function comparePythonVersions(a: PythonVersion, b: PythonVersion): number {
  return comparePublic(a, b) || compareLocal(a.local, b.local);
}

/** As {@link comparePythonVersions}, without what stands after `+`. */
function comparePublic(a: PythonVersion, b: PythonVersion): number {
  return (
    a.epoch - b.epoch ||
    compareNumbers(a.release, b.release) ||
    stageOf(a) - stageOf(b) ||
    (a.pre?.[1] ?? 0) - (b.pre?.[1] ?? 0) ||
    a.post - b.post ||
    compareDev(a.dev, b.dev)
  );
}

/** The order around a release: a development version of it, its alphas, betas and candidates, itself. */
function stageOf({ pre, post, dev }: PythonVersion): number {
  if (pre !== null) return { a: 1, b: 2, rc: 3 }[pre[0]];
  return post < 0 && dev !== Infinity ? 0 : 4;
}

function compareDev(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

/** Trailing zeros count for nothing: 13.0 is 13.0.0. */
function compareNumbers(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function compareLocal(a: string, b: string): number {
  if (a === b) return 0;
  if (a === '' || b === '') return a === '' ? -1 : 1;
  return a < b ? -1 : 1;
}

/** One condition, such as `>=13.0.3` or `==12.6.*`. */
export interface Specifier {
  operator: '==' | '!=' | '<=' | '>=' | '<' | '>' | '~=' | '===';
  version: string;
}

/** Splits `>=13.0.3,<14`; null when a part is no condition. */
export function parseSpecifiers(text: string): Specifier[] | null {
  const specifiers: Specifier[] = [];
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const match = /^\s*(===|==|!=|<=|>=|~=|<|>)\s*([^\s,]+)\s*$/.exec(part);
    if (!match) return null;
    specifiers.push({ operator: match[1] as Specifier['operator'], version: match[2]! });
  }
  return specifiers;
}

/** Whether a version meets a condition. */
export function satisfies(version: string, { operator, version: wanted }: Specifier): boolean {
  if (operator === '===') return version === wanted;
  const have = parsePythonVersion(version);
  if (have === null) return false;
  if (wanted.endsWith('.*')) {
    const prefix = parsePythonVersion(wanted.slice(0, -2));
    if (prefix === null) return false;
    const matches =
      have.epoch === prefix.epoch && prefix.release.every((number, index) => (have.release[index] ?? 0) === number);
    return operator === '!=' ? !matches : matches;
  }
  const bound = parsePythonVersion(wanted);
  if (bound === null) return false;
  // A bound without a local part is about the release, whoever has built it.
  const order = bound.local === '' ? comparePublic(have, bound) : comparePythonVersions(have, bound);
  switch (operator) {
    case '==':
      return order === 0;
    case '!=':
      return order !== 0;
    case '<=':
      return order <= 0;
    case '>=':
      return order >= 0;
    case '<':
      return order < 0 && !(isPrerelease(have) && !isPrerelease(bound) && sameRelease(have, bound));
    case '>':
      return order > 0 && !(have.post >= 0 && bound.post < 0 && sameRelease(have, bound));
    case '~=':
      return order >= 0 && bound.release.slice(0, -1).every((number, index) => (have.release[index] ?? 0) === number);
  }
}

function sameRelease(a: PythonVersion, b: PythonVersion): boolean {
  return a.epoch === b.epoch && compareNumbers(a.release, b.release) === 0;
}
