/** Where wheels come from unless someone says otherwise. Every address that kontrast has of its own is here. */

/** Python's public package index: what pip asks unless it is configured. */
export const defaultIndexUrl = 'https://pypi.org/simple';

/** PyTorch's own index of one kind of build: `cpu`, `cu130`, … It has the builds that the public index has no room for. */
export function pytorchIndexUrl(variant: string): string {
  return `https://download.pytorch.org/whl/${variant}`;
}
