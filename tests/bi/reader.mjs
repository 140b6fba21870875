// The same as reader.py in Node.
import { createInterface } from 'node:readline/promises';
import { DuckDBInstance, version } from '@duckdb/node-api';

const path = process.argv[2];
const open = async () => (await DuckDBInstance.create(path, { access_mode: 'READ_ONLY' })).connect();
const first = async (connection, sql) => (await connection.runAndReadAll(sql)).getRows()[0][0];
const releaseSeen = (connection) => first(connection, 'select release_id from marts.release_info');

const held = await open();
let refusal = null;
try {
  await held.run('delete from marts.estimates');
} catch (error) {
  refusal = error.message;
}
console.log(JSON.stringify({
  version: version(),
  release: await releaseSeen(held),
  comment: await first(
    held, "select comment from duckdb_columns() where table_name = 'estimates' and column_name = 'pct'",
  ),
  refusal,
}));

await createInterface({ input: process.stdin }).question('');
const seen = { held: await releaseSeen(held) };
const beside = await open();
seen.beside = await releaseSeen(beside);
beside.closeSync();
held.closeSync();
seen.again = await releaseSeen(await open());
console.log(JSON.stringify(seen));
process.exit(0);
