import java.io.FileInputStream;
import java.io.InputStream;
import java.math.BigInteger;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertPathBuilder;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.EnumSet;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * A client that goes without no proof of validity: each full handshake is one line, "accepted
 * SERIAL" or "refused REASON". One, or as many as there is time for till the file END exists.
 *
 *   java -Djdk.tls.client.enableStatusRequestExtension=true Client.java NAME PORT ROOTS [END]
 */
class Client {
    public static void main(String[] args) throws Exception {
        String name = args[0];
        int port = Integer.parseInt(args[1]);
        KeyStore roots = roots(args[2]);
        Path end = args.length > 3 ? Path.of(args[3]) : null;
        do {
            System.out.println(handshake(name, port, roots));
        } while (end != null && !Files.exists(end));
    }

    static String handshake(String name, int port, KeyStore roots) throws Exception {
        // A new context each time: it is what remembers sessions.
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust(roots).getTrustManagers(), null);
        try (Socket tcp = new Socket("127.0.0.1", port);
                SSLSocket tls = (SSLSocket) context.getSocketFactory().createSocket(
                        tcp, name, port, true)) {
            tls.setSoTimeout(60_000);
            SSLParameters parameters = tls.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            tls.setSSLParameters(parameters);
            tls.startHandshake();
            X509Certificate leaf = (X509Certificate) tls.getSession().getPeerCertificates()[0];
            return "accepted " + hex(leaf.getSerialNumber());
        } catch (SSLException e) {
            Throwable cause = e;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            return "refused " + e.getMessage() + ": " + cause;
        }
    }

    /** What the handshake brings, or an answer from the network; nothing is no answer. */
    static TrustManagerFactory trust(KeyStore roots) throws Exception {
        PKIXRevocationChecker checker =
                (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
        checker.setOptions(EnumSet.of(
                PKIXRevocationChecker.Option.NO_FALLBACK,
                PKIXRevocationChecker.Option.ONLY_END_ENTITY));
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(roots, new X509CertSelector());
        parameters.addCertPathChecker(checker);
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init(new CertPathTrustManagerParameters(parameters));
        return factory;
    }

    static KeyStore roots(String path) throws Exception {
        KeyStore roots = KeyStore.getInstance("PKCS12");
        roots.load(null, null);
        try (InputStream pem = new FileInputStream(path)) {
            for (Certificate root : CertificateFactory.getInstance("X.509").generateCertificates(pem)) {
                roots.setCertificateEntry("root" + roots.size(), root);
            }
        }
        return roots;
    }

    static String hex(BigInteger serial) {
        String digits = serial.toString(16);
        return digits.length() % 2 == 0 ? digits : "0" + digits;
    }
}
