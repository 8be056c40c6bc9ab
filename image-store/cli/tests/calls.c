/* System calls by the three ways that a 64-bit program of x86 has, to see what a filter says of each. One line for each argument:
     FAMILY       socket(2) of an address family: by its 64-bit number, its x32 number, its i386 number, and by i386's socketcall
     user         a user namespace by unshare, by clone, and clone3 with nothing; io_uring_setup
     mseal        mseal of nothing; and the same as i386
   "ok", or the errno's name. Built as a static program; int $0x80 is a 32-bit call in it too. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define X32 0x40000000

static long i386(long number, long a, long b, long c) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

static const char *said(long result) { return result >= 0 ? "ok" : strerrorname_np(errno); }

static void families(long family) {
  /* Where 32 bits reach. */
  unsigned *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  args[0] = family, args[1] = SOCK_DGRAM, args[2] = 0;
  printf("%ld:", family);
  printf(" 64 %s", said(syscall(SYS_socket, family, SOCK_DGRAM, 0)));
  printf(" x32 %s", said(syscall(X32 | SYS_socket, family, SOCK_DGRAM, 0)));
  printf(" i386 %s", said(i386(359, family, SOCK_DGRAM, 0)));
  printf(" socketcall %s\n", said(i386(102, 1, (long)args, 0)));
}

static void user(void) {
  pid_t child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  printf("clone %s", said(child));
  printf(" clone3 %s", said(syscall(SYS_clone3, 0, 0)));
  printf(" io_uring_setup %s", said(syscall(SYS_io_uring_setup, 0, 0)));
  printf(" unshare %s\n", said(unshare(CLONE_NEWUSER)));
}

int main(int count, char **words) {
  for (int i = 1; i < count; i++) {
    if (strcmp(words[i], "user") == 0) user();
    else if (strcmp(words[i], "mseal") == 0) printf("mseal %s i386 %s\n", said(syscall(462, 0, 0, 0)), said(i386(462, 0, 0, 0)));
    else families(atol(words[i]));
  }
  return 0;
}
