/** Number of class colours; with more classes they repeat. */
export const paletteSize = 10;

/** The style class that carries the colour of a data class. */
export function paletteClass(label: number): string {
  return `class-${label % paletteSize}`;
}
