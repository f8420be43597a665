// Node.js as old systems use it, with its own defaults for everything but the PSK: node_sample.js client PORT KEY-HEX |
// server KEY-HEX. The client asks for / over a bare TLS socket, then with https.get; the server answers `ok`.
'use strict';
const https = require('node:https');
const tls = require('node:tls');

const [role, ...rest] = process.argv.slice(2);
const identity = 'Client1';

function ask(port, psk) {
  const options = { host: 'localhost', port, pskCallback: () => ({ psk, identity }) };
  const socket = tls.connect(options, () => socket.write('GET / HTTP/1.0\n\n'));
  socket.on('data', (data) => console.log(`received ${JSON.stringify(data.toString())}`));
  socket.on('error', (error) => console.log(`refused ${error.code}`));
  socket.on('close', () => {
    const request = https.get({ ...options, path: '/' }, (response) => {
      response.on('data', (data) => console.log(`status ${response.statusCode} body ${data}`));
    });
    request.on('error', (error) => console.log(`refused ${error.code}`));
  });
}

function answer(psk) {
  const pskCallback = (_socket, offered) => (offered === identity ? { psk } : null);
  const server = https.createServer({ pskCallback }, (_request, response) => response.end('ok\n'));
  server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
}

if (role === 'client') ask(Number(rest[0]), Buffer.from(rest[1], 'hex'));
else answer(Buffer.from(rest[0], 'hex'));
