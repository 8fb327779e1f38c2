/** Which negatives training sees: mixed, sampled, clustered. */
export * from './clustering';
export * from './mixing';
export * from './sampling';
