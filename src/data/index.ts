/** Data sets, loaders and augmentation. */
export * from './augment';
export * from './cache-directory';
export * from './emoji';
export * from './errors';
export * from './fashion-mnist';
export * from './image-cache';
export * from './image-set';
export * from './loader';
export * from './package-directory';
export * from './seed';
