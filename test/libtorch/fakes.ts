import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { libraryFile } from '../../src/libtorch/folder';

/** A folder that is deleted after the current suite's last test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'kontrast-libtorch-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes files, given by their paths inside a folder. */
export function writeFiles(folder: string, files: Record<string, string>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
}

/** The files that a `torch` folder is recognised by. */
export function torchFiles(version: string): Record<string, string> {
  return {
    'version.py': `from typing import Optional\n__version__ = '${version}'\ncuda: Optional[str] = None\n`,
    [`lib/${libraryFile('c10')}`]: 'c10',
    [`lib/${libraryFile('torch_cpu')}`]: 'torch_cpu',
    'include/ATen/core/dispatch/Dispatcher.h': '#pragma once\n',
  };
}

/** Makes a folder that looks like an installed torch package. */
export function writeTorch(folder: string, version: string): string {
  writeFiles(folder, torchFiles(version));
  return folder;
}

/** A stand-in for python3 on a PATH of its own, no package index, and a cache folder: nothing of the real machine is seen. */
export function isolatedEnvironment(base: string, torch: string | null = null): NodeJS.ProcessEnv {
  const bin = join(base, 'bin');
  writeFiles(bin, { python3: `#!/bin/sh\n[ "$1" = -c ] || exit 9\nprintf '%s' '${torch ?? ''}'\n` });
  chmodSync(join(bin, 'python3'), 0o755);
  return {
    PATH: `${bin}:/usr/bin:/bin`,
    KONTRAST_CACHE: join(base, 'cache'),
    HOME: base,
    PIP_CONFIG_FILE: '/dev/null',
    PIP_NO_INDEX: '1',
  };
}

/** One file of an archive. */
export interface ZipEntry {
  name: string;
  content: Buffer;
}

/** A zip archive, compressed, without checksums (a wheel's record is what counts). Written here because broken ones are needed too. */
export function zip(entries: readonly ZipEntry[]): Buffer {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const { name, content } of entries) {
    const path = Buffer.from(name);
    const packed = deflateRawSync(content);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0); // version needed
    common.writeUInt16LE(8, 4); // deflate
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(path.length, 22);
    const header = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, path]);
    local.push(header, packed);
    const attributes = Buffer.alloc(14);
    attributes.writeUInt32LE((0o100755 << 16) >>> 0, 6);
    attributes.writeUInt32LE(offset, 10);
    const made = Buffer.from([20, 3]);
    central.push(Buffer.from('PK\x01\x02', 'latin1'), made, common, attributes, path);
    offset += header.length + packed.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...local, directory, end]);
}

/** The entries of a wheel with a correct record. */
export function wheelEntries(name: string, files: Record<string, string | Buffer>): ZipEntry[] {
  const entries = Object.entries(files).map(([path, content]) => ({ name: path, content: Buffer.from(content) }));
  const lines = entries.map(({ name: path, content }) => {
    const hash = createHash('sha256').update(content).digest('base64url');
    const field = path.includes(',') ? `"${path}"` : path;
    return `${field},sha256=${hash},${content.length}`;
  });
  const record = `${name}.dist-info/RECORD`;
  return [...entries, { name: record, content: Buffer.from([...lines, `${record},,`, ''].join('\n')) }];
}
