import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;

/** Makes a trust store of a file of certificates: `java TrustStore.java CERTIFICATES STORE`. */
public class TrustStore {
  public static void main(String[] args) throws Exception {
    KeyStore store = KeyStore.getInstance("JKS");
    store.load(null, null);
    int count = 0;
    try (FileInputStream input = new FileInputStream(args[0])) {
      for (Certificate one : CertificateFactory.getInstance("X.509").generateCertificates(input)) {
        store.setCertificateEntry("certificate-" + count++, one);
      }
    }
    // Certificates of this format are read without the password.
    try (FileOutputStream output = new FileOutputStream(args[1])) {
      store.store(output, "changeit".toCharArray());
    }
  }
}
