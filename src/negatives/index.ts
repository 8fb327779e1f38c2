/** Which negatives training sees: mixed, mined, sampled, clustered, and how they meet an objective. */
export * from './adapters';
export * from './clustering';
export * from './mining';
export * from './mixing';
export * from './sampling';
