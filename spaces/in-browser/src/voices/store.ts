/** Keep voices in the browser's database, or in memory where the browser denies storage. */
import { Refusal } from "../messages";
import { DATABASE } from "../names";

/** A voice: its recordings as embeddings of unit length, the seconds of speech in each, and the model that made them. */
export interface Voice {
  name: string;
  fingerprint: string;
  recordings: { embedding: Float32Array; speech: number }[];
}

export interface VoiceStore {
  /** Whether the voices stay when the page is closed. */
  readonly isLasting: boolean;
  all(): Promise<Voice[]>;
  /** Change a voice, or make a new one, in one step: two tabs lose nothing. */
  update(name: string, change: (known: Voice | undefined) => Voice): Promise<Voice>;
  forget(name: string): Promise<void>;
  forgetEverything(): Promise<void>;
  /** Call a function when another tab has changed the voices. */
  onChange(listener: () => void): void;
}

const TABLE = "voices";

/**
 * Open the voices of this browser.
 *
 * @throws Refusal where a newer version of the page has written them
 */
export async function openVoices(): Promise<VoiceStore> {
  try {
    return new StoredVoices(await openDatabase());
  } catch (error) {
    if (error instanceof DOMException && error.name === "VersionError") throw new Refusal("newer_voices");
    return new RememberedVoices();
  }
}

function openDatabase(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "name" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error ?? new Error("blocked"));
  });
}

class StoredVoices implements VoiceStore {
  readonly isLasting = true;
  private readonly channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(DATABASE);

  constructor(private readonly database: IDBDatabase) {
    database.onversionchange = () => database.close();
  }

  all(): Promise<Voice[]> {
    return this.inTransaction<Voice[]>("readonly", (table, done) => {
      const request = table.getAll();
      request.onsuccess = () => done(request.result as Voice[]);
    });
  }

  async update(name: string, change: (known: Voice | undefined) => Voice): Promise<Voice> {
    return this.changed(
      this.inTransaction<Voice>("readwrite", (table, done, fail) => {
        const request = table.get(name);
        request.onsuccess = () => {
          try {
            const voice = change(request.result as Voice | undefined);
            table.put(voice);
            done(voice);
          } catch (error) {
            fail(error);
          }
        };
      }),
    );
  }

  async forget(name: string): Promise<void> {
    await this.changed(this.inTransaction<void>("readwrite", (table, done) => done(void table.delete(name))));
  }

  async forgetEverything(): Promise<void> {
    await this.changed(this.inTransaction<void>("readwrite", (table, done) => done(void table.clear())));
  }

  onChange(listener: () => void): void {
    if (this.channel) this.channel.onmessage = listener;
  }

  private async changed<T>(change: Promise<T>): Promise<T> {
    const value = await change;
    this.channel?.postMessage("changed");
    return value;
  }

  private begin(mode: IDBTransactionMode): IDBTransaction {
    try {
      return this.database.transaction(TABLE, mode, { durability: "strict" });
    } catch {
      throw new Refusal("voices_gone"); // the visitor, or another version of the page, has removed the database
    }
  }

  /** Run a transaction; its value comes when it is on disk, and nothing is written where it fails. */
  private inTransaction<T>(
    mode: IDBTransactionMode,
    run: (table: IDBObjectStore, done: (value: T) => void, fail: (error: unknown) => void) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const transaction = this.begin(mode);
      let value: T;
      let failure: unknown;
      transaction.oncomplete = () => resolve(value);
      transaction.onabort = () => reject(failure ?? transaction.error);
      const fail = (error: unknown) => {
        failure = error;
        transaction.abort();
      };
      run(transaction.objectStore(TABLE), (result) => (value = result), fail);
    });
  }
}

class RememberedVoices implements VoiceStore {
  readonly isLasting = false;
  private readonly voices = new Map<string, Voice>();

  async all(): Promise<Voice[]> {
    return [...this.voices.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async update(name: string, change: (known: Voice | undefined) => Voice): Promise<Voice> {
    const voice = change(this.voices.get(name));
    this.voices.set(name, voice);
    return voice;
  }

  async forget(name: string): Promise<void> {
    this.voices.delete(name);
  }

  async forgetEverything(): Promise<void> {
    this.voices.clear();
  }

  onChange(): void {} // no other tab sees them
}
