// Submits one task to a spool and waits for its end, with the JDK (17 or later) alone.
// usage: java SpoolSubmit.java SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]
// exit:  0 done, 1 failed, 2 cancelled, 64 usage, 65 refused, 74 I/O error, 75 not over in time
import static java.nio.charset.StandardCharsets.UTF_8;
import static java.nio.file.StandardCopyOption.ATOMIC_MOVE;
import static java.nio.file.StandardOpenOption.CREATE_NEW;
import static java.nio.file.StandardOpenOption.READ;
import static java.nio.file.StandardOpenOption.WRITE;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.*;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.SecureRandom;
import java.time.Instant;
import java.util.*;

public class SpoolSubmit {
    static final List<String> ENDS = List.of("done", "failed", "cancelled"); // in the order of their exit codes

    public static void main(String[] argv) {
        try {
            System.exit(run(argv));
        } catch (IOException | InterruptedException | RuntimeException error) {
            System.exit(say(74, error.toString())); // not Java's 1, which means the task failed
        }
    }

    static int run(String[] argv) throws IOException, InterruptedException {
        if (argv.length != 3 && argv.length != 4) return say(64, "usage: SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]");
        String task = argv[1], args = argv[2], timeout = argv.length == 4 ? argv[3] : "30";
        if (!task.matches("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")) return say(64, "not a task name: " + task);
        if (!timeout.matches("[0-9]{1,6}")) return say(64, "not a whole number of seconds below 1000000: " + timeout);
        if (args.contains("\uFFFD")) return say(65, "JSON_ARGS must be UTF-8, as the locale; write U+FFFD as \\ufffd");
        if (argv[0].isEmpty()) return say(64, "SPOOL_DIR is empty"); // to Java that is the current directory
        Path spool = Path.of(argv[0]);
        if (!Files.isRegularFile(spool.resolve("format")) || !contents(spool.resolve("format")).equals("spool 1"))
            return say(64, "not a spool of format 1: " + spool);

        long now = System.currentTimeMillis();
        String id = newId(now);
        submit(spool, id, "{\"id\":\"" + id + "\",\"task\":\"" + task + "\",\"args\":" + args + "}\n");
        print(id);

        // 4. Look for the id in the terminal states, where it stands between commas, and among what was refused.
        long giveUp = System.nanoTime() + Long.parseLong(timeout) * 1_000_000_000L;
        for (long pause = 5; ; pause = Math.min(pause * 2, 200)) {
            for (int code = 0; code < ENDS.size(); code++) {
                if (find(spool.resolve(ENDS.get(code)), "*," + id + ",*").isEmpty()) continue;
                if (code == 0) print(contents(newestRecord(spool, id, now)));
                return code;
            }
            if (!find(spool.resolve("rejected"), id + "*").isEmpty()) {
                for (Path reason : find(spool.resolve("rejected"), id + "*.reason.json")) say(65, contents(reason));
                return 65;
            }
            if (System.nanoTime() >= giveUp) return say(75, "not over after " + timeout + " s; the task goes on");
            Thread.sleep(pause);
        }
    }

    /** 1. A UUIDv7: 48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits. */
    static String newId(long now) {
        byte[] bytes = new byte[16];
        new SecureRandom().nextBytes(bytes);
        System.arraycopy(ByteBuffer.allocate(8).putLong(now).array(), 2, bytes, 0, 6);
        bytes[6] = (byte) (bytes[6] & 0x0f | 0x70);
        bytes[8] = (byte) (bytes[8] & 0x3f | 0x80);
        return HexFormat.of().formatHex(bytes);
    }

    static void submit(Path spool, String id, String action) throws IOException {
        // 2. Write the action under a hidden name and sync it. What a crash leaves in tmp/ is ignored and aged out.
        Path hidden = spool.resolve("tmp/." + id), incoming = spool.resolve("incoming");
        var mode = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));
        try (FileChannel file = FileChannel.open(hidden, Set.of(CREATE_NEW, WRITE), mode)) {
            for (ByteBuffer left = ByteBuffer.wrap(action.getBytes(UTF_8)); left.hasRemaining(); ) file.write(left);
            file.force(true);
        }
        // 3. Rename: now, and complete, it is visible. Sync the name too; a shared incoming/ may not let us open it.
        Files.move(hidden, incoming.resolve(id + ".json"), ATOMIC_MOVE);
        if (Files.isReadable(incoming)) try (FileChannel dir = FileChannel.open(incoming, READ)) { dir.force(true); }
    }

    /** The paths STATE/DATE/NAME whose name matches. None is no error: directories are made when they are needed. */
    static List<Path> find(Path state, String pattern) throws IOException {
        List<Path> found = new ArrayList<>();
        for (Path date : list(state, "*")) found.addAll(list(date, pattern));
        return found;
    }

    static List<Path> list(Path dir, String pattern) throws IOException {
        try (var names = Files.newDirectoryStream(dir, pattern)) {
            List<Path> found = new ArrayList<>();
            names.forEach(found::add);
            return found;
        } catch (NoSuchFileException notYet) {
            return List.of();
        }
    }

    /** attempts/DATE/ID.N.json, DATE the date inside the id, N the highest: it may skip. */
    static Path newestRecord(Path spool, String id, long now) throws IOException {
        Path dir = spool.resolve("attempts").resolve(Instant.ofEpochMilli(now).toString().substring(0, 10));
        var byNumber = Comparator.comparing((Path path) -> Long.valueOf(path.getFileName().toString().split("\\.")[1]));
        return list(dir, id + ".*.json").stream().max(byNumber).orElseThrow();
    }

    static String contents(Path path) throws IOException {
        return Files.readString(path, UTF_8).strip();
    }

    static void print(String line) throws IOException {
        System.out.write((line + "\n").getBytes(UTF_8)); // whatever the locale
        if (System.out.checkError()) throw new IOException("cannot write to stdout");
    }

    static int say(int code, String text) {
        System.err.println("SpoolSubmit: " + text);
        return code;
    }
}
