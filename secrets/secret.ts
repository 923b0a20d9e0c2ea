import { inspect } from 'node:util';

/** A text that prints as `***` wherever it is shown; `reveal()` is the one way to it. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '***';
  }

  toJSON(): string {
    return '***';
  }

  [inspect.custom](): string {
    return '***';
  }
}

export const hidden = '***';
