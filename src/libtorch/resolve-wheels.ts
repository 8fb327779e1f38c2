/** Chooses the wheels that a LibTorch is made of: PyTorch's own, and those with NVIDIA's libraries that it requires. */
import { pathToFileURL } from 'node:url';
import { LibTorchSetupError } from './errors';
import type { IndexedWheel, WheelSource } from './package-index';
import { comparePythonVersions, isPrerelease, parsePythonVersion, satisfies, type Specifier } from './python-version';
import { markerEnvironment, markerHolds, parseRequirement, type Requirement } from './requirements';
import { compareReleases } from './version';
import { pythonOf, runsOn, type WheelTarget } from './wheel-name';
import type { WheelReader } from './wheel-reader';

/** What is looked for and where. */
export interface Search {
  /** The release of PyTorch, such as `2.13.0`. */
  version: string;
  /** `cpu`, `cu130`, … */
  variant: string;
  target: WheelTarget;
  /** The places, in the order they are asked. */
  sources: readonly WheelSource[];
  /** A place that is asked only when none of the others has the build: PyTorch's own index. */
  lastResort: WheelSource | null;
  reader: WheelReader;
  /**
   * Downloads a wheel whose server shows what it requires only with all of it, and gives the path. Without it the resolution stays
   * incomplete there.
   */
  fetchWhole?: (wheel: IndexedWheel) => Promise<string>;
}

/** The wheels that were chosen. */
export interface Resolution {
  /** What PyTorch's wheel was built for; another than was asked for only where a CPU build is not to be had. */
  variant: string;
  torch: IndexedWheel;
  /** PyTorch's wheel and what it requires. */
  wheels: readonly IndexedWheel[];
  /** False when a server shows what a wheel requires only with all of it: then `wheels` lacks what is not known yet. */
  isComplete: boolean;
}

/** What went wrong in places that were asked, for the message when nothing was found. */
type Faults = Map<string, string>;

/**
 * Finds the build of PyTorch and everything that it requires of NVIDIA's libraries. What only its Python side requires is left out.
 *
 * @throws LibTorchSetupError (`LIBTORCH_DOWNLOAD`) naming what is missing and where it was looked for
 */
export async function resolveWheels(search: Search): Promise<Resolution> {
  const found = await findTorch(search);
  const { torch, variant, sources } = found;
  const { wheels, isComplete } = await resolveRequirements(torch, { ...search, sources });
  return { variant, torch, wheels: [torch, ...wheels], isComplete };
}

/** What a wheel requires; null when that can't be known yet. */
async function requirementsOf(wheel: IndexedWheel, { reader, fetchWhole }: Search): Promise<string[] | null> {
  const lines = await reader.requirementsOf(wheel);
  if (lines !== null || fetchWhole === undefined) return lines;
  return reader.requirementsOf({ ...wheel, url: pathToFileURL(await fetchWhole(wheel)).href });
}

interface FoundTorch {
  torch: IndexedWheel;
  variant: string;
  /** The places where the rest is looked for. */
  sources: readonly WheelSource[];
}

async function findTorch(search: Search): Promise<FoundTorch> {
  const { version, variant, sources, lastResort } = search;
  const faults: Faults = new Map();
  const named = await findNamed(search, sources, faults);
  if (named !== null) return { torch: named, variant, sources };
  const plain = await findPlain(search, faults);
  if (plain !== null && plain.variant === variant) return { ...plain, sources };
  const asked = [...sources];
  if (lastResort !== null) {
    asked.push(lastResort);
    const torch = await findNamed(search, [lastResort], faults);
    if (torch !== null) return { torch, variant, sources: asked };
  }
  // A build with CUDA computes on the CPU as well.
  if (plain !== null && variant === 'cpu') return { ...plain, sources };
  throw notFound([`torch-${version}+${variant}-*.whl`], search, asked, faults, plain?.variant);
}

/** The wheel whose version names the variant: `2.13.0+cu130`. */
async function findNamed(
  search: Search,
  sources: readonly WheelSource[],
  faults: Faults,
): Promise<IndexedWheel | null> {
  const wanted = `${search.version}+${search.variant}`;
  for (const source of sources) {
    const wheels = (await ask(source, 'torch', faults)).filter(({ version }) => version === wanted);
    const best = preferred(wheels.filter((wheel) => runsOn(wheel, search.target)));
    if (best !== null) return best;
  }
  return null;
}

/** The wheel whose version names no variant, and the variant that it shows by what it requires. */
async function findPlain(search: Search, faults: Faults): Promise<{ torch: IndexedWheel; variant: string } | null> {
  for (const source of search.sources) {
    const wheels = (await ask(source, 'torch', faults)).filter(({ version }) => version === search.version);
    const torch = preferred(wheels.filter((wheel) => runsOn(wheel, search.target)));
    if (torch === null) continue;
    const required = await search.reader.requirementsOf(torch);
    // Where its server hides that, it is taken for what was asked for, and checked when it is there.
    const variant =
      required === null ? search.variant : variantOf(nvidiaRequirements(required, torch, [], search.target));
    return { torch, variant };
  }
  return null;
}

/** One of several wheels that differ in the Python they are for, which does not matter here; always the same one. */
function preferred(wheels: readonly IndexedWheel[]): IndexedWheel | null {
  const rank = ({ pythons, fileName, isYanked }: IndexedWheel) =>
    `${isYanked ? 1 : 0} ${/^cp\d+$/.test(pythons[0] ?? '') && !/cp\d+t-/.test(fileName) ? 0 : 1} ${fileName}`;
  return [...wheels].sort((a, b) => (rank(a) < rank(b) ? -1 : 1))[0] ?? null;
}

/**
 * The variant that requirements show: `cuda-toolkit==13.0.3` is cu130, `nvidia-cuda-runtime-cu12==12.6.77` is cu126; none of either is
 * `cpu`.
 */
export function variantOf(requirements: readonly Requirement[]): string {
  for (const { name, specifiers } of requirements) {
    if (name !== 'cuda-toolkit' && !name.startsWith('nvidia-cuda-runtime')) continue;
    const exact = specifiers.find(({ operator }) => operator === '==' || operator === '===')?.version;
    const match = /^(\d+)\.(\d+)/.exec(exact ?? '');
    if (match) return `cu${match[1]}${match[2]}`;
  }
  return requirements.length === 0 ? 'cpu' : 'cuda';
}

/** Those requirements of a wheel that hold here and bring NVIDIA's libraries. */
export function nvidiaRequirements(
  lines: readonly string[],
  wheel: IndexedWheel,
  extras: readonly string[],
  { platform, arch }: WheelTarget,
): Requirement[] {
  const environment = markerEnvironment(platform, arch, pythonOf(wheel));
  // Names come first in a line; the rest is read only where it matters, since it may be of a form that is not known here.
  return lines
    .filter((line) => /^(nvidia[-_.]|cuda[-_.]toolkit\b)/i.test(line))
    .map(parseRequirement)
    .filter(({ marker }) => markerHolds(marker, environment, extras));
}

/** What is asked of one package. */
interface Demand {
  specifiers: Specifier[];
  extras: Set<string>;
  /** Who asks, for messages. */
  by: Set<string>;
}

/**
 * Chooses the newest wheel of each required package that meets what all others ask for. What a choice asks for may change another
 * choice, so it is repeated until nothing changes.
 */
async function resolveRequirements(
  torch: IndexedWheel,
  search: Search,
): Promise<{ wheels: IndexedWheel[]; isComplete: boolean }> {
  let chosen = new Map<string, IndexedWheel>();
  for (let round = 0; round < 20; round++) {
    const { demands, isComplete } = await collectDemands(torch, chosen, search);
    const next = new Map<string, IndexedWheel>();
    const missing: string[] = [];
    const faults: Faults = new Map();
    for (const [name, demand] of [...demands].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const wheel = await chooseWheel(name, demand, search, faults);
      if (wheel === null) missing.push(describeDemand(name, demand));
      else next.set(name, wheel);
    }
    const isStable =
      next.size === chosen.size && [...next].every(([name, wheel]) => chosen.get(name)?.url === wheel.url);
    // Only now is everything that is missing known.
    if (isStable && missing.length > 0) throw notFound(missing, search, search.sources, faults);
    if (isStable) return { wheels: [...next.values()], isComplete };
    chosen = next;
  }
  throw new LibTorchSetupError(
    `what ${torch.fileName} requires could not be settled: the packages ask for ever other versions of each other`,
    { code: 'LIBTORCH_DOWNLOAD' },
  );
}

/** What PyTorch and the present choices ask for. */
async function collectDemands(
  torch: IndexedWheel,
  chosen: ReadonlyMap<string, IndexedWheel>,
  search: Search,
): Promise<{ demands: Map<string, Demand>; isComplete: boolean }> {
  const demands = new Map<string, Demand>();
  let isComplete = true;
  const done = new Map<string, number>();
  const visit = async (wheel: IndexedWheel, extras: readonly string[]): Promise<void> => {
    if (done.get(wheel.name) === extras.length + 1) return;
    done.set(wheel.name, extras.length + 1);
    const lines = await requirementsOf(wheel, search);
    if (lines === null) isComplete = false;
    for (const requirement of nvidiaRequirements(lines ?? [], wheel, extras, search.target)) {
      const { name } = requirement;
      let demand = demands.get(name);
      if (demand === undefined) demands.set(name, (demand = { specifiers: [], extras: new Set(), by: new Set() }));
      demand.specifiers.push(...requirement.specifiers);
      requirement.extras.forEach((extra) => demand.extras.add(extra));
      demand.by.add(wheel.name);
      const choice = chosen.get(name);
      if (choice !== undefined) await visit(choice, [...demand.extras].sort());
    }
  };
  await visit(torch, []);
  return { demands, isComplete };
}

async function chooseWheel(
  name: string,
  { specifiers }: Demand,
  search: Search,
  faults: Faults,
): Promise<IndexedWheel | null> {
  const isExact = specifiers.some(({ operator }) => operator === '==' || operator === '===');
  let best: IndexedWheel | null = null;
  for (const source of search.sources) {
    for (const wheel of await ask(source, name, faults)) {
      const version = parsePythonVersion(wheel.version);
      if (version === null || !runsOn(wheel, search.target)) continue;
      if (!isExact && (wheel.isYanked || isPrerelease(version))) continue;
      if (!specifiers.every((specifier) => satisfies(wheel.version, specifier))) continue;
      if (best === null || comparePythonVersions(version, parsePythonVersion(best.version)!) > 0) best = wheel;
    }
    // What is on this machine is taken without asking others, where it must be this version.
    if (best !== null && isExact) break;
  }
  return best;
}

/** What is missing, as a pattern of file names where the version is given. */
function describeDemand(name: string, { specifiers, by }: Demand): string {
  const exact = specifiers.find(({ operator }) => operator === '==' || operator === '===')?.version;
  const asked = [...new Set(specifiers.map(({ operator, version }) => operator + version))].join(',');
  const file = `${name.replaceAll('-', '_')}-${exact === undefined ? '' : `${exact.replace(/\.\*$/, '')}-`}*.whl`;
  return `${file} (${[...by].join(', ')} requires ${name}${asked})`;
}

async function ask(source: WheelSource, name: string, faults: Faults): Promise<IndexedWheel[]> {
  try {
    return await source.wheelsOf(name);
  } catch (error) {
    if (!(error instanceof LibTorchSetupError)) throw error;
    // Another place may have it.
    faults.set(source.name, error.message);
    return [];
  }
}

function notFound(
  missing: readonly string[],
  { target, variant }: Search,
  asked: readonly WheelSource[],
  faults: Faults,
  instead?: string,
): LibTorchSetupError {
  const system = `${target.platform}-${target.arch}${target.platform === 'linux' ? ` with ${describeGlibc(target)}` : ''}`;
  const isOffline = asked.every(({ isLocal }) => isLocal);
  const cuda = variant === 'cpu' ? '' : ` --cuda --variant ${variant}`;
  return new LibTorchSetupError(
    [
      `Wheels that run on ${system} are missing:`,
      ...missing.map((what) => `  - ${what}`),
      `${instead === undefined ? '' : `There is a build of PyTorch for ${instead}. `}Looked in:`,
      ...asked.map(({ name }) => `  - ${faults.get(name) ?? name}`),
      isOffline
        ? `On a machine of the same kind that has a network, this gathers them in a folder: ` +
          `npx kontrast setup${cuda} --download-only <folder>`
        : `Name a package index that has them: npx kontrast setup${cuda} --index-url <url>`,
    ].join('\n'),
    { code: 'LIBTORCH_DOWNLOAD' },
  );
}

function describeGlibc({ glibc }: WheelTarget): string {
  if (glibc === null) return 'a C library other than the GNU one';
  return `the GNU C library ${glibc}${compareReleases(glibc, '2.28') < 0 ? ' (PyTorch needs 2.28)' : ''}`;
}
