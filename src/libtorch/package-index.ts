/** Lists the wheels of a package: from package indexes (PEP 503 and 691), from pages of links, and from folders. */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { HttpError, publicAddress, readUrl, withCredentialsOf, type HttpOptions } from './http';
import type { PackageSources } from './pip-config';
import { normalName } from './requirements';
import { parseWheelName, type WheelName } from './wheel-name';

/** A wheel that can be had. */
export interface IndexedWheel extends WheelName {
  fileName: string;
  /** Where it is: `http…`, or `file:` for one on this machine. */
  url: string;
  sha256: string | null;
  /** Bytes; null where the index does not tell. */
  size: number | null;
  /** Whether its METADATA can be had alone, at the same address with `.metadata` (PEP 658). */
  hasMetadataFile: boolean;
  /** Whether its author has withdrawn it. */
  isYanked: boolean;
}

/** One place that wheels are looked for in. */
export interface WheelSource {
  /** The place as it is shown. */
  readonly name: string;
  /** Whether it is on this machine. */
  readonly isLocal: boolean;
  /** The wheels of a package, whatever they run on; none when the place does not know it. */
  wheelsOf(name: string): Promise<IndexedWheel[]>;
}

/** The places of a configuration, those on this machine first. Each is asked once for each package. */
export function wheelSources(sources: PackageSources, http: HttpOptions): WheelSource[] {
  const all = [
    ...sources.findLinks.map((link) => linksSource(link, http)),
    ...sources.indexUrls.map((url) => indexSource(url, http)),
  ];
  return [...all.filter(({ isLocal }) => isLocal), ...all.filter(({ isLocal }) => !isLocal)];
}

/** A package index. */
export function indexSource(indexUrl: string, http: HttpOptions): WheelSource {
  const base = indexUrl.replace(/\/+$/, '');
  const isLocal = base.startsWith('file:');
  return once({
    name: publicAddress(base),
    isLocal,
    async wheelsOf(name) {
      const page = `${base}/${name}/`;
      if (isLocal) return ofPackage(name, readLocalPage(new URL('index.html', page)));
      try {
        return ofPackage(name, await readRemotePage(page, http));
      } catch (error) {
        if (error instanceof HttpError && (error.status === 404 || error.status === 410)) return [];
        throw error;
      }
    },
  });
}

/** A folder of wheels, or a page with links to wheels, of any package. */
function linksSource(link: string, http: HttpOptions): WheelSource {
  const isLocal = !/^https?:/i.test(link);
  const path = !isLocal ? link : link.startsWith('file:') ? fileURLToPath(link) : resolve(link);
  return once({
    name: publicAddress(path),
    isLocal,
    async wheelsOf(name) {
      if (!isLocal) return ofPackage(name, await readRemotePage(link, http));
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat?.isDirectory() === true) return ofPackage(name, readFolder(path));
      return stat === undefined ? [] : ofPackage(name, readLocalPage(pathToFileURL(path)));
    },
  });
}

/** Asks a source once for each package. */
function once(source: WheelSource): WheelSource {
  const known = new Map<string, Promise<IndexedWheel[]>>();
  return {
    ...source,
    wheelsOf(name) {
      let wheels = known.get(name);
      if (wheels === undefined) known.set(name, (wheels = source.wheelsOf(name)));
      return wheels;
    },
  };
}

function ofPackage(name: string, wheels: readonly IndexedWheel[]): IndexedWheel[] {
  return wheels.filter((wheel) => wheel.name === normalName(name));
}

function readFolder(folder: string): IndexedWheel[] {
  return readdirSync(folder)
    .sort()
    .flatMap((fileName) => {
      const name = parseWheelName(fileName);
      if (name === null) return [];
      const path = join(folder, fileName);
      const size = statSync(path).size;
      return {
        ...name,
        fileName,
        url: pathToFileURL(path).href,
        sha256: null,
        size,
        hasMetadataFile: false,
        isYanked: false,
      };
    });
}

function readLocalPage(url: URL): IndexedWheel[] {
  let html: string;
  try {
    html = readFileSync(url, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
  return parseHtml(html, url.href).map((wheel) => {
    const isFile = wheel.url.startsWith('file:');
    const size = isFile ? statSync(new URL(wheel.url), { throwIfNoEntry: false })?.size : undefined;
    return { ...wheel, size: size ?? null };
  });
}

const jsonType = 'application/vnd.pypi.simple.v1+json';

async function readRemotePage(page: string, http: HttpOptions): Promise<IndexedWheel[]> {
  const accept = `${jsonType}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1`;
  const { headers, body, url } = await readUrl(page, { accept }, http);
  const text = body.toString('utf8');
  if (!(headers.get('content-type') ?? '').startsWith(jsonType)) return parseHtml(text, url);
  try {
    return parseJson(text, url);
  } catch (error) {
    throw new HttpError(
      `${publicAddress(page)} gave a list of files that can't be read: ${(error as Error).message}`,
      undefined,
      error,
    );
  }
}

interface JsonFile {
  filename: string;
  url: string;
  hashes?: { sha256?: string };
  size?: number;
  yanked?: boolean | string;
  'core-metadata'?: unknown;
  'dist-info-metadata'?: unknown;
}

/** The answer of an index in JSON. */
export function parseJson(text: string, page: string): IndexedWheel[] {
  return (JSON.parse(text) as { files: JsonFile[] }).files.flatMap((file) => {
    const name = parseWheelName(file.filename);
    if (name === null) return [];
    return {
      ...name,
      fileName: file.filename,
      url: absolute(file.url, page),
      sha256: file.hashes?.sha256?.toLowerCase() ?? null,
      size: file.size ?? null,
      hasMetadataFile: isOffered(file['core-metadata'] ?? file['dist-info-metadata']),
      isYanked: isOffered(file.yanked),
    };
  });
}

/** A page with links to wheels: an index's answer in HTML, or any other page. */
export function parseHtml(text: string, page: string): IndexedWheel[] {
  const base = attributes(/<base\b([^>]*)>/i.exec(text)?.[1] ?? '').href;
  const from = base === undefined ? page : absolute(base, page);
  return [...text.matchAll(/<a\b([^>]*)>/gi)].flatMap(([, inside]) => {
    const { href, ...rest } = attributes(inside!);
    if (href === undefined) return [];
    const url = new URL(absolute(href, from));
    const sha256 = /(?:^#|&)sha256=([0-9a-f]{64})/i.exec(url.hash)?.[1]?.toLowerCase() ?? null;
    url.hash = '';
    const fileName = decodeURIComponent(url.pathname.split('/').pop()!);
    const name = parseWheelName(fileName);
    if (name === null) return [];
    const metadata = rest['data-core-metadata'] ?? rest['data-dist-info-metadata'];
    return {
      ...name,
      fileName,
      url: url.href,
      sha256,
      size: null,
      hasMetadataFile: isOffered(metadata),
      isYanked: rest['data-yanked'] !== undefined,
    };
  });
}

function isOffered(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false && value !== 'false';
}

function absolute(address: string, page: string): string {
  return withCredentialsOf(page, new URL(address, page).href);
}

function attributes(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [, name, double, single, bare] of text.matchAll(
    /([\w-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?/g,
  )) {
    found[name!.toLowerCase()] = unescapeHtml(double ?? single ?? bare ?? '');
  }
  return found;
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", '#39': "'", '#x27': "'" };

function unescapeHtml(text: string): string {
  return text.replace(/&([#\w]+);/g, (whole, name: string) => entities[name.toLowerCase()] ?? whole);
}
