import type { ReportImage, ReportNeighbours } from './data';
import { Html, html } from './html';
import { formatNumber, formatSimilarity } from './numbers';

const marks = {
  same: new Html('<svg class="mark" viewBox="0 0 16 16" aria-hidden="true"><path d="M4 8.4 7 11.2 12 5.2" /></svg>'),
  other: new Html('<svg class="mark" viewBox="0 0 16 16" aria-hidden="true"><path d="M5 5 11 11M11 5 5 11" /></svg>'),
};

/**
 * Query images, each with its nearest neighbours in order. A neighbour of the same class has a solid green frame with a
 * tick, one of another class a dashed red frame with a cross.
 */
export function neighbourGrid(
  entries: readonly ReportNeighbours[],
  className: (label: number) => string,
  encode: (image: ReportImage) => string,
): Html {
  const longest = Math.max(1, ...entries.map(({ neighbours }) => neighbours.length));
  return html`<ul class="queries" style="--count: ${Math.min(10, longest)}">
    ${entries.map(({ query, label, neighbours }) => {
      const name = className(label);
      return html`<li class="query">
        <div class="picture">
          <span class="frame">${picture(query, `Query: ${name}`, encode)}</span>
          <span><span class="name">${name}</span> <span class="similarity">query</span></span>
        </div>
        <ol>
          ${neighbours.map((neighbour, rank) => {
            const kind = neighbour.label === label ? 'same' : 'other';
            const similarity = formatSimilarity(neighbour.similarity);
            const description =
              `Neighbour ${rank + 1}: ${className(neighbour.label)}, ${kind === 'same' ? 'the same class' : 'another class'}, ` +
              `similarity ${similarity}`;
            return html`<li class="picture">
              <span class="frame ${kind}">${picture(neighbour.image, description, encode)}${marks[kind]}</span>
              <span class="name">${className(neighbour.label)}</span> <span class="similarity">${similarity}</span>
            </li>`;
          })}
        </ol>
      </li>`;
    })}
  </ul>`;
}

/** How many of the neighbours have the class of their query. */
export function neighbourSummary(entries: readonly ReportNeighbours[]): string {
  const total = entries.reduce((sum, { neighbours }) => sum + neighbours.length, 0);
  const same = entries.reduce(
    (sum, { label, neighbours }) => sum + neighbours.filter((neighbour) => neighbour.label === label).length,
    0,
  );
  return `${formatNumber(same)} of the ${formatNumber(total)} neighbours shown have the class of their query.`;
}

function picture(image: ReportImage, description: string, encode: (image: ReportImage) => string): Html {
  return html`<img src="${encode(image)}" width="${image.width}" height="${image.height}" alt="${description}" />`;
}
