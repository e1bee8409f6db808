/** Draw both score distributions of the model's trials, and a score between them, as SVG in the page's own colours. */
import type { Answer } from "../verifier/decision";
import type { Thresholds } from "../verifier/checks";
import { text } from "./texts";

const WIDTH = 480;
const MARGIN = 8;
const HEIGHT = 208;
const BASE = 168;
const REACH = 124;
const BINS = 48;
const MOST = 1.05; // of a cosine that is drawn

export function distributions({ quantiles }: Thresholds, { score, threshold }: Answer): SVGSVGElement | null {
  const { target, non_target: nonTarget } = quantiles;
  if (!target?.length || !nonTarget?.length) return null;
  const place = threshold === null ? null : Math.min(Math.max(threshold, -MOST), MOST); // a score never goes beyond
  const marks = place === null ? [score] : [score, place];
  const low = Math.min(target[0]!, nonTarget[0]!, ...marks, -0.2) - 0.05;
  const high = Math.max(target[target.length - 1]!, nonTarget[nonTarget.length - 1]!, ...marks, 0.8) + 0.05;
  const across = (value: number) => MARGIN + ((value - low) / (high - low)) * (WIDTH - 2 * MARGIN);
  const picture = draw("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }) as SVGSVGElement;
  picture.setAttribute("aria-label", text("distribution"));
  const shares = [shareOf(nonTarget, low, high), shareOf(target, low, high)];
  const top = Math.max(...shares.flat());
  shares.forEach((share, index) => {
    const points = share.map((part, bin) => {
      const middle = low + ((bin + 0.5) / BINS) * (high - low);
      return `${across(middle).toFixed(1)},${(BASE - (REACH * part) / top).toFixed(1)}`;
    });
    const ends = `${MARGIN},${BASE} ${points.join(" ")} ${WIDTH - MARGIN},${BASE}`;
    picture.append(draw("polygon", { class: index ? "target" : "non-target", points: ends }));
  });
  picture.append(draw("line", { class: "axis", x1: MARGIN, x2: WIDTH - MARGIN, y1: BASE, y2: BASE }));
  for (let tick = Math.ceil(low * 5); tick / 5 < high; tick++) {
    picture.append(words("tick", across(tick / 5), BASE + 16, (tick / 5).toFixed(1).replace("-0.0", "0.0")));
  }
  legend(picture, "target", MARGIN, text("target"));
  legend(picture, "non-target", MARGIN + 150, text("non_target"));
  if (place !== null) mark(picture, "threshold", across(place), 34, `${text("threshold")} ${threshold!.toFixed(2)}`);
  mark(picture, "score", across(score), 14, `${text("score")} ${score.toFixed(2)}`);
  return picture;
}

/** Count scores in bins, as shares, smoothed over three bins. */
function shareOf(scores: number[], low: number, high: number): number[] {
  const counts = new Array<number>(BINS).fill(0);
  for (const score of scores) {
    const bin = Math.min(Math.floor(((score - low) / (high - low)) * BINS), BINS - 1);
    counts[bin]! += 1 / scores.length;
  }
  return counts.map((count, bin) => 0.25 * (counts[bin - 1] ?? 0) + 0.5 * count + 0.25 * (counts[bin + 1] ?? 0));
}

function legend(picture: SVGSVGElement, kind: string, x: number, label: string): void {
  picture.append(draw("rect", { class: kind, x, y: BASE + 26, width: 12, height: 12, rx: 3 }));
  picture.append(words("", x + 18, BASE + 36, label));
}

function mark(picture: SVGSVGElement, kind: string, x: number, y: number, label: string): void {
  const isRight = x > WIDTH / 2;
  picture.append(draw("line", { class: kind, x1: x.toFixed(1), x2: x.toFixed(1), y1: y - 10, y2: BASE }));
  const caption = words(kind, x + (isRight ? -6 : 6), y, label);
  caption.setAttribute("text-anchor", isRight ? "end" : "start");
  picture.append(caption);
}

function words(kind: string, x: number, y: number, label: string): SVGElement {
  const element = draw("text", { class: kind, x: x.toFixed(1), y });
  element.textContent = label;
  return element;
}

function draw(tag: string, attributes: Record<string, string | number>): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}
