// floor: the least that the kernel must be asked for a container like that of `runc spec`, as a lower bound for `run`:
// six new namespaces, a cgroup v2 directory with a device program, nine mounts, device nodes and links, pivot_root, masked and
// read-only paths, no_new_privs, the bounding set, exec of /bin/true, wait, removal of the directory. No config, no state, no checks.
// usage: floor ROOTFS [N]   N containers one after the other (1: as a command of its own); prints the mean in microseconds if N is given
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRY(call) do { if ((call) < 0) { perror(#call); _exit(1); } } while (0)
#define EACH(table, i) for (unsigned i = 0; i < sizeof(table) / sizeof(*(table)); i++)

#define SAFE (MS_NOSUID | MS_NOEXEC | MS_NODEV)
static const struct { const char *type, *at, *data; unsigned long flags; } mounts[] = {
    {"proc", "proc", "", 0},
    {"tmpfs", "dev", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME},
    {"devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC},
    {"tmpfs", "dev/shm", "mode=1777,size=65536k", SAFE},
    {"mqueue", "dev/mqueue", "", SAFE},
    {"sysfs", "sys", "", SAFE | MS_RDONLY},
    {"cgroup2", "sys/fs/cgroup", "", SAFE | MS_RELATIME | MS_RDONLY},
};
static const struct { const char *at; int major, minor; } nodes[] = {
    {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
};
static const struct { const char *to, *at; } links[] = {
    {"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
    {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}, {"/proc/kcore", "dev/core"},
};
static const char *read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
static const char *masked_files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list"};
static const char *masked_dirs[] = {"/proc/acpi", "/sys/firmware", "/proc/scsi"};

static void child(const char *rootfs)
{
    TRY(mount(0, "/", 0, MS_REC | MS_SLAVE, 0));
    TRY(mount(rootfs, rootfs, 0, MS_BIND | MS_REC, 0));
    TRY(chdir(rootfs));
    EACH(mounts, i) {
        if (!strncmp(mounts[i].at, "dev/", 4)) TRY(mkdir(mounts[i].at, 0755));
        TRY(mount(mounts[i].type, mounts[i].at, mounts[i].type, mounts[i].flags, mounts[i].data));
    }
    umask(0);
    EACH(nodes, i) TRY(mknod(nodes[i].at, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
    EACH(links, i) TRY(symlink(links[i].to, links[i].at));
    TRY(syscall(SYS_pivot_root, ".", "."));
    TRY(umount2(".", MNT_DETACH));
    TRY(chdir("/"));
    TRY(mount(0, "/", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
    EACH(read_only, i) if (!mount(read_only[i], read_only[i], 0, MS_BIND | MS_REC, 0))
        TRY(mount(0, read_only[i], 0, MS_REMOUNT | MS_BIND | MS_RDONLY | SAFE, 0));
    EACH(masked_files, i) mount("/dev/null", masked_files[i], 0, MS_BIND, 0);
    EACH(masked_dirs, i) mount("tmpfs", masked_dirs[i], "tmpfs", MS_RDONLY, 0);
    TRY(sethostname("floor", 5));
    TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    for (int cap = 0; cap < 41; cap++) TRY(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
    char *argv[] = {"/bin/true", 0}, *envp[] = {"PATH=/bin", 0};
    TRY(execve("/bin/true", argv, envp));
}

static void device_program(int cgroup)
{
    struct bpf_insn program[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (unsigned long)program, .insn_cnt = 2, .license = (unsigned long)"Apache"};
    int fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    TRY(fd);
    union bpf_attr attach = {.target_fd = cgroup, .attach_bpf_fd = fd, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
    TRY(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    close(fd);
}

static void container(const char *rootfs)
{
    char dir[64];
    snprintf(dir, sizeof dir, "/sys/fs/cgroup/floor-%d", getpid());
    TRY(mkdir(dir, 0755));
    int cgroup = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), pidfd = -1, status = 0;
    TRY(cgroup);
    device_program(cgroup);
    struct clone_args args = {
        .flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_PIDFD | CLONE_INTO_CGROUP,
        .pidfd = (unsigned long)&pidfd, .exit_signal = SIGCHLD, .cgroup = cgroup};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    TRY(pid);
    if (!pid) child(rootfs);
    TRY(waitpid(pid, &status, 0));
    close(pidfd);
    close(cgroup);
    while (rmdir(dir) && errno == EBUSY) usleep(100);
    if (status) { fprintf(stderr, "floor: child ended with %#x\n", status); exit(1); }
}

int main(int argc, char **argv)
{
    if (argc < 2) { fprintf(stderr, "usage: floor ROOTFS [N]\n"); return 2; }
    int n = argc > 2 ? atoi(argv[2]) : 1;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < n; i++) container(argv[1]);
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (argc > 2) printf("%.0f\n", ((b.tv_sec - a.tv_sec) * 1e6 + (b.tv_nsec - a.tv_nsec) / 1e3) / n);
}
