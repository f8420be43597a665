// A TLS-PSK peer on Bouncy Castle: BouncyCastlePeer client PORT | server, then IDENTITY KEY-HEX 1.2|1.3.
// The client sends one line of its input and prints the answer; the server prints its port, and echoes one connection.
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.Arrays;
import java.util.Vector;
import org.bouncycastle.tls.BasicTlsPSKExternal;
import org.bouncycastle.tls.BasicTlsPSKIdentity;
import org.bouncycastle.tls.CipherSuite;
import org.bouncycastle.tls.PSKTlsClient;
import org.bouncycastle.tls.PSKTlsServer;
import org.bouncycastle.tls.PRFAlgorithm;
import org.bouncycastle.tls.ProtocolVersion;
import org.bouncycastle.tls.PskIdentity;
import org.bouncycastle.tls.TlsClientProtocol;
import org.bouncycastle.tls.TlsCredentials;
import org.bouncycastle.tls.TlsPSKExternal;
import org.bouncycastle.tls.TlsPSKIdentityManager;
import org.bouncycastle.tls.TlsProtocol;
import org.bouncycastle.tls.TlsServerProtocol;
import org.bouncycastle.tls.crypto.TlsCrypto;
import org.bouncycastle.tls.crypto.impl.bc.BcTlsCrypto;
import org.bouncycastle.util.encoders.Hex;

public class BouncyCastlePeer {
    static final TlsCrypto CRYPTO = new BcTlsCrypto(new SecureRandom());

    record Terms(byte[] identity, byte[] key, boolean tls13) {
        ProtocolVersion[] versions() {
            return (tls13 ? ProtocolVersion.TLSv13 : ProtocolVersion.TLSv12).only();
        }

        int[] suites() {
            return new int[] {
                tls13 ? CipherSuite.TLS_CHACHA20_POLY1305_SHA256
                      : CipherSuite.TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256
            };
        }

        TlsPSKExternal external() {
            return new BasicTlsPSKExternal(identity, CRYPTO.createSecret(key), PRFAlgorithm.tls13_hkdf_sha256);
        }
    }

    static class Client extends PSKTlsClient {
        final Terms terms;

        Client(Terms terms) {
            super(CRYPTO, new BasicTlsPSKIdentity(terms.identity(), terms.key()));
            this.terms = terms;
        }

        protected ProtocolVersion[] getSupportedVersions() { return terms.versions(); }

        protected int[] getSupportedCipherSuites() { return terms.suites(); }

        public Vector<TlsPSKExternal> getExternalPSKs() {
            return terms.tls13() ? new Vector<>(Arrays.asList(terms.external())) : null;
        }
    }

    static class Server extends PSKTlsServer {
        final Terms terms;

        Server(Terms terms) {
            super(CRYPTO, new TlsPSKIdentityManager() {
                public byte[] getHint() { return null; }

                public byte[] getPSK(byte[] identity) {
                    return Arrays.equals(identity, terms.identity()) ? terms.key().clone() : null;
                }
            });
            this.terms = terms;
        }

        protected ProtocolVersion[] getSupportedVersions() { return terms.versions(); }

        protected int[] getSupportedCipherSuites() { return terms.suites(); }

        public TlsCredentials getCredentials() throws IOException {
            return terms.tls13() ? null : super.getCredentials();
        }

        public TlsPSKExternal getExternalPSK(Vector identities) {
            for (Object one : identities) {
                if (Arrays.equals(((PskIdentity) one).getIdentity(), terms.identity())) return terms.external();
            }
            return null;
        }
    }

    static Terms terms(String[] arguments, int from) {
        byte[] identity = arguments[from].getBytes(StandardCharsets.US_ASCII);
        return new Terms(identity, Hex.decode(arguments[from + 1]), arguments[from + 2].equals("1.3"));
    }

    static void talk(TlsProtocol protocol) throws IOException {
        String line = new BufferedReader(new InputStreamReader(System.in)).readLine() + "\n";
        protocol.getOutputStream().write(line.getBytes(StandardCharsets.US_ASCII));
        byte[] answer = protocol.getInputStream().readNBytes(line.length());
        System.out.print("connected\n" + new String(answer, StandardCharsets.US_ASCII));
        protocol.close();
    }

    public static void main(String[] arguments) throws IOException {
        InetAddress loopback = InetAddress.getByName("127.0.0.1");
        try {
            if (arguments[0].equals("client")) {
                Socket socket = new Socket(loopback, Integer.parseInt(arguments[1]));
                TlsClientProtocol protocol = new TlsClientProtocol(socket.getInputStream(), socket.getOutputStream());
                protocol.connect(new Client(terms(arguments, 2)));
                talk(protocol);
                return;
            }
            try (ServerSocket listener = new ServerSocket(0, 1, loopback)) {
                System.out.println("listening " + listener.getLocalPort());
                Socket socket = listener.accept();
                TlsServerProtocol protocol = new TlsServerProtocol(socket.getInputStream(), socket.getOutputStream());
                protocol.accept(new Server(terms(arguments, 1)));
                protocol.getInputStream().transferTo(protocol.getOutputStream());
                protocol.close();
            }
        } catch (IOException error) {
            System.out.println("refused " + error.getMessage());
            System.exit(1);
        }
    }
}
