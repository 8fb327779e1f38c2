/** What a Python package requires, as its metadata says it (PEP 508): names, extras, conditions on versions, and markers. */
import { LibTorchSetupError } from './errors';
import { parsePythonVersion, parseSpecifiers, satisfies, type Specifier } from './python-version';

/** One `Requires-Dist` line. */
export interface Requirement {
  /** The name in its normal form: lower case, words joined by `-`. */
  name: string;
  extras: readonly string[];
  specifiers: readonly Specifier[];
  /** The condition after `;`; empty when there is none. */
  marker: string;
}

/** What markers are about: the machine and the Python that the wheel is for. */
export type MarkerEnvironment = Readonly<Record<string, string>>;

/** The normal form of a package's name: `Nvidia_NCCL.cu13` is `nvidia-nccl-cu13`. */
export function normalName(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, '-');
}

/**
 * Splits one requirement.
 *
 * @throws LibTorchSetupError (`LIBTORCH_DOWNLOAD`) when it can't be read
 */
export function parseRequirement(text: string): Requirement {
  const [, name, extras = '', rest, marker = ''] =
    /^\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?\s*([^;]*?)\s*(?:;\s*(.*?)\s*)?$/.exec(text) ?? [];
  const specifiers = rest === undefined ? null : parseSpecifiers(rest.replace(/^\((.*)\)$/, '$1'));
  if (name === undefined || specifiers === null) throw unreadable('requirement', text);
  return {
    name: normalName(name),
    extras: extras
      .split(',')
      .map((extra) => extra.trim())
      .filter((extra) => extra !== '')
      .map(normalName),
    specifiers,
    marker,
  };
}

/** The requirements in a wheel's METADATA, unread. */
export function requiresDist(metadata: string): string[] {
  const [head = ''] = metadata.replaceAll('\r\n', '\n').split('\n\n', 1);
  return [...head.matchAll(/^Requires-Dist:[ \t]*(.+)$/gim)].map(([, value]) => value!.trim());
}

/** What markers see on a machine for a wheel of one Python version, such as `3.11`. */
export function markerEnvironment(
  platform: NodeJS.Platform,
  arch: NodeJS.Architecture,
  python: string,
): MarkerEnvironment {
  const windows = platform === 'win32';
  const machines: Partial<Record<NodeJS.Architecture, string>> = windows
    ? { x64: 'AMD64', arm64: 'ARM64' }
    : { x64: 'x86_64', arm64: platform === 'darwin' ? 'arm64' : 'aarch64' };
  return {
    python_version: python,
    python_full_version: `${python}.0`,
    implementation_name: 'cpython',
    implementation_version: `${python}.0`,
    platform_python_implementation: 'CPython',
    os_name: windows ? 'nt' : 'posix',
    sys_platform: platform,
    platform_system: windows ? 'Windows' : platform === 'darwin' ? 'Darwin' : 'Linux',
    platform_machine: machines[arch] ?? arch,
    platform_release: '',
    platform_version: '',
  };
}

/**
 * Whether a marker holds, with any of the extras that were asked for or without one.
 *
 * @throws LibTorchSetupError (`LIBTORCH_DOWNLOAD`) when it can't be read
 */
export function markerHolds(marker: string, environment: MarkerEnvironment, extras: readonly string[]): boolean {
  if (marker.trim() === '') return true;
  return ['', ...extras].some((extra) => new MarkerParser(marker, { ...environment, extra }).evaluate());
}

type Operand = { value: string; isExtra: boolean };

/** Evaluates while it parses: markers are a line long. */
class MarkerParser {
  private readonly tokens: string[];
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly environment: MarkerEnvironment,
  ) {
    this.tokens = text.match(/"[^"]*"|'[^']*'|\(|\)|===|==|!=|<=|>=|~=|<|>|[\w.]+|\S/g) ?? [];
  }

  evaluate(): boolean {
    const result = this.or();
    if (this.at < this.tokens.length) throw unreadable('marker', this.text);
    return result;
  }

  // Both sides are parsed whatever the first one says, since the tokens have to be taken.
  private or(): boolean {
    let result = this.and();
    while (this.take('or')) result = this.and() || result;
    return result;
  }

  private and(): boolean {
    let result = this.atom();
    while (this.take('and')) result = this.atom() && result;
    return result;
  }

  private atom(): boolean {
    if (this.take('(')) {
      const result = this.or();
      if (!this.take(')')) throw unreadable('marker', this.text);
      return result;
    }
    const left = this.operand();
    let operator = this.tokens[this.at++] ?? '';
    if (operator === 'not' && this.take('in')) operator = 'not in';
    return this.compare(left, operator, this.operand());
  }

  private compare(left: Operand, operator: string, right: Operand): boolean {
    if (left.isExtra || right.isExtra) {
      const same = normalName(left.value) === normalName(right.value);
      if (operator === '==' || operator === '!=') return (operator === '==') === same;
    }
    if (operator === 'in') return right.value.includes(left.value);
    if (operator === 'not in') return !right.value.includes(left.value);
    const specifiers = parseSpecifiers(`${operator}${right.value}`);
    const areVersions =
      parsePythonVersion(left.value) !== null && parsePythonVersion(right.value.replace(/\.\*$/, '')) !== null;
    if (areVersions && specifiers?.length === 1) return satisfies(left.value, specifiers[0]!);
    switch (operator) {
      case '==':
      case '===':
        return left.value === right.value;
      case '!=':
        return left.value !== right.value;
      case '<':
        return left.value < right.value;
      case '<=':
        return left.value <= right.value;
      case '>':
        return left.value > right.value;
      case '>=':
        return left.value >= right.value;
      default:
        throw unreadable('marker', this.text);
    }
  }

  private operand(): Operand {
    const token = this.tokens[this.at++] ?? '';
    if (/^["']/.test(token) && token.length > 1) return { value: token.slice(1, -1), isExtra: false };
    const value = this.environment[token.replace('.', '_')];
    if (value === undefined) throw unreadable('marker', this.text);
    return { value, isExtra: token === 'extra' };
  }

  private take(token: string): boolean {
    if (this.tokens[this.at] !== token) return false;
    this.at++;
    return true;
  }
}

function unreadable(what: string, text: string): LibTorchSetupError {
  return new LibTorchSetupError(`the package index gave a ${what} that can't be read: ${text.slice(0, 200)}`, {
    code: 'LIBTORCH_DOWNLOAD',
  });
}
