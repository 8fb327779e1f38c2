/** A picture of queries and what was retrieved for them. */
import { writeFileSync } from 'node:fs';
import { PNG } from 'pngjs';
import type { Tensor } from 'kontrast/torch';

/** One line of the picture. */
export interface PictureLine {
  /** A drawing, uint8 [3, S, S]. */
  query: Tensor;
  /** Side by side, one block a method: what it found, best first. */
  blocks: { drawing: Tensor; isRight: boolean }[][];
}

const zoom = 2;
const border = 3;
const gap = 8;
const between = 28;
const right = [22, 130, 60] as const;
const wrong = [205, 40, 40] as const;

/** Marks of 7 by 7 pixels beside the colours, which not everybody can tell apart. */
const tick = ['......#', '.....##', '#...##.', '##.##..', '.###...', '..#....', '.......'];
const cross = ['##...##', '.##.##.', '..###..', '...#...', '..###..', '.##.##.', '##...##'];

/** Writes the lines as a PNG: the query, then each block; a right answer in a solid green frame with a tick, a wrong one in a dashed red frame with a cross. */
export function writePicture(file: string, lines: readonly PictureLine[]): void {
  const side = zoom * lines[0]!.query.shape[2]!;
  const cell = side + 2 * border;
  const step = cell + gap;
  const blocks = lines[0]!.blocks.map((found) => found.length * step);
  const width = gap + step + blocks.reduce((sum, block) => sum + between + block, 0);
  const png = new PNG({ width, height: gap + lines.length * step });
  png.data.fill(255);

  const dot = (x: number, y: number, color: readonly number[]) => png.data.set(color, 4 * (y * width + x));
  const draw = (drawing: Tensor, left: number, top: number) => {
    const size = drawing.shape[2]!;
    const bytes = drawing.contiguous().dataSync() as Uint8Array;
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const at = Math.floor(y / zoom) * size + Math.floor(x / zoom);
        dot(left + border + x, top + border + y, [bytes[at]!, bytes[size * size + at]!, bytes[2 * size * size + at]!]);
      }
    }
  };
  const frame = (left: number, top: number, isRight: boolean) => {
    const color = isRight ? right : wrong;
    for (let along = 0; along < cell; along++) {
      if (!isRight && along % 10 >= 6) continue;
      for (let depth = 0; depth < border; depth++) {
        dot(left + along, top + depth, color);
        dot(left + along, top + cell - 1 - depth, color);
        dot(left + depth, top + along, color);
        dot(left + cell - 1 - depth, top + along, color);
      }
    }
    const mark = isRight ? tick : cross;
    for (let y = -1; y < 15; y++) {
      for (let x = -1; x < 15; x++) {
        const isInk = mark[y >> 1]?.[x >> 1] === '#';
        dot(left + cell - border - 16 + x + 1, top + cell - border - 16 + y + 1, isInk ? color : [255, 255, 255]);
      }
    }
  };

  lines.forEach(({ query, blocks: found }, line) => {
    const top = gap + line * step;
    draw(query, gap, top);
    let left = gap + step + between;
    for (const block of found) {
      for (const { drawing, isRight } of block) {
        draw(drawing, left, top);
        frame(left, top, isRight);
        left += step;
      }
      left += between;
    }
  });
  writeFileSync(file, PNG.sync.write(png, { colorType: 2, inputHasAlpha: true }));
}
