/**
 * Return a quantile of rising values, interpolated between its neighbours as NumPy does by default.
 *
 * @param values at least one, rising
 * @param share from 0 to 1
 */
export function quantile(values: ArrayLike<number>, share: number): number {
  const place = share * (values.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, values.length - 1);
  return values[below]! + (place - below) * (values[above]! - values[below]!);
}
