const OTHERS = 48000; // Opus has no other rate; formats whose header is not read here are resampled to it by the browser

/**
 * Read the sampling rate from the header of a file, so that the browser decodes without resampling.
 *
 * @param content the file, or its beginning
 * @returns samples a second, within what Web Audio takes
 */
export function rateOf(content: ArrayBuffer): number {
  const view = new DataView(content, 0, Math.min(content.byteLength, 65536));
  const rate = readers.map((read) => read(view)).find((found) => found !== null);
  return rate && rate >= 8000 && rate <= 96000 ? rate : OTHERS; // what every browser has to support
}

const readers = [rateOfWav, rateOfFlac, rateOfVorbis];

function rateOfWav(view: DataView): number | null {
  if (tagAt(view, 0) !== "RIFF" || tagAt(view, 8) !== "WAVE") return null;
  let place = 12;
  while (place + 16 <= view.byteLength) {
    if (tagAt(view, place) === "fmt ") return view.getUint32(place + 12, true);
    const size = view.getUint32(place + 4, true);
    place += 8 + size + (size % 2); // chunks begin at even places
  }
  return null;
}

function rateOfFlac(view: DataView): number | null {
  return tagAt(view, 0) === "fLaC" && view.byteLength >= 22 ? view.getUint32(18) >>> 12 : null;
}

/** The first packet of Vorbis lies behind a page header of Ogg of 28 bytes: its kind and name, a version, channels. */
function rateOfVorbis(view: DataView): number | null {
  const isVorbis = tagAt(view, 0) === "OggS" && tagAt(view, 29) === "vorb" && view.byteLength >= 44;
  return isVorbis ? view.getUint32(40, true) : null;
}

function tagAt(view: DataView, place: number): string {
  if (place + 4 > view.byteLength) return "";
  return String.fromCharCode(...[0, 1, 2, 3].map((n) => view.getUint8(place + n)));
}
