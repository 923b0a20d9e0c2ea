import { expect, test } from 'vitest';
import { fileName } from '../../connectors/mysql/file-names.ts';

test('names of files are those that MySQL 5.7 makes', () => {
  // Names as information_schema.innodb_sys_tables of 5.7.21 shows them.
  for (const [name, file] of [
    ['Every_type9', 'Every_type9'],
    ['sh op', 'sh@0020op'],
    ['漢字', '@6f22@5b57'],
    ['€-.$#@`"/\\', '@20ac@002d@002e@0024@0023@0040@0060@0022@002f@005c'],
    ['ﬁ', '@fb01'],
  ] as const) {
    expect(fileName(name)).toBe(file);
  }
  for (const name of ['é', 'ü', 'я', 'Ω', 'ա', 'ⅰ', 'ⓐ', 'ａ', 'Ÿ']) expect(fileName(name)).toBeUndefined();
});
