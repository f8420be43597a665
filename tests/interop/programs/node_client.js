// A TLS-PSK client: node_client.js PORT IDENTITY KEY-HEX VERSION CIPHERS. Sends its input, prints what comes back.
'use strict';
const tls = require('node:tls');

const [port, identity, key, version, ciphers] = process.argv.slice(2);
const socket = tls.connect({
  host: '127.0.0.1',
  port: Number(port),
  ciphers,
  minVersion: version,
  maxVersion: version,
  checkServerIdentity: () => undefined, // a PSK handshake shows no certificate
  pskCallback: () => ({ identity, psk: Buffer.from(key, 'hex') }),
});
socket.on('secureConnect', () => {
  console.log(`connected ${socket.getProtocol()} ${socket.getCipher().standardName}`);
  process.stdin.pipe(socket);
});
socket.on('data', (data) => process.stdout.write(data));
socket.on('end', () => console.log('ended'));
socket.on('error', (error) => {
  console.log(`refused ${error.code}`);
  process.exitCode = 1;
});
