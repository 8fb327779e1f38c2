/** What an encoder's features are worth: kNN, linear probe, similarities, nearest neighbours. */
export * from './evaluate-encoder';
export * from './features';
export { knnClassify, nearestNeighbors } from './knn';
export type { Classification, KnnOptions, NearestNeighbors, NearestNeighborsOptions } from './knn';
export * from './linear-probe';
export * from './similarity';
export * from './table';
