import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { type Browser, chromium, type Page } from 'playwright-core';

import { writeReport } from '../../src/report';
import { chromiumArguments, findChromium } from './chromium';
import { fullReport } from './fixture';

describe('report in a browser', function () {
  let folder: string | undefined;
  let browser: Browser | undefined;
  let address: string;

  before(async function () {
    const executablePath = findChromium();
    if (!executablePath) {
      console.log('      skipped: no Chromium found; install it or name it in the environment variable CHROMIUM');
      this.skip();
    }
    folder = await mkdtemp(join(tmpdir(), 'kontrast-report-'));
    const path = join(folder, 'report.html');
    await writeReport(path, { ...fullReport(), title: '<script>document.title = "run"</script>' });
    address = pathToFileURL(path).href;
    browser = await chromium.launch({ executablePath, args: chromiumArguments });
  });

  after(async () => {
    await browser?.close();
    if (folder) await rm(folder, { recursive: true });
  });

  /** Opens the report and fails on anything that the page complains of or asks of the network. */
  async function withPage(
    options: { width: number; colorScheme: 'light' | 'dark' },
    look: (page: Page) => Promise<void>,
  ): Promise<void> {
    const page = await browser!.newPage({
      viewport: { width: options.width, height: 800 },
      colorScheme: options.colorScheme,
    });
    const complaints: string[] = [];
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => {
      if (request.url() !== address && !request.url().startsWith('data:')) complaints.push(`asks for ${request.url()}`);
    });
    await page.goto(address);
    await look(page);
    await page.close();
    assert.deepEqual(complaints, []);
  }

  for (const width of [1280, 390]) {
    for (const colorScheme of ['light', 'dark'] as const) {
      it(`shows everything at ${width} pixels in ${colorScheme}`, () =>
        withPage({ width, colorScheme }, async (page) => {
          assert.equal(await page.title(), '<script>document.title = "run"</script>');
          assert.equal(await page.evaluate('document.documentElement.scrollWidth'), width, 'no sideways scrolling');
          const charts = await page.locator('svg.chart').all();
          assert.equal(charts.length, 10);
          for (const chart of charts) {
            const box = await chart.boundingBox();
            assert.ok(box && box.width >= Math.min(width - 40, 380) && box.height >= 100, JSON.stringify(box));
          }
          const broken = 'Array.from(document.images).filter((image) => image.naturalWidth !== 9).length';
          assert.equal(await page.evaluate(broken), 0);
          const lightness = await page.evaluate<number[]>(
            `['backgroundColor', 'color'].map((name) => Number(getComputedStyle(document.body)[name].match(/\\d+/)[0]))`,
          );
          assert.ok(
            colorScheme === 'light'
              ? lightness[0]! > 200 && lightness[1]! < 60
              : lightness[0]! < 60 && lightness[1]! > 200,
          );
        }));
    }
  }

  it('brings out the class that is chosen in the legend, in both maps', () =>
    withPage({ width: 1280, colorScheme: 'light' }, async (page) => {
      const faint = `Array.from(document.querySelectorAll('#projection circle'))
        .filter((circle) => getComputedStyle(circle).opacity !== '1').map((circle) => circle.dataset.class)`;
      assert.deepEqual(await page.evaluate(faint), []);
      await page.locator('label', { hasText: 'Trouser' }).click();
      const classes = await page.evaluate<string[]>(faint);
      assert.equal(classes.length, 120);
      assert.ok(!classes.includes('1'));
    }));

  it('colours classes, and both sides of a pair, differently', () =>
    withPage({ width: 1280, colorScheme: 'dark' }, async (page) => {
      const fills = await page.evaluate<string[]>(
        `Array.from(document.querySelectorAll('#projection circle')).slice(0, 3).map((circle) => getComputedStyle(circle).fill)`,
      );
      assert.equal(new Set(fills).size, 3);
      const areas = await page.evaluate<string[]>(
        `Array.from(document.querySelectorAll('#similarities figure:first-child g[aria-label="area"]'))
          .map((area) => getComputedStyle(area).fill)`,
      );
      assert.equal(new Set(areas).size, 2);
    }));
});
