import { files } from './files.ts';
import type { Kind } from './kind.ts';
import { mongodb } from './mongodb.ts';
import { mariadb, mysqlKind } from './mysql.ts';
import { postgres } from './postgres.ts';

/** `files` stands for a local folder. MySQL differs from MariaDB in its programs alone: it is tried when it is asked for. */
export const kinds: readonly Kind[] = [postgres, files, mongodb, mariadb, mysqlKind];
