export const FRAME = 512; // samples: 32 ms, the frame of Silero's network
const BITS = Math.log2(FRAME);

const HANNING = Float64Array.from({ length: FRAME }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / (FRAME - 1)));
const COSINES = Float64Array.from({ length: FRAME / 2 }, (_, n) => Math.cos((2 * Math.PI * n) / FRAME));
const SINES = Float64Array.from({ length: FRAME / 2 }, (_, n) => -Math.sin((2 * Math.PI * n) / FRAME));
const REVERSED = Uint16Array.from({ length: FRAME }, (_, n) => {
  let reversed = 0;
  for (let bit = 0; bit < BITS; bit++) reversed |= ((n >> bit) & 1) << (BITS - 1 - bit);
  return reversed;
});

/**
 * Compute the power of a frame at each frequency, under a Hann window: Cooley and Tukey's transform in place.
 *
 * @param frame `FRAME` samples
 * @returns `FRAME / 2 + 1` powers
 */
export function powerSpectrum(frame: Float64Array): Float64Array {
  const real = new Float64Array(FRAME);
  const imaginary = new Float64Array(FRAME);
  for (let n = 0; n < FRAME; n++) real[REVERSED[n]!] = frame[n]! * HANNING[n]!;
  for (let size = 2; size <= FRAME; size *= 2) {
    const half = size / 2;
    const step = FRAME / size;
    for (let start = 0; start < FRAME; start += size) {
      for (let k = 0; k < half; k++) {
        const [low, high] = [start + k, start + k + half];
        const [cosine, sine] = [COSINES[k * step]!, SINES[k * step]!];
        const re = real[high]! * cosine - imaginary[high]! * sine;
        const im = real[high]! * sine + imaginary[high]! * cosine;
        real[high] = real[low]! - re;
        imaginary[high] = imaginary[low]! - im;
        real[low]! += re;
        imaginary[low]! += im;
      }
    }
  }
  return Float64Array.from({ length: FRAME / 2 + 1 }, (_, k) => real[k]! ** 2 + imaginary[k]! ** 2);
}
