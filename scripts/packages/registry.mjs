// A registry of npm packages on this machine, from tarballs: what package managers install from when no network is there.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename } from 'node:path';

/** The package.json inside a tarball. */
export function manifestOfTarball(tarball) {
  const listed = spawnSync('tar', ['-tzf', tarball], { encoding: 'utf8', maxBuffer: 2 ** 28 }).stdout.split('\n');
  // Most tarballs have all in a folder `package`, some in one of another name.
  const entry = listed.find((name) => /^[^/]+\/package\.json$/.test(name));
  const { stdout } = spawnSync('tar', ['-xzOf', tarball, entry], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  return JSON.parse(stdout);
}

/** Serves tarballs to npm, pnpm, Yarn and Bun. @returns its address and what ends it */
export async function startRegistry(tarballs) {
  const packages = new Map();
  const files = new Map();
  let address = '';
  for (const tarball of tarballs) {
    const manifest = manifestOfTarball(tarball);
    const file = `${manifest.name.replace('/', '-').replace('@', '')}-${manifest.version}.tgz`;
    files.set(file, tarball);
    const content = readFileSync(tarball);
    const dist = {
      file,
      shasum: createHash('sha1').update(content).digest('hex'),
      integrity: `sha512-${createHash('sha512').update(content).digest('base64')}`,
    };
    const versions = packages.get(manifest.name) ?? {};
    versions[manifest.version] = { ...manifest, dist };
    packages.set(manifest.name, versions);
  }
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname).slice(1);
    if (path.startsWith('-/tarballs/')) {
      const tarball = files.get(basename(path));
      if (tarball === undefined) return response.writeHead(404).end();
      response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': statSync(tarball).size });
      return createReadStream(tarball).pipe(response);
    }
    const versions = packages.get(path);
    if (versions === undefined) return response.writeHead(404).end('{"error":"not found"}');
    const served = Object.fromEntries(
      Object.entries(versions).map(([version, { dist, ...manifest }]) => [
        version,
        {
          ...manifest,
          _id: `${path}@${version}`,
          dist: { ...dist, tarball: `${address}/-/tarballs/${dist.file}` },
        },
      ]),
    );
    // The newest comes last in the order in which tarballs were given.
    const body = { name: path, 'dist-tags': { latest: Object.keys(versions).at(-1) }, versions: served };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `http://127.0.0.1:${server.address().port}`;
  return { address, close: () => server.close() };
}
