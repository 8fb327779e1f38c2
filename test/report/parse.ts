/** What the tests ask of an element; the compiler does not know the browser's types. */
export interface ParsedElement {
  readonly id: string;
  readonly textContent: string | null;
  readonly outerHTML: string;
  getAttribute(name: string): string | null;
  querySelector(selector: string): ParsedElement | null;
  querySelectorAll(selector: string): ArrayLike<ParsedElement> & Iterable<ParsedElement>;
}

/** A parsed page. */
export interface ParsedDocument {
  readonly title: string;
  readonly documentElement: ParsedElement;
  querySelector(selector: string): ParsedElement | null;
  querySelectorAll(selector: string): ArrayLike<ParsedElement> & Iterable<ParsedElement>;
}

/** Parses a page without a browser. */
export async function parsePage(text: string): Promise<ParsedDocument> {
  const { parseHTML } = await import('linkedom');
  return (parseHTML(text) as unknown as { document: ParsedDocument }).document;
}
