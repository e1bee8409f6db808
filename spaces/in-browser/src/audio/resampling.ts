/**
 * Resample to 16 kHz. Browsers resample as well, but the filter of Chromium begins far below the highest frequency that
 * is kept, which moves scores. The pass band here is that of soxr's high quality, which the package uses.
 */
const PASS_BAND = 0.9125; // of the lower Nyquist frequency
const ATTENUATION = 110; // dB, of what would fold back
const BETA = 0.1102 * (ATTENUATION - 8.7); // Kaiser's window for it (Kaiser, 1974)

/**
 * Resample one channel by a windowed sinc, phase by phase.
 *
 * @param samples at `rate`
 * @param rate samples a second
 * @param target samples a second that are wanted
 */
export function resample(samples: Float32Array, rate: number, target: number): Float32Array {
  if (rate === target) return samples;
  const divisor = greatestCommonDivisor(rate, target);
  const [up, down] = [target / divisor, rate / divisor];
  const lower = Math.min(rate, target) / 2;
  const transition = ((1 - PASS_BAND) * lower * 2 * Math.PI) / rate; // radians a sample
  const reach = Math.ceil((ATTENUATION - 8) / (2.285 * transition) / 2);
  const cutoff = ((1 + PASS_BAND) / 2) * (lower / rate); // cycles a sample, in the middle of the transition
  const result = new Float32Array(Math.ceil((samples.length * up) / down));
  const phases = new Map<number, Float64Array>();
  for (let n = 0; n < result.length; n++) {
    const centre = Math.floor((n * down) / up);
    const phase = (n * down) % up;
    let taps = phases.get(phase);
    if (!taps) phases.set(phase, (taps = tapsOf(phase / up, reach, cutoff)));
    const first = centre - reach + 1;
    const [from, to] = [Math.max(0, -first), Math.min(taps.length, samples.length - first)];
    let sum = 0;
    for (let k = from; k < to; k++) sum += taps[k]! * samples[first + k]!;
    result[n] = sum;
  }
  return result;
}

/** Return the weights of the samples around a point that is `offset` of a sample behind one of them. */
function tapsOf(offset: number, reach: number, cutoff: number): Float64Array {
  const taps = new Float64Array(2 * reach);
  const top = bessel(BETA);
  for (let k = 0; k < taps.length; k++) {
    const distance = k - reach + 1 - offset;
    const inside = 1 - (distance / reach) ** 2;
    if (inside <= 0) continue;
    const angle = 2 * Math.PI * cutoff * distance;
    taps[k] = ((angle === 0 ? 1 : Math.sin(angle) / angle) * 2 * cutoff * bessel(BETA * Math.sqrt(inside))) / top;
  }
  return taps;
}

/** The modified Bessel function of the first kind and order 0, by its power series. */
function bessel(x: number): number {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
