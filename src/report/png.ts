import type { ReportImage } from './data';

/** The PNG format's number for each kind of pixel. */
const colorTypes = { 1: 0, 3: 2, 4: 6 } as const;

/**
 * Makes a function that encodes images as PNG `data:` addresses. The encoder is loaded when first asked for, since
 * importing kontrast must stay quick.
 */
export async function loadPngEncoder(): Promise<(image: ReportImage) => string> {
  const { PNG } = await import('pngjs');
  return ({ width, height, channels, pixels }) => {
    const png = new PNG({ width, height });
    png.data = Buffer.from(pixels.buffer, pixels.byteOffset, pixels.byteLength);
    const bytes = PNG.sync.write(png, {
      colorType: colorTypes[channels],
      inputColorType: colorTypes[channels],
      inputHasAlpha: channels === 4,
    });
    return `data:image/png;base64,${bytes.toString('base64')}`;
  };
}
