import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.net.InetSocketAddress;
import java.util.List;

/**
 * A MongoDB server in memory, for tests: listens on the port of 127.0.0.1 given as its first argument; `oplog` as the second makes change streams
 * possible, and keeps every change in memory.
 */
public class MongoMain {
    /** The library's own versions announce a protocol too old for today's drivers. */
    static final class Version implements MongoVersion {
        public String toVersionString() {
            return "5.0.0";
        }

        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        public int getWireVersion() {
            return 13;
        }
    }

    public static void main(String[] arguments) throws Exception {
        MemoryBackend backend = new MemoryBackend();
        backend.version(new Version());
        MongoServer server = new MongoServer(backend);
        if (arguments.length > 1 && arguments[1].equals("oplog")) {
            server.enableOplog();
        }
        server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        System.out.println("ready");
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        Thread.currentThread().join();
    }
}
