# needs: javac java
cat >M.java <<'X'
import java.util.concurrent.*;
import java.util.*;
public class M {
    public static void main(String[] a) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> all = new ArrayList<>();
        for (int i = 0; i < 64; i++) { final long n = i; all.add(pool.submit(() -> { long s = 0; for (long k = 0; k < 100000; k++) s += k * n; return s; })); }
        long sum = 0; for (Future<Long> f : all) sum += f.get();
        pool.shutdown();
        System.out.println(sum);
        Process p = new ProcessBuilder("sh", "-c", "echo child; exit 4").start();
        System.out.print(new String(p.getInputStream().readAllBytes())); System.out.println(p.waitFor());
        java.nio.file.Path f = java.nio.file.Files.createTempFile("x", "y"); java.nio.file.Files.writeString(f, "text");
        System.out.println(java.nio.file.Files.readString(f));
        try { Object o = null; o.hashCode(); } catch (NullPointerException e) { System.out.println("null"); }
        System.gc();
    }
}
X
javac M.java && java M
