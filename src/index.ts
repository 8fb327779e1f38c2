/** Everything that kontrast offers. Each room is also an entry of its own, such as `kontrast/nn`. */
export * from './torch';
export * from './nn';
export * from './norm';
export * from './optim';
export * from './contrast';
export * from './memory';
export * from './negatives';
export * from './models';
export * from './data';
export * from './evaluate';
export * from './train';
export * from './report';
