import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { PNG } from 'pngjs';

import { renderReport, type ReportData, writeReport } from '../../src/report';
import { InvalidArgumentError, KontrastError } from '../../src/torch/errors';
import { fullReport, image } from './fixture';
import { type ParsedDocument, parsePage } from './parse';

const parse = async (data: ReportData): Promise<ParsedDocument> => parsePage(await renderReport(data));
const sectionIds = ['results', 'neighbours', 'training', 'similarities', 'projection', 'run'];

describe('report', () => {
  describe('the page', () => {
    let document: ParsedDocument;
    const count = (selector: string): number => document.querySelectorAll(selector).length;

    before(async () => {
      document = await parse(fullReport());
    });

    it('has every section, with a title, an explanation and a link to it', () => {
      assert.deepEqual(
        [...document.querySelectorAll('main > section')].map((section) => section.id),
        sectionIds,
      );
      for (const id of sectionIds) {
        assert.ok(document.querySelector(`#${id} > h2`)?.textContent);
        assert.ok(document.querySelector(`#${id} > .explanation`)?.textContent);
        assert.equal(count(`nav a[href="#${id}"]`), 1);
      }
      assert.equal(document.title, 'MoCo on a test');
      assert.equal(document.querySelector('h1')?.textContent, 'MoCo on a test');
      assert.equal(document.documentElement.getAttribute('lang'), 'en');
    });

    it('shows single facts below the title and groups at the end, with formatted numbers', () => {
      const single = [...document.querySelectorAll('.facts dd')].map((element) => element.textContent);
      assert.deepEqual(single, ['recipe.ts', '1,063', '299,520']);
      const options = [...document.querySelectorAll('.group:first-child dd')].map((element) => element.textContent);
      assert.deepEqual(options, ['0.1', 'yes', '–']);
      assert.equal(count('.group'), 2);
    });

    it('shows accuracies with differences to the first row and the best of a column marked', () => {
      const rows = [...document.querySelectorAll('#results tbody tr')].map((row) =>
        row.textContent?.trim().split(/\s+/).join(' '),
      );
      assert.deepEqual(rows, [
        'raw pixels 86.0% 84.0%',
        'untrained encoder 82.8% −3.2 –',
        'trained encoder 88.1% +2.1 89.3% +5.3',
      ]);
      assert.deepEqual(
        [...document.querySelectorAll('.best')].map((element) => element.textContent),
        ['88.1%', '89.3%'],
      );
      // Five values; the legend draws its marks apart from them.
      assert.equal(count('#results .accuracies > *'), 5);
    });

    it('draws one chart a series, the similarities together, with names of the axes', () => {
      const titles = [...document.querySelectorAll('#training h3')].map((element) => element.textContent);
      assert.deepEqual(titles, ['Loss', 'Mean similarity', 'Learning rate', 'Training speed', 'Queue']);
      const lines = [...document.querySelectorAll('#training figure')].map(
        (figure) => figure.querySelectorAll('g[aria-label="line"] path').length,
      );
      assert.deepEqual(lines, [1, 2, 1, 1, 1]);
      const chart = document.querySelector('#training svg');
      assert.equal(chart?.querySelector('[aria-label="x-axis label"]')?.textContent, 'training step');
      assert.equal(chart?.querySelector('[aria-label="y-axis label"]')?.textContent, 'nats');
      assert.match(chart?.getAttribute('aria-label') ?? '', /^Loss by training step\. Loss: from 7\.\d+ to 3\.\d+\.$/);
    });

    it('sums long series up and tells the values of each interval to the pointer', () => {
      // 300 steps in intervals of 3.
      const reach = [...document.querySelectorAll('#training figure:first-child .reach > line')];
      assert.equal(reach.length, 100);
      assert.match(reach[0]?.querySelector('title')?.textContent ?? '', /^steps 1 to 3\nLoss 7\.\d+$/);
    });

    it('draws both distributions before and after training', () => {
      assert.equal(count('#similarities figure'), 2);
      for (const figure of document.querySelectorAll('#similarities figure')) {
        assert.equal(figure.querySelectorAll('g[aria-label="area"] path').length, 2);
        assert.match(figure.textContent ?? '', /500 positive pairs with mean .*, 500 negative pairs with mean/);
      }
      assert.match(
        document.querySelector('.bars title')?.textContent ?? '',
        /^negative pairs from .* to .*\n\d+ \(.*%\)$/,
      );
    });

    it('draws every point in its class and names every class', () => {
      for (const figure of document.querySelectorAll('#projection figure')) {
        const circles = [...figure.querySelectorAll('circle')];
        assert.deepEqual(
          circles.map((circle) => Number(circle.getAttribute('data-class'))),
          fullReport().projection?.after?.labels,
        );
        assert.deepEqual(
          [...figure.querySelectorAll('.names text')].map((text) => text.textContent),
          ['T-shirt/top', 'Trouser', 'Ankle boot'],
        );
      }
      assert.equal(count('#projection figure'), 2);
      assert.equal(count('#projection input[type=radio]'), 4);
    });

    it('shows queries and neighbours as images, marked by class', () => {
      assert.equal(count('.query'), 2);
      assert.equal(count('.query ol > li'), 8);
      const kinds = [...document.querySelectorAll('.query ol .frame')].map((frame) => frame.getAttribute('class'));
      assert.deepEqual(
        kinds,
        ['same', 'other', 'other', 'same', 'other', 'same', 'other', 'other'].map((kind) => `frame ${kind}`),
      );
      assert.equal(count('.query ol .frame > .mark'), 8);
      assert.match(document.querySelector('#neighbours .explanation')?.textContent ?? '', /3 of the 8 neighbours/);
      const alt = document.querySelector('.query ol img')?.getAttribute('alt');
      assert.equal(alt, 'Neighbour 1: T-shirt/top, the same class, similarity 0.98');
    });

    it('holds images that decode to the given pixels', () => {
      const pictures = [...document.querySelectorAll('img')];
      assert.equal(pictures.length, 10);
      const prefix = 'data:image/png;base64,';
      for (const [position, expected] of [
        [0, image(0)],
        [1, image(0)],
        [4, image(3, 3)],
      ] as const) {
        const source = pictures[position]?.getAttribute('src') ?? '';
        assert.ok(source.startsWith(prefix));
        const decoded = PNG.sync.read(Buffer.from(source.slice(prefix.length), 'base64'));
        assert.equal(decoded.width, 9);
        assert.equal(decoded.height, 7);
        for (let pixel = 0; pixel < 63; pixel++) {
          for (let channel = 0; channel < 3; channel++) {
            const from = expected.channels === 1 ? pixel : pixel * 3 + channel;
            assert.equal(decoded.data[pixel * 4 + channel], expected.pixels[from]);
          }
        }
      }
    });

    it('gives every image and every chart a description', () => {
      for (const picture of document.querySelectorAll('img')) assert.ok(picture.getAttribute('alt'));
      for (const chart of document.querySelectorAll('svg.chart')) {
        assert.equal(chart.getAttribute('role'), 'img');
        assert.ok(chart.getAttribute('aria-label'));
      }
    });
  });

  it('refers to nothing outside itself and runs no script', async () => {
    const page = await renderReport(fullReport());
    assert.doesNotMatch(page, /https?:|@import|<script|url\(|src="(?!data:)|href="(?!#|data:,")/i);
    assert.match(page, /default-src 'none'/);
  });

  it('shows each class by its number where it has no name', async () => {
    const document = await parse({ ...fullReport(), classNames: undefined });
    assert.equal(document.querySelector('.query .name')?.textContent, 'class 0');
  });

  it('escapes text wherever it is shown', async () => {
    const evil = `"><script>alert(1)</script><img src=x onerror='alert(2)'> & co`;
    const full = fullReport();
    const page = await renderReport({
      ...full,
      title: evil,
      subtitle: evil,
      facts: { [evil]: evil, [`group ${evil}`]: { [evil]: evil } },
      table: [{ name: evil, knn: 0.5 }],
      curves: { step: [1, 2], other: [{ name: evil, unit: evil, values: [1, 2] }] },
      classNames: [evil, evil, evil],
    });
    assert.doesNotMatch(page, /<script/i);
    const document = await parsePage(page);
    assert.equal(document.querySelector('h1')?.textContent, evil);
    assert.equal(document.querySelector('.facts dd')?.textContent, evil);
    assert.equal(document.querySelector('#training h3')?.textContent, evil);
    assert.equal(document.querySelector('#projection .names text')?.textContent, `${evil.slice(0, 23)}…`);
    assert.equal(document.querySelector('#projection label + label')?.textContent?.trim(), evil);
    assert.equal(document.querySelectorAll('[onerror]').length, 0);
    assert.equal(document.querySelector('.query img')?.getAttribute('alt'), `Query: ${evil}`);
  });

  it('leaves out what is missing or empty', async () => {
    const only = await parse({ title: 'Only a title' });
    assert.equal(only.querySelectorAll('section, nav, svg, .facts, .subtitle').length, 0);
    const empty = await parse({
      title: 'Empty parts',
      facts: { Options: {} },
      table: [],
      curves: { step: [], loss: [] },
      histograms: { after: { positive: { edges: [0], counts: [] }, negative: { edges: [0, 1], counts: [0] } } },
      projection: { after: { points: [], labels: [] } },
      neighbours: [],
    });
    assert.equal(empty.querySelectorAll('section').length, 0);
    for (const [id, part] of Object.entries({
      results: 'table',
      neighbours: 'neighbours',
      training: 'curves',
      similarities: 'histograms',
      projection: 'projection',
      run: 'facts',
    })) {
      const document = await parse({ ...fullReport(), [part]: undefined });
      assert.deepEqual(
        [...document.querySelectorAll('section')].map((section) => section.id),
        sectionIds.filter((other) => other !== id),
      );
    }
  });

  it('draws series of one value, of equal values and with gaps', async () => {
    const document = await parse({
      title: 'Odd curves',
      curves: {
        step: [1, 2, 3],
        loss: [NaN, 2, Infinity],
        learningRate: [0, 0, 0],
        imagesPerSecond: [NaN, NaN, NaN],
      },
      projection: { after: { points: [[3, 3]], labels: [0] } },
    });
    const captions = [...document.querySelectorAll('#training figcaption')].map((element) => element.textContent);
    assert.deepEqual(captions, ['2.', '0.']);
    for (const chart of document.querySelectorAll('svg.chart')) assert.doesNotMatch(chart.outerHTML, /NaN|Infinity/);
    assert.equal(document.querySelectorAll('#projection circle').length, 1);
  });

  it('takes the later entry where a resumed run repeats a step', async () => {
    const document = await parse({ title: 'Resumed', curves: { step: [1, 2, 3, 2, 3], loss: [9, 8, 7, 6, 5] } });
    assert.equal(document.querySelector('#training figcaption')?.textContent, 'From 9 to 5.');
    assert.equal(document.querySelectorAll('#training .reach > line').length, 3);
  });

  it('gives the same bytes for the same data', async () => {
    assert.equal(await renderReport(fullReport()), await renderReport(fullReport()));
  });

  describe('bad data', () => {
    const rejects = (change: Partial<ReportData>, message: RegExp) =>
      assert.rejects(renderReport({ ...fullReport(), ...change }), (error) => {
        assert.ok(error instanceof InvalidArgumentError);
        assert.match(error.message, message);
        return true;
      });
    const bins = { edges: [0, 1, 2], counts: [1, 2] };
    const pixel = { width: 1, height: 1, channels: 1 as const, pixels: new Uint8Array(1) };

    it('is named by its path', async () => {
      await rejects({ title: ' ' }, /title/);
      await rejects({ curves: { step: [1, 2], loss: [1] } }, /curves\.loss has 1 values but curves\.step has 2/);
      await rejects({ curves: { step: [NaN] } }, /curves\.step\[0\]/);
      await rejects({ curves: { step: [1], other: [{ name: 'x', values: [] }] } }, /curves\.other\[0\]\.values/);
      await rejects({ histograms: { after: { positive: { edges: [0, 1], counts: [1, 2] }, negative: bins } } }, /edge/);
      await rejects(
        { histograms: { after: { positive: bins, negative: { edges: [0, 0], counts: [1] } } } },
        /ascending/,
      );
      await rejects(
        { histograms: { before: { positive: bins, negative: { edges: [0, 1], counts: [-1] } } } },
        /counts\[0\]/,
      );
      await rejects({ projection: { after: { points: [[0, 0]], labels: [] } } }, /1 points and 0 labels/);
      await rejects({ projection: { before: { points: [[0, NaN]], labels: [0] } } }, /projection\.before\.points\[0\]/);
      await rejects({ projection: { before: { points: [[0, 0]], labels: [0.5] } } }, /projection\.before\.labels\[0\]/);
      await rejects({ table: [{ name: 'percent', knn: 88.1 }] }, /table\[0\]\.knn is 88\.1/);
      await rejects(
        { neighbours: [{ query: { ...pixel, width: 2 }, label: 0, neighbours: [] }] },
        /neighbours\[0\]\.query/,
      );
      await rejects({ neighbours: [{ query: { ...pixel, width: 0 }, label: 0, neighbours: [] }] }, /0 by 1/);
      await rejects(
        { neighbours: [{ query: { ...pixel, channels: 2 as 1 }, label: 0, neighbours: [] }] },
        /2 channels/,
      );
      await rejects({ neighbours: [{ query: pixel, label: -1, neighbours: [] }] }, /neighbours\[0\]\.label/);
    });
  });

  describe('the file', () => {
    let folder: string;

    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'kontrast-report-'));
    });

    afterEach(() => rm(folder, { recursive: true }));

    it('is the page, replaces an older one and leaves nothing beside it', async () => {
      const path = join(folder, 'report.html');
      await writeFile(path, 'old');
      await writeReport(path, fullReport());
      assert.equal(await readFile(path, 'utf8'), await renderReport(fullReport()));
      assert.deepEqual(await readdir(folder), ['report.html']);
    });

    it('stays as it was when the data are bad', async () => {
      const path = join(folder, 'report.html');
      await writeFile(path, 'old');
      await assert.rejects(writeReport(path, { title: '' }), InvalidArgumentError);
      assert.equal(await readFile(path, 'utf8'), 'old');
    });

    it('is refused where its folder is missing', async () => {
      await assert.rejects(writeReport(join(folder, 'missing', 'report.html'), fullReport()), (error) => {
        assert.ok(error instanceof InvalidArgumentError);
        assert.match(error.message, /make the folder .*missing first/);
        return true;
      });
    });

    it('leaves nothing behind when its place is taken by a folder', async () => {
      const path = join(folder, 'report.html');
      await mkdir(join(path, 'full'), { recursive: true });
      await assert.rejects(writeReport(path, fullReport()), (error) => {
        assert.ok(error instanceof KontrastError);
        assert.equal(error.code, 'REPORT_WRITE');
        return true;
      });
      assert.deepEqual(await readdir(folder), ['report.html']);
    });
  });
});
