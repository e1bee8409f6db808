/** Names of what this page keeps in the browser. Pages in other folders of the same host have other names. */
const FOLDER = new URL("./", location.href).pathname; // of the page, and of sw.js beside it

export const PAGE_CACHES = `oskdft-page ${FOLDER} `; // the version follows
export const VERIFIER_CACHE = `oskdft-verifier ${FOLDER}`;
export const DATABASE = `oskdft-voices ${FOLDER}`;
export const RELOADED = `oskdft-reloaded ${FOLDER}`;
export const VERIFIER_FOLDER = "verifier/";
export const LISTING = "verifier.json";
