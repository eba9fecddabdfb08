import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { needTool } from './programs.mjs';

const run = promisify(execFile);

/**
 * An authority, and a certificate for 127.0.0.1 and localhost that it has signed; for a day.
 *
 * @returns the authority's certificate as text, the paths of the server's
 */
export async function makeCertificates(dir) {
  const [openssl] = await needTool('openssl', 'TLS');
  const path = (name) => join(dir, name);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await run(openssl, [
    ...['req', '-x509', ...key, '-days', '1', '-subj', '/CN=Test authority'],
    ...['-keyout', path('ca.key'), '-out', path('ca.pem')],
  ]);
  await run(openssl, [
    'req',
    ...key,
    '-subj',
    '/CN=localhost',
    '-keyout',
    path('server.key'),
    '-out',
    path('server.csr'),
  ]);
  await writeFile(path('names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  await run(openssl, [
    ...['x509', '-req', '-in', path('server.csr'), '-CA', path('ca.pem'), '-CAkey', path('ca.key'), '-CAcreateserial'],
    ...['-days', '1', '-extfile', path('names'), '-out', path('server.pem')],
  ]);
  return {
    authority: await readFile(path('ca.pem'), 'utf8'),
    certificate: path('server.pem'),
    key: path('server.key'),
  };
}
