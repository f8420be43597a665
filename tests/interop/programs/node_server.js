// A TLS-PSK server that echoes: node_server.js IDENTITY KEY-HEX VERSION CIPHERS. Prints its port.
'use strict';
const tls = require('node:tls');

const [identity, key, version, ciphers] = process.argv.slice(2);
const server = tls.createServer(
  {
    ciphers,
    minVersion: version,
    maxVersion: version,
    pskCallback: (_socket, offered) => (offered === identity ? Buffer.from(key, 'hex') : null),
  },
  (socket) => {
    console.log(`accepted ${socket.getProtocol()} ${socket.getCipher().standardName}`);
    socket.pipe(socket);
  },
);
server.on('tlsClientError', (error) => console.log(`refused ${error.code}`));
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
