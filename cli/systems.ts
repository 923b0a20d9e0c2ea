/** The words for the systems that can be saved; those of mapping/endpoints.ts, without loading it for every command. */
export const systemWords = ['pgsql', 'mysql', 'mariadb', 'mongo', 's3', 'files'] as const;
export const systemList = `${systemWords.slice(0, -1).join(', ')} or ${systemWords.at(-1)}`;
