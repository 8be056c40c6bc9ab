// once: run a command and write "microseconds kilobytes status" to descriptor 3: wall time, peak resident memory, wait status.
// A program of its own, since a child's peak memory begins with that of the process it was forked from, and Python's is larger than a runtime's.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    struct timespec a, b;
    struct rusage use;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &a);
    pid_t pid = vfork();
    if (pid == 0) { close(3); execv(argv[1], argv + 1); _exit(127); }
    if (pid < 0 || wait4(pid, &status, 0, &use) < 0) return 1;
    clock_gettime(CLOCK_MONOTONIC, &b);
    dprintf(3, "%.1f %ld %d\n", (b.tv_sec - a.tv_sec) * 1e6 + (b.tv_nsec - a.tv_nsec) / 1e3, use.ru_maxrss, status);
    return 0;
}
