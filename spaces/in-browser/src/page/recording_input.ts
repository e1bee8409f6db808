import { decode, type Decoded } from "../audio/decoding";
import { record, type Recording } from "../audio/microphone";
import { message, Refusal, saidBy, type Message } from "../messages";
import { make } from "./elements";
import { inEveryLanguage, text, textOf } from "./texts";
import type { Key } from "./words";

/** A card on which the visitor chooses, drops or records one recording. */
export class RecordingInput {
  readonly element: HTMLFieldSetElement;
  /** Called when another recording is there. */
  onChange = () => {};
  private decoded: Promise<Decoded> | null = null;
  private recording: Recording | null = null;
  private recorded: Promise<void> = Promise.resolve();
  private isAsking = false;
  private said: Message | null = null;
  private readonly file: HTMLInputElement;
  private readonly recordButton = make("button", { type: "button", class: "record" });
  private readonly player = make("audio", { controls: true, hidden: true });
  private readonly status = make("p", { class: "status", role: "status" });

  constructor(
    id: string,
    readonly title: Key,
  ) {
    this.file = make("input", { type: "file", id, accept: "audio/*,video/*,.flac,.m4a,.opus", class: "hidden-input" });
    const choose = make("label", { for: id, class: "button" });
    const drop = make("span");
    const legend = make("legend");
    const row = make("div", { class: "row" }, this.file, choose, this.recordButton, drop);
    this.element = make("fieldset", {}, legend, row, this.player, this.status);
    inEveryLanguage(() => {
      legend.textContent = text(title);
      choose.textContent = text("choose");
      drop.textContent = text("drop");
      this.file.setAttribute("aria-label", `${text(title)}: ${text("choose")}`);
      this.player.setAttribute("aria-label", text("play", text(title)));
      this.showButton(0);
      this.status.textContent = this.said ? textOf(this.said) : "";
    });
    this.file.onchange = () => {
      const file = this.file.files?.[0];
      this.file.value = ""; // so that the same file can be chosen again
      if (file) this.choose(file);
    };
    this.recordButton.onclick = () => {
      if (this.recording) return this.recording.stop();
      if (this.isAsking) return; // for the permission
      this.isAsking = true;
      this.recorded = this.record();
    };
    this.listenForDrops();
  }

  /** End a recording that goes on, and wait until what was recorded or chosen is decoded. */
  async settled(): Promise<void> {
    if (this.recording) {
      this.recording.stop();
      await this.recorded;
    }
    await this.decoded?.catch(() => {}); // `waveform` says what is wrong
  }

  /**
   * Return the recording.
   *
   * @throws Refusal where there is none, or it cannot be read
   */
  async waveform(): Promise<Decoded> {
    if (!this.decoded) throw new Refusal("missing", message(this.title));
    return this.decoded;
  }

  /** Take a file; a recording that goes on is dropped. */
  private choose(file: Blob): void {
    const { recording } = this;
    this.recording = null;
    recording?.stop();
    this.take(file);
  }

  private take(file: Blob): void {
    URL.revokeObjectURL(this.player.src);
    this.player.src = URL.createObjectURL(file);
    this.player.hidden = false;
    this.say(message("reading"));
    const decoded = decode(file);
    this.decoded = decoded;
    this.onChange();
    decoded.then(
      () => this.decoded === decoded && this.say(null),
      (error: unknown) => this.decoded === decoded && this.say(saidBy(error)),
    );
  }

  private async record(): Promise<void> {
    const before = this.decoded;
    let recording: Recording;
    try {
      recording = await record();
    } catch (error) {
      return this.say(saidBy(error));
    } finally {
      this.isAsking = false;
    }
    if (this.decoded !== before) return recording.stop(); // a file was chosen while the browser asked
    this.recording = recording;
    this.say(null);
    this.onChange();
    const start = performance.now();
    this.showButton(0);
    const timer = setInterval(() => this.showButton(Math.round((performance.now() - start) / 1000)), 250);
    const file = await recording.file;
    clearInterval(timer);
    const isWanted = this.recording === recording; // no file was chosen meanwhile
    if (isWanted) this.recording = null;
    this.showButton(0);
    if (isWanted) this.take(file);
  }

  private showButton(seconds: number): void {
    this.recordButton.textContent = this.recording ? text("stop", seconds) : text("record");
    this.recordButton.classList.toggle("on", this.recording !== null);
    this.recordButton.setAttribute("aria-label", `${text(this.title)}: ${this.recordButton.textContent}`);
  }

  private say(said: Message | null): void {
    this.said = said;
    this.status.textContent = said ? textOf(said) : "";
    this.status.classList.toggle("wrong", said !== null && said.key !== "reading");
  }

  private listenForDrops(): void {
    const over = (event: DragEvent, isOver: boolean) => {
      event.preventDefault();
      this.element.classList.toggle("over", isOver);
    };
    this.element.ondragover = (event) => over(event, true);
    this.element.ondragleave = (event) => over(event, false);
    this.element.ondrop = (event) => {
      over(event, false);
      const file = event.dataTransfer?.files[0];
      if (file) this.choose(file);
    };
  }
}

// A file that is dropped beside a card would open in the place of the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
