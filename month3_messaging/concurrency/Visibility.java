import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;

/**
 * What one thread sees of what another wrote, with and without {@code volatile}.
 *
 * <pre>
 *   java Visibility flag    plain|volatile  CPU_MS    a reader waits for a flag
 *   java Visibility reorder plain|volatile  ROUNDS    two threads write, then read the other's
 * </pre>
 *
 * Prints one line of JSON. Time is the reader's own processor time, so that a busy machine changes
 * nothing: a thread that is not run does not get older.
 */
public final class Visibility {
    private static final int BATCH = 2_000;
    private static final long MOST_WAITING_NS = 60_000_000_000L;

    private static boolean plainFlag;
    private static volatile boolean volatileFlag;

    /** How far each thread is: both begin a round together, as nearly as can be. */
    private static volatile int leftAt;
    private static volatile int rightAt;

    private static final class Plain {
        int x;
        int y;
    }

    private static final class Ordered {
        volatile int x;
        volatile int y;
    }

    public static void main(String[] arguments) throws Exception {
        boolean isVolatile = arguments[1].equals("volatile");
        if (arguments[0].equals("flag")) {
            flag(isVolatile, Long.parseLong(arguments[2]));
        } else {
            reorder(isVolatile, Integer.parseInt(arguments[2]));
        }
    }

    /** The writer waits until the reader's loop has run for a while, and so has been compiled. */
    private static void flag(boolean isVolatile, long cpuMs) throws Exception {
        Thread reader = new Thread(isVolatile ? Visibility::awaitVolatile : Visibility::awaitPlain);
        reader.setDaemon(true);
        reader.start();
        spend(reader, cpuMs);
        plainFlag = true;
        volatileFlag = true;
        spend(reader, cpuMs);
        System.out.println("{\"seen\": " + !reader.isAlive() + "}");
    }

    private static void awaitPlain() {
        long spins = 0;
        while (!plainFlag) {
            spins++;
        }
    }

    private static void awaitVolatile() {
        long spins = 0;
        while (!volatileFlag) {
            spins++;
        }
    }

    /** Return when the thread has ended or has used so much more processor time. */
    private static void spend(Thread thread, long cpuMs) throws InterruptedException {
        ThreadMXBean times = ManagementFactory.getThreadMXBean();
        long until = Math.max(0, times.getThreadCpuTime(thread.getId())) + cpuMs * 1_000_000;
        long giveUp = System.nanoTime() + MOST_WAITING_NS;
        while (thread.isAlive() && times.getThreadCpuTime(thread.getId()) < until) {
            if (System.nanoTime() > giveUp) {
                throw new IllegalStateException("the reader was not run for a minute");
            }
            thread.join(5);
        }
    }

    /**
     * Store, then load the other's: in any order of the four steps one thread reads a 1. Both read
     * 0 only if a load went ahead of the store before it. Runs at least so many rounds; with plain
     * fields it goes on until it has seen one, at most a hundred times as many.
     */
    private static void reorder(boolean isVolatile, int rounds) throws Exception {
        Plain[] plain = new Plain[BATCH];
        Ordered[] ordered = new Ordered[BATCH];
        int[] left = new int[BATCH];
        int[] right = new int[BATCH];
        long both = 0;
        long done = 0;
        while (done < rounds || (!isVolatile && both == 0 && done < 100L * rounds)) {
            for (int i = 0; i < BATCH; i++) {
                plain[i] = new Plain();
                ordered[i] = new Ordered();
            }
            leftAt = -1;
            rightAt = -1;
            Thread one = new Thread(() -> {
                if (isVolatile) leftOrdered(ordered, left); else leftPlain(plain, left);
            });
            Thread other = new Thread(() -> {
                if (isVolatile) rightOrdered(ordered, right); else rightPlain(plain, right);
            });
            one.start();
            other.start();
            one.join();
            other.join();
            for (int i = 0; i < BATCH; i++) {
                if (left[i] == 0 && right[i] == 0) both++;
            }
            done += BATCH;
        }
        System.out.println("{\"rounds\": " + done + ", \"both_zero\": " + both + "}");
    }

    private static void leftPlain(Plain[] all, int[] seen) {
        for (int i = 0; i < BATCH; i++) {
            Plain at = all[i];
            leftAt = i;
            for (int spins = 0; rightAt < i; spins++) rest(spins);
            at.x = 1;
            seen[i] = at.y;
        }
    }

    private static void rightPlain(Plain[] all, int[] seen) {
        for (int i = 0; i < BATCH; i++) {
            Plain at = all[i];
            rightAt = i;
            for (int spins = 0; leftAt < i; spins++) rest(spins);
            at.y = 1;
            seen[i] = at.x;
        }
    }

    private static void leftOrdered(Ordered[] all, int[] seen) {
        for (int i = 0; i < BATCH; i++) {
            Ordered at = all[i];
            leftAt = i;
            for (int spins = 0; rightAt < i; spins++) rest(spins);
            at.x = 1;
            seen[i] = at.y;
        }
    }

    private static void rightOrdered(Ordered[] all, int[] seen) {
        for (int i = 0; i < BATCH; i++) {
            Ordered at = all[i];
            rightAt = i;
            for (int spins = 0; leftAt < i; spins++) rest(spins);
            at.y = 1;
            seen[i] = at.x;
        }
    }

    /** Wait close to the processor for a while, then let somebody else run. */
    private static void rest(int spins) {
        if (spins < 2_000) {
            Thread.onSpinWait();
        } else {
            Thread.yield();
        }
    }
}
