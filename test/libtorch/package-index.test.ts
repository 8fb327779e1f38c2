import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseHtml, parseJson, wheelSources } from '../../src/libtorch/package-index';
import { FakeIndex, sha256 } from './fake-index';
import { temporaryFolder, writeFiles } from './fakes';

const quick = { backoffSeconds: 0.001, retries: 1, env: {} };
const name = 'nvidia_nccl_cu13-2.29.7-py3-none-any.whl';

describe('package indexes', () => {
  const index = new FakeIndex();
  const base = temporaryFolder();
  let content: Buffer;
  before(() => (content = index.add(name, [])));

  const source = (...indexUrls: string[]) =>
    wheelSources({ indexUrls, findLinks: [], mayUsePytorchIndex: false }, quick);
  const links = (...findLinks: string[]) =>
    wheelSources({ indexUrls: [], findLinks, mayUsePytorchIndex: false }, quick);

  it('list wheels in JSON and in HTML', async () => {
    for (const lists of ['json', 'html'] as const) {
      index.behaviour = { lists, metadataFiles: true };
      const [wheel, ...rest] = await source(`${index.url}/`)[0]!.wheelsOf('nvidia-nccl-cu13');
      assert.equal(rest.length, 0);
      assert.deepEqual(
        { ...wheel, pythons: null, platforms: null },
        {
          name: 'nvidia-nccl-cu13',
          version: '2.29.7',
          pythons: null,
          platforms: null,
          fileName: name,
          url: `${index.origin}/files/${name}`,
          sha256: sha256(content),
          size: lists === 'json' ? content.length : null,
          hasMetadataFile: true,
          isYanked: false,
        },
      );
    }
  });

  it('are asked once for each package, and may not know one', async () => {
    const [only] = source(index.url);
    await only!.wheelsOf('nvidia-nccl-cu13');
    await only!.wheelsOf('nvidia-nccl-cu13');
    assert.deepEqual(await only!.wheelsOf('absent'), []);
    assert.deepEqual(index.requests, ['/simple/nvidia-nccl-cu13/', '/simple/absent/']);
  });

  it('say what went wrong', async () => {
    index.behaviour.status = () => 403;
    await assert.rejects(source(index.url)[0]!.wheelsOf('a'), /\/simple\/a\/ answered 403/);
    index.behaviour = {};
    assert.throws(() => parseJson('<html>', 'https://a.invalid/'), SyntaxError);
  });

  it('show no password in their names', () => {
    assert.equal(source('https://me:secret@a.invalid/simple/')[0]!.name, 'https://a.invalid/simple');
  });

  it('can be folders and pages on this machine, which are asked first', async () => {
    writeFiles(base, {
      [`simple/nvidia-nccl-cu13/index.html`]: `<a href="../../files/${name}#sha256=${'A'.repeat(64)}">x</a>`,
      [`page.html`]: `<a href='files/${name}'>x</a> <a href="files/other-1-py3-none-any.whl">y</a>`,
      'files/notes.txt': '',
    });
    writeFileSync(join(base, 'files', name), content);
    const sources = wheelSources(
      {
        indexUrls: [index.url, pathToFileURL(join(base, 'simple')).href],
        findLinks: [index.url, join(base, 'files'), pathToFileURL(join(base, 'page.html')).href, join(base, 'absent')],
        mayUsePytorchIndex: true,
      },
      quick,
    );
    assert.deepEqual(
      sources.map(({ isLocal }) => isLocal),
      [true, true, true, true, false, false],
    );
    const found = await Promise.all(sources.slice(0, 4).map((place) => place.wheelsOf('nvidia-nccl-cu13')));
    assert.deepEqual(
      found.map((wheels) => wheels.map(({ url, size, sha256: hash }) => [url, size, hash])),
      [
        [[pathToFileURL(join(base, 'files', name)).href, content.length, null]],
        [[pathToFileURL(join(base, 'files', name)).href, content.length, null]],
        [],
        [[pathToFileURL(join(base, 'files', name)).href, content.length, 'a'.repeat(64)]],
      ],
    );
    assert.deepEqual(await sources[3]!.wheelsOf('absent'), []);
  });

  it('can be pages of links on a server', async () => {
    index.behaviour.lists = 'html';
    const [page] = links(`${index.url}/nvidia-nccl-cu13/`);
    assert.equal((await page!.wheelsOf('nvidia-nccl-cu13')).length, 1);
    assert.equal((await page!.wheelsOf('other')).length, 0);
  });

  it('write HTML in many ways', () => {
    const html = `<base href="https://b.invalid/x/"><a class=big HREF="a%2Bb-1.0%2Bcu130-py3-none-any.whl#egg=1&amp;sha256=${'0'.repeat(64)}" data-dist-info-metadata="sha256=1" data-yanked>a</a>
      <a href="c-1.0.tar.gz">c</a><a name="x">d</a><a href=/e-1.0-py3-none-any.whl data-core-metadata=false>e</a>`;
    assert.deepEqual(
      parseHtml(html, 'https://a.invalid/').map(({ fileName, url, sha256: hash, hasMetadataFile, isYanked }) => [
        fileName,
        url,
        hash,
        hasMetadataFile,
        isYanked,
      ]),
      [
        [
          'a+b-1.0+cu130-py3-none-any.whl',
          'https://b.invalid/x/a%2Bb-1.0%2Bcu130-py3-none-any.whl',
          '0'.repeat(64),
          true,
          true,
        ],
        ['e-1.0-py3-none-any.whl', 'https://b.invalid/e-1.0-py3-none-any.whl', null, false, false],
      ],
    );
  });

  it('write JSON in several ways', () => {
    const file = { filename: 'a-1.0-py3-none-any.whl', url: 'https://me:p@a.invalid/a' };
    const read = (more: object) =>
      parseJson(JSON.stringify({ files: [{ ...file, ...more }] }), 'https://me:p@b.invalid/')[0]!;
    assert.equal(read({ 'core-metadata': { sha256: 'x' } }).hasMetadataFile, true);
    assert.equal(read({ 'dist-info-metadata': true }).hasMetadataFile, true);
    assert.equal(read({ 'core-metadata': false }).hasMetadataFile, false);
    assert.equal(read({ yanked: 'broken' }).isYanked, true);
    assert.deepEqual([read({}).sha256, read({}).size, read({}).isYanked], [null, null, false]);
    assert.equal(read({ url: '/c.whl' }).url, 'https://me:p@b.invalid/c.whl');
    assert.deepEqual(parseJson('{"files": [{"filename": "a.tar.gz", "url": "x"}]}', 'https://b.invalid/'), []);
  });
});
