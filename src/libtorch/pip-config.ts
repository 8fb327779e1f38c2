/** Where packages come from on this machine: pip's settings count, although pip itself is not used. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { defaultIndexUrl } from './addresses';

/** The places that wheels are looked for in. */
export interface PackageSources {
  /** Package indexes, in the order they are asked. */
  indexUrls: readonly string[];
  /** Folders, or pages, with wheels of any package. */
  findLinks: readonly string[];
  /** Whether PyTorch's own index may be asked too: not when an index was named or the network was ruled out. */
  mayUsePytorchIndex: boolean;
  /** The file of certificates that pip is told to trust. Node.js has a setting of its own for that. */
  certificates?: string;
}

/** What the user said on the command line. */
export interface SourceOptions {
  env?: NodeJS.ProcessEnv;
  platform?: NodeJS.Platform;
  /** A package index instead of the configured one; what else is configured stays. */
  indexUrl?: string;
  /** A folder of wheels instead of everything else. */
  wheels?: string;
}

/** Puts together what was said, what the environment says (`PIP_…`), and pip's configuration files. */
export function packageSources({
  env = process.env,
  platform = process.platform,
  indexUrl,
  wheels,
}: SourceOptions = {}): PackageSources {
  if (wheels !== undefined) return { indexUrls: [], findLinks: [wheels], mayUsePytorchIndex: false };
  const settings = pipSettings(env, platform);
  const words = (name: string) => (settings[name] ?? '').split(/\s+/).filter((word) => word !== '');
  const offline = /^(1|true|yes|on)$/i.test(settings['no-index'] ?? '');
  const main = indexUrl ?? settings['index-url']?.trim() ?? '';
  const sources: PackageSources = {
    indexUrls: offline ? [] : [main === '' ? defaultIndexUrl : main, ...words('extra-index-url')],
    findLinks: words('find-links'),
    mayUsePytorchIndex: !offline && indexUrl === undefined,
  };
  return settings.cert === undefined ? sources : { ...sources, certificates: settings.cert };
}

/** pip's settings by their long names, without the dashes before them. */
function pipSettings(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const file of configFiles(env, platform)) Object.assign(settings, readConfig(file));
  for (const [name, value] of Object.entries(env)) {
    const key = /^PIP_(.+)$/i.exec(name)?.[1];
    if (key !== undefined && value !== undefined && value !== '')
      settings[key.toLowerCase().replaceAll('_', '-')] = value;
  }
  return settings;
}

/** pip's files, the weakest first. One that is named by `PIP_CONFIG_FILE` is the strongest; the null device rules out all. */
function configFiles(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string[] {
  const named = env.PIP_CONFIG_FILE;
  if (named === '/dev/null' || named?.toLowerCase() === 'nul') return [];
  const home = env.HOME || env.USERPROFILE || homedir();
  const name = platform === 'win32' ? 'pip.ini' : 'pip.conf';
  const files: string[] = [];
  if (platform === 'win32') {
    files.push(join(env.ProgramData || 'C:\\ProgramData', 'pip', name), join(home, 'pip', name));
    if (env.APPDATA) files.push(join(env.APPDATA, 'pip', name));
  } else {
    const shared =
      platform === 'darwin'
        ? ['/Library/Application Support/pip']
        : [
            ...(env.XDG_CONFIG_DIRS || '/etc/xdg')
              .split(':')
              .reverse()
              .map((folder) => join(folder, 'pip')),
            '/etc',
          ];
    files.push(...shared.map((folder) => join(folder, name)), join(home, '.pip', name));
    files.push(join(env.XDG_CONFIG_HOME || join(home, '.config'), 'pip', name));
    if (platform === 'darwin') files.push(join(home, 'Library', 'Application Support', 'pip', name));
  }
  if (env.VIRTUAL_ENV) files.push(join(env.VIRTUAL_ENV, name));
  if (named) files.push(named);
  return files;
}

/** The sections that concern a download, the weakest first. */
const sections = ['global', 'install', 'download'];

/** Reads a file of sections with `name = value`; lines that begin with a space go on with the value before them. */
function readConfig(file: string): Record<string, string> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return {};
  }
  const bySection: Record<string, Record<string, string>> = {};
  let section: Record<string, string> = {};
  let last: string | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;].*)?$/.test(line)) continue;
    const heading = /^\[(.+)\]\s*$/.exec(line)?.[1];
    const [, key, value] = /^([\w-]+)\s*[=:]\s*(.*)$/.exec(line) ?? [];
    if (heading !== undefined) {
      section = bySection[heading.trim().toLowerCase()] ??= {};
      last = undefined;
    } else if (/^\s/.test(line) && last !== undefined) section[last] += ` ${line.trim()}`;
    else if (key !== undefined) section[(last = key.toLowerCase().replaceAll('_', '-'))] = value!.trim();
  }
  return Object.assign({}, ...sections.map((name) => bySection[name] ?? {})) as Record<string, string>;
}
