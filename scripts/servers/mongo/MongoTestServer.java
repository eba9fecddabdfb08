import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.AbstractMongoBackend;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Set;
import org.h2.mvstore.MVStore;

/**
 * A server that speaks MongoDB's protocol, for machines without a mongod.
 *
 * <p>Arguments: PORT (0 takes a free one), FILE ("-" keeps everything in memory; with a file what was acknowledged survives
 * kill -9), and optionally "oplog" for change streams. Prints "READY mongodb://host:port".
 */
public final class MongoTestServer {
  /** Commands that change nothing, so that they need neither the lock nor a commit. */
  private static final Set<String> READS =
      Set.of(
          "find", "getmore", "aggregate", "count", "distinct", "listcollections", "listindexes", "listdatabases",
          "ismaster", "hello", "ping", "killcursors", "endsessions", "buildinfo");

  /** Says 5.0: the driver wants wire version 9 or more, and the newest that the library knows of says 8. */
  private static final MongoVersion VERSION =
      new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
          return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
          return 13;
        }
      };

  /** Commits after every command that writes, one at a time. As it comes, H2Backend loses seconds of acknowledged writes. */
  private static final class DurableBackend extends H2Backend {
    DurableBackend(MVStore store) {
      super(store);
    }

    @Override
    public Document handleMessage(MongoMessage message) {
      String command = message.getDocument().keySet().iterator().next().toLowerCase();
      if (READS.contains(command)) {
        return super.handleMessage(message);
      }
      synchronized (this) {
        Document reply = super.handleMessage(message);
        commit();
        return reply;
      }
    }
  }

  private static AbstractMongoBackend backend(String file) {
    if (file.equals("-")) {
      return new MemoryBackend();
    }
    MVStore store = new MVStore.Builder().fileName(file).autoCommitDisabled().open();
    store.setRetentionTime(0); // else the file grows by a chunk with every commit
    return new DurableBackend(store);
  }

  public static void main(String[] args) throws Exception {
    AbstractMongoBackend backend = backend(args[1]);
    backend.version(VERSION);
    MongoServer server = new MongoServer(backend);
    if (args.length > 2 && args[2].equals("oplog")) {
      server.enableOplog();
    }
    // One worker thread: with more, replies are encoded from live documents, and a lease that was won may read as lost.
    server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 1, 1);
    Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
    System.out.println("READY " + server.getConnectionString());
    Thread.sleep(Long.MAX_VALUE);
  }
}
