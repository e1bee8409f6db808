import { Refusal } from "../messages";

/** Return the cosine of two vectors of unit length; the second may be longer. */
export function cosine(first: Float32Array, second: Float32Array): number {
  let sum = 0;
  for (let n = 0; n < first.length; n++) sum += first[n]! * second[n]!;
  return sum;
}

/**
 * Return a vector with the length 1.
 *
 * @throws Refusal for one that is zero or not finite
 */
export function unit(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  if (!(length > 0 && Number.isFinite(length))) throw new Refusal("not_sound");
  return vector.map((value) => value / length);
}
