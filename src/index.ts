/** Everything that kontrast offers; each room is also an entry of its own, such as `kontrast/nn`. */
export * from './torch';
