/** What was begun, to be undone in reverse order: once, also what is begun while it is being undone. */
export class Cleanup {
  readonly #undo: Array<() => void | Promise<void>> = [];
  #over = false;

  async add(undo: () => void | Promise<void>): Promise<void> {
    if (this.#over) await undo();
    else this.#undo.push(undo);
  }

  async run(): Promise<void> {
    this.#over = true;
    for (const undo of this.#undo.splice(0).reverse()) await undo();
  }
}
