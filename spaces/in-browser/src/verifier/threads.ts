const MOST_THREADS = 4;

/** Return the threads that a page may use: more than one where the browser isolates it from other pages. */
export function threadsHere(): number {
  return globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
}
