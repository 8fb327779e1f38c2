import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseWheelName } from '../../src/libtorch/wheel-name';
import { wheelEntries, zip } from './fakes';

/** How the server misbehaves, or what it can't do. */
export interface FakeBehaviour {
  /** How lists are served. Default: `json`. */
  lists?: 'json' | 'html';
  /** Whether METADATA can be had alone. Default: false. */
  metadataFiles?: boolean;
  /** Whether parts of files can be had. Default: true. */
  ranges?: boolean;
  /** Whether files have an entity tag. Default: true. */
  tags?: boolean;
  /** Whether lists tell hashes and sizes. Default: true. */
  hashes?: boolean;
  /** Answers with this status before anything else, as long as it gives one. */
  status?: (path: string) => number | undefined;
  /** Breaks the connection after so many bytes of a file, as long as it gives a number. */
  breakAfter?: (path: string, range: string | undefined) => number | undefined;
  /** Sends nothing more after so many bytes of a file, as long as it gives a number. */
  stallAfter?: (path: string) => number | undefined;
  /** Changes what is sent of a file. */
  content?: (path: string, content: Buffer) => Buffer;
  /** What every request must say about who asks. */
  authorization?: string;
}

/** A package index on this machine, with wheels made by the test. */
export class FakeIndex {
  readonly wheels = new Map<string, Buffer>();
  /** What was asked for: the path, and the range when there was one. */
  readonly requests: string[] = [];
  behaviour: FakeBehaviour = {};
  private readonly metadata = new Map<string, Buffer>();
  private readonly server: Server;

  constructor() {
    this.server = createServer((request, response) => this.answer(request, response));
    before(() => new Promise<void>((ready) => this.server.listen(0, '127.0.0.1', ready)));
    after(() => {
      this.server.closeAllConnections();
      this.server.close();
    });
    beforeEach(() => {
      this.behaviour = {};
      this.requests.length = 0;
    });
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  get url(): string {
    return `${this.origin}/simple`;
  }

  /** Adds a wheel that requires others; returns its content. */
  add(fileName: string, requires: readonly string[], files: Record<string, string | Buffer> = {}): Buffer {
    const entries = fakeWheelEntries(fileName, requires, files);
    const content = zip(entries);
    this.wheels.set(fileName, content);
    this.metadata.set(fileName, entries.find(({ name }) => name.endsWith('/METADATA'))!.content);
    return content;
  }

  /** Requests for the files themselves, without lists, with or without a range. */
  get fileRequests(): string[] {
    return this.requests.filter((line) => line.startsWith('/files/'));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(request.url!);
    const { range } = request.headers;
    this.requests.push(range === undefined ? path : `${path} ${range}`);
    const status = this.behaviour.status?.(path);
    if (status !== undefined) return void response.writeHead(status).end('no');
    const { authorization } = this.behaviour;
    if (authorization !== undefined && request.headers.authorization !== authorization) {
      return void response.writeHead(401).end('who are you?');
    }
    const [, kind, name = ''] = path.split('/');
    if (kind === 'simple') return this.sendList(name, response);
    if (kind === 'moved') return void response.writeHead(302, { location: `/files/${name}` }).end();
    const metadata = /^(.*\.whl)\.metadata$/.exec(name)?.[1];
    if (metadata !== undefined && this.wheels.has(metadata)) {
      return void response.end(this.metadata.get(metadata));
    }
    const content = this.wheels.get(name);
    if (content === undefined) return void response.writeHead(404).end('no such page');
    this.sendFile(path, this.behaviour.content?.(path, content) ?? content, request, response);
  }

  private sendList(name: string, response: ServerResponse): void {
    const { lists = 'json', hashes = true, metadataFiles = false } = this.behaviour;
    const wheels = [...this.wheels].filter(([fileName]) => parseWheelName(fileName)?.name === name);
    if (wheels.length === 0) return void response.writeHead(404).end('no such package');
    if (lists === 'json') {
      const files = wheels.map(([filename, content]) => ({
        filename,
        url: `../../files/${filename}`,
        hashes: hashes ? { sha256: sha256(content) } : {},
        ...(hashes ? { size: content.length } : {}),
        'core-metadata': metadataFiles,
        yanked: false,
      }));
      response.setHeader('content-type', 'application/vnd.pypi.simple.v1+json');
      return void response.end(JSON.stringify({ meta: { 'api-version': '1.1' }, name, files }));
    }
    const links = wheels.map(([fileName, content]) => {
      const hash = hashes ? `#sha256=${sha256(content)}` : '';
      const metadata = metadataFiles ? ' data-core-metadata="true"' : '';
      return `<a href="../../files/${encodeURIComponent(fileName)}${hash}" data-requires-python="&gt;=3.10"${metadata}>${fileName}</a><br/>`;
    });
    response.setHeader('content-type', 'text/html');
    response.end(`<!DOCTYPE html><html><body>${links.join('\n')}</body></html>`);
  }

  private sendFile(path: string, content: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const { ranges = true, tags = true } = this.behaviour;
    const tag = `"${sha256(content).slice(0, 8)}"`;
    if (tags) response.setHeader('etag', tag);
    const match = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? '');
    const condition = request.headers['if-range'];
    let body = content;
    if (ranges && match && (condition === undefined || condition === tag)) {
      const [, first, last] = match;
      const start = first === '' ? Math.max(0, content.length - Number(last)) : Number(first);
      const end = first === '' || last === '' ? content.length : Math.min(Number(last) + 1, content.length);
      if (start >= content.length) return void response.writeHead(416).end();
      body = content.subarray(start, end);
      response.statusCode = 206;
      response.setHeader('content-range', `bytes ${start}-${end - 1}/${content.length}`);
    }
    response.setHeader('content-length', body.length);
    const broken = this.behaviour.breakAfter?.(path, request.headers.range);
    const stalled = this.behaviour.stallAfter?.(path);
    if (broken === undefined && stalled === undefined) return void response.end(body);
    response.write(body.subarray(0, broken ?? stalled), () => {
      // The bytes have to get out before the connection goes.
      if (broken !== undefined) setTimeout(() => response.destroy(), 20);
    });
  }
}

/** The entries of a wheel with METADATA. */
export function fakeWheelEntries(
  fileName: string,
  requires: readonly string[],
  files: Record<string, string | Buffer>,
): ReturnType<typeof wheelEntries> {
  const [name, version] = fileName.split('-') as [string, string];
  const metadata = [
    'Metadata-Version: 2.4',
    `Name: ${name}`,
    `Version: ${version}`,
    ...requires.map((line) => `Requires-Dist: ${line}`),
    '',
    'What it is. Requires-Dist: nothing here counts',
  ];
  return wheelEntries(`${name}-${version}`, {
    ...files,
    [`${name}-${version}.dist-info/METADATA`]: metadata.join('\n'),
  });
}

/** An address on this machine where nobody answers. */
export async function deadAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return `http://127.0.0.1:${port}`;
}

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}
