/** What makes the methods of this room fit objectives and models. */
export { MixedNegatives, type MixedLoss, type MixedNegativesOptions } from './mixed-negatives';
