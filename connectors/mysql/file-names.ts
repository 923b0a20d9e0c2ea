/**
 * The name of a table or database as InnoDB's books of MySQL before 8 have it: that of its file. Letters, digits and `_` of
 * ASCII stand for themselves, others are `@` and four hexadecimal digits; some alphabets have a shorthand (`é` is `@0p`).
 * Of names with such a letter nothing is known here (undefined).
 * https://dev.mysql.com/doc/refman/5.7/en/identifier-mapping.html
 */
export function fileName(name: string): string | undefined {
  return shorthand.test(name) ? undefined : name.replace(/[^0-9A-Za-z_]/g, escaped);
}

const shorthand = /[\u00c0-\u05ff\u1e00-\u1fff\u2160-\u217f\u24b0-\u24ef\uff20-\uff5f]/;

const escaped = (one: string): string => `@${one.charCodeAt(0).toString(16).padStart(4, '0')}`;
