import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

import { InvalidArgumentError, KontrastError } from '../torch/errors';
import { writeFileAtomic } from '../torch/files';
import { accuracyTable, drawAccuracies } from './accuracy-chart';
import { type ChartLibrary, loadCharts } from './chart';
import { drawCurves } from './curves';
import { type BeforeAfter, checkReportData, type Projection, type ReportData, type ReportFact } from './data';
import { type Html, html, Html as FinishedHtml } from './html';
import { neighbourGrid, neighbourSummary } from './neighbours';
import { formatNumber } from './numbers';
import { loadPngEncoder } from './png';
import { drawProjection, projectionLegend } from './projection-chart';
import { drawSimilarities, similarityRange } from './similarity-chart';
import { style } from './style';

/** A part of the page; it is left out when it has no content. */
interface Section {
  id: string;
  title: string;
  explanation: string;
  content: Html;
}

const moments = [
  ['before', 'Before training'],
  ['after', 'After training'],
] as const;

/**
 * Writes a report of a training run as one HTML file that needs nothing else: no network, no script, no font file. It
 * reads well on a laptop and on a phone, in light and dark, and can be sent around as it is. The same data give the same
 * bytes.
 *
 * The file appears at once: it is written beside its place under another name, synced and renamed.
 *
 * @param path where to write; an existing file is replaced, its folder must exist
 * @throws InvalidArgumentError when the parts of the data do not fit together, or the folder does not exist
 * @throws KontrastError with the code `REPORT_WRITE` when the file cannot be written
 */
export async function writeReport(path: string, data: ReportData): Promise<void> {
  checkReportData(data);
  const target = resolve(path);
  const folder = await stat(dirname(target)).catch(() => null);
  if (!folder?.isDirectory()) {
    throw new InvalidArgumentError(`Cannot write the report to ${path}: make the folder ${dirname(target)} first.`);
  }
  const page = await renderReport(data);
  try {
    writeFileAtomic(target, page);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new KontrastError(`Cannot write the report to ${path}: ${reason}`, { code: 'REPORT_WRITE', cause });
  }
}

/**
 * Makes the page of {@link writeReport} as text.
 *
 * @throws InvalidArgumentError when the parts of the data do not fit together
 */
export async function renderReport(data: ReportData): Promise<string> {
  checkReportData(data);
  const library = await loadCharts();
  const className = (label: number): string => data.classNames?.[label] ?? `class ${label}`;
  const sections = [
    resultSection(library, data),
    await neighbourSection(data, className),
    curveSection(library, data),
    similaritySection(library, data),
    projectionSection(library, data, className),
    factSection(data),
  ].filter((section) => section !== null);
  return page(data, sections).text;
}

function page(data: ReportData, sections: readonly Section[]): Html {
  const single = Object.entries(data.facts ?? {}).filter((entry): entry is [string, ReportFact] => !isGroup(entry[1]));
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <title>${data.title}</title>
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="generator" content="kontrast" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        />
        <link rel="icon" href="data:," />
        <style>
          ${new FinishedHtml(style)}
        </style>
      </head>
      <body>
        <header class="page">
          <h1>${data.title}</h1>
          ${data.subtitle && html`<p class="subtitle">${data.subtitle}</p>`}
          ${
            single.length > 0 &&
            html`<dl class="facts">
              ${single.map(
                ([name, value]) =>
                  html`<div>
                    <dt>${name}</dt>
                    <dd>${formatFact(value)}</dd>
                  </div>`,
              )}
            </dl>`
          }
          ${
            sections.length > 1 &&
            html`<nav aria-label="Sections">
              <ul>
                ${sections.map(({ id, title }) => html`<li><a href="#${id}">${title}</a></li>`)}
              </ul>
            </nav>`
          }
        </header>
        <main>
          ${sections.map(
            ({ id, title, explanation, content }) =>
              html`<section id="${id}" aria-labelledby="${id}-title">
                <h2 id="${id}-title">${title}</h2>
                <p class="explanation">${explanation}</p>
                ${content}
              </section> `,
          )}
        </main>
        <footer>Made by kontrast.</footer>
      </body>
    </html> `;
}

function resultSection(library: ChartLibrary, { table }: ReportData): Section | null {
  if (!table?.length) return null;
  return {
    id: 'results',
    title: 'What the features are worth',
    explanation:
      'Labels played no part in training; they serve to test it. kNN gives a test image the class that weighs most among ' +
      'the most similar training images. The linear probe is a linear classifier trained on the features as they are.',
    content: html`<div class="columns">${accuracyTable(table)}${drawAccuracies(library, table)}</div>`,
  };
}

async function neighbourSection(
  { neighbours }: ReportData,
  className: (label: number) => string,
): Promise<Section | null> {
  if (!neighbours?.length) return null;
  return {
    id: 'neighbours',
    title: 'Nearest neighbours',
    explanation:
      'For each query, the images that the encoder finds most similar, best first, with their cosine ' +
      `similarity. ${neighbourSummary(neighbours)}`,
    content: html`<p class="note">
        <span class="key"><span></span>tick, solid: same class</span
        ><span class="key"><span class="dashed"></span>cross, dashed: another class</span>
      </p>
      ${neighbourGrid(neighbours, className, await loadPngEncoder())}`,
  };
}

function curveSection(library: ChartLibrary, { curves }: ReportData): Section | null {
  const charts = curves ? drawCurves(library, curves) : [];
  if (charts.length === 0) return null;
  return {
    id: 'training',
    title: 'Training',
    explanation:
      'The loss falls as queries find their own keys among the negatives. Positive pairs should become, and stay, much ' +
      'more similar than negative ones; if both rise towards 1, the features have collapsed.',
    content: html`<div class="columns">${charts}</div>`,
  };
}

function similaritySection(library: ChartLibrary, { histograms }: ReportData): Section | null {
  const present = inOrder(histograms);
  const range = similarityRange(present.map(({ value }) => value));
  const charts = present
    .map(({ title, value }) => drawSimilarities(library, title, value, range))
    .filter((chart) => chart !== null);
  if (charts.length === 0) return null;
  return {
    id: 'similarities',
    title: 'Similarities of pairs',
    explanation:
      'A positive pair is two augmented views of one image, a negative pair views of two images. The less the two ' +
      'distributions overlap, the better the encoder tells images apart. Each is in percent of its own pairs' +
      `${charts.length > 1 ? '; the vertical scales of the charts differ' : ''}.`,
    content: html`<div class="columns">${charts}</div>`,
  };
}

function projectionSection(
  library: ChartLibrary,
  { projection }: ReportData,
  className: (label: number) => string,
): Section | null {
  const present = inOrder<Projection>(projection).filter(({ value }) => value.points.length > 0);
  if (present.length === 0) return null;
  const labels = new Set(
    present.flatMap(({ value }) => Array.from({ length: value.labels.length }, (_, i) => value.labels[i]!)),
  );
  return {
    id: 'projection',
    title: 'A map of the features',
    explanation:
      'Each point is an image, placed so that images with similar features lie together. Colours and names are the true ' +
      'classes, which neither the training nor the map has seen.',
    content: html`<div class="projection">
      ${projectionLegend(
        [...labels].sort((a, b) => a - b),
        className,
      )}
      <div class="columns">
        ${present.map(({ title, value }) => drawProjection(library, title, value, className, present.length === 1))}
      </div>
    </div>`,
  };
}

function factSection({ facts }: ReportData): Section | null {
  const groups = Object.entries(facts ?? {}).filter(
    (entry): entry is [string, Readonly<Record<string, ReportFact>>] =>
      isGroup(entry[1]) && Object.keys(entry[1]).length > 0,
  );
  if (groups.length === 0) return null;
  return {
    id: 'run',
    title: 'How it was made',
    explanation: 'What is needed to make this run again.',
    content: html`<div class="groups">
      ${groups.map(
        ([name, values]) =>
          html`<div class="group">
            <h3>${name}</h3>
            <dl>
              ${Object.entries(values).map(
                ([key, value]) =>
                  html`<div>
                    <dt>${key}</dt>
                    <dd>${formatFact(value)}</dd>
                  </div>`,
              )}
            </dl>
          </div>`,
      )}
    </div>`,
  };
}

/** The values before and after training that are there, with their titles. */
function inOrder<T>(pair: BeforeAfter<T> | undefined): { title: string; value: T }[] {
  return moments.flatMap(([moment, title]) => {
    const value = pair?.[moment];
    return value === undefined ? [] : [{ title, value }];
  });
}

function isGroup(
  value: ReportFact | Readonly<Record<string, ReportFact>>,
): value is Readonly<Record<string, ReportFact>> {
  return typeof value === 'object' && value !== null;
}

function formatFact(value: ReportFact): string {
  if (value === null) return '–';
  if (typeof value === 'number') return formatNumber(value);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return value;
}
