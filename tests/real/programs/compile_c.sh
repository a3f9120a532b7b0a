# C and C++: threads, exceptions, sanitizers.
# needs: gcc g++
cat >t.c <<'X'
#include <pthread.h>
#include <stdio.h>
static _Atomic long sum;
static void *work(void *p) { for (int i = 0; i < 100000; i++) sum += (long)p; return 0; }
int main(void) {
    pthread_t t[8];
    for (long i = 0; i < 8; i++) pthread_create(t + i, 0, work, (void *)i);
    for (int i = 0; i < 8; i++) pthread_join(t[i], 0);
    printf("%ld\n", sum);
}
X
cat >e.cc <<'X'
#include <iostream>
#include <map>
#include <stdexcept>
#include <thread>
#include <vector>
static int deep(int n) { if (!n) throw std::runtime_error("bottom"); return deep(n - 1) + 1; }
int main() {
    std::vector<std::thread> ts;
    std::map<int, int> caught[4];
    for (int i = 0; i < 4; i++) ts.emplace_back([&caught, i] {
        for (int k = 0; k < 500; k++) try { deep(k % 50); } catch (const std::exception &e) { caught[i][k]++; } });
    for (auto &t : ts) t.join();
    for (auto &c : caught) std::cout << c.size() << "\n";
}
X
gcc -O2 -pthread t.c -o t && ./t
g++ -O2 -pthread e.cc -o e && ./e
for s in address undefined thread leak; do
    gcc -g -fsanitize=$s -pthread t.c -o t.$s && ./t.$s; echo "$s $?"
    g++ -g -fsanitize=$s -pthread e.cc -o e.$s && ./e.$s; echo "$s $?"
done
cat >bad.c <<'X'
#include <stdlib.h>
int main(int n, char **v) { char *p = malloc(8); free(p); return p[n]; }
X
gcc -g -fsanitize=address bad.c -o bad && ./bad 2>report; echo "found: $?"
grep -o 'heap-use-after-free' report | head -1
cat >leak.c <<'X'
#include <stdlib.h>
int main(void) { volatile char *p = malloc(77); p = 0; return 0; }
X
gcc -g -fsanitize=address leak.c -o leak && ./leak 2>report; echo "leak: $?"
grep -o 'SUMMARY: AddressSanitizer: [0-9]* byte' report
