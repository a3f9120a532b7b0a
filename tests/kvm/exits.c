// Does one thing COUNT times, says "done", and waits to be killed: for exits.sh, which counts
// what that takes.
//
//   exits WHAT COUNT
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static char *pages(long count)
{
    char *start =
        mmap(NULL, count * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(start != MAP_FAILED, "mmap");
    return start;
}

static void touch(char *start, long count)
{
    for (long n = 0; n < count; n++)
        ((volatile char *)start)[n * 4096] = 1;
}

static void ping_pong(long count)
{
    int to[2], from[2];
    char byte = 0;
    must(pipe(to) == 0 && pipe(from) == 0, "pipe");
    if (fork() == 0) {
        for (long n = 0; n < count; n++)
            if (read(to[0], &byte, 1) != 1 || write(from[1], &byte, 1) != 1)
                break;
        _exit(0);
    }
    for (long n = 0; n < count; n++)
        must(write(to[1], &byte, 1) == 1 && read(from[0], &byte, 1) == 1, "ping");
    wait(NULL);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const char *what = argv[1];
    long count = atol(argv[2]);
    struct timespec time;
    if (strcmp(what, "getppid") == 0) {
        for (long n = 0; n < count; n++)
            syscall(SYS_getppid);
    } else if (strcmp(what, "getpid") == 0) {
        for (long n = 0; n < count; n++)
            syscall(SYS_getpid);
    } else if (strcmp(what, "clock") == 0) {
        for (long n = 0; n < count; n++)
            clock_gettime(CLOCK_MONOTONIC, &time);
    } else if (strcmp(what, "touch") == 0) {
        touch(pages(count), count);
    } else if (strcmp(what, "copy") == 0) {
        char *start = pages(count);
        touch(start, count);
        int to[2];
        char byte;
        must(pipe(to) == 0, "pipe");
        if (fork() == 0) {
            close(to[1]);
            _exit(read(to[0], &byte, 1) < 0);
        }
        touch(start, count);
        close(to[0]);
        close(to[1]);
        wait(NULL);
    } else if (strcmp(what, "mmap") == 0) {
        for (long n = 0; n < count; n++) {
            char *start = pages(1);
            touch(start, 1);
            munmap(start, 4096);
        }
    } else if (strcmp(what, "pipe") == 0) {
        ping_pong(count);
    } else if (strcmp(what, "fork") == 0) {
        for (long n = 0; n < count; n++) {
            if (fork() == 0)
                _exit(0);
            wait(NULL);
        }
    } else {
        return 2;
    }
    puts("done");
    fflush(stdout);
    pause();
    return 0;
}
