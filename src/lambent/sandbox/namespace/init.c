/* The launcher of sandboxes, and process 1 of each.
 *
 * It decides nothing. As the launcher, started once by the platform, it clones a process into new namespaces for
 * each sandbox: this costs a small program a tenth of what it would cost the platform. It also lays mounts into a
 * sandbox that was made before it was known whose it would be. The clone is process 1. It
 * carries out the steps of a plan that the platform sends (plan.py owns what is isolated and in which order) and
 * then serves four requests: run a program, signal it, end all guests, stop or resume all guests. It reaps whatever
 * dies and reports the exits of what it was asked to run.
 *
 * Descriptor 0 is a SOCK_SEQPACKET socket to the platform and the lifeline: once the platform is gone the socket
 * ends, this program exits, and the kernel kills everything in its pid namespace.
 *
 * Counterparts: plan.py (the same numbers and encoding), launcher.py and first.py (the other ends), init.py (the
 * same in Python). Integers are little endian, as on every host that this is built for. Guests cannot reach the socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Numbers that are the same on every architecture; headers of older systems lack them. */
enum { NR_open_tree = 428, NR_move_mount = 429, NR_clone3 = 435, NR_close_range = 436, NR_mount_setattr = 442,
       NR_landlock_create_ruleset = 444, NR_landlock_restrict_self = 446, NR_seccomp_set_filter = 1 };

enum step { /* plan.py: OPCODES */
    UNSHARE = 1, PRIVATE, TMPFS, ENTER, FOLDER, FILE_, LINK, BIND, ATTACH, PROC, PIVOT, READONLY, HOSTNAME,
    LOOPBACK, LISTEN, WRITE, ASK_MAP, GROUPS, LANDLOCK, IDENTITY, LIMIT, SECCOMP,
    REMOVE, DROP, PROMPT,
};

enum { CONTROL = 0, MESSAGE_BYTES = 256 * 1024, MAX_FDS = 16, MAX_RUNNING = 64, MAX_LIMITS = 16, MAX_GROUPS = 8 };

struct record { uint8_t op; uint64_t number[4]; const char *text[3]; uint32_t length[3]; };

static char message[MESSAGE_BYTES];
static int message_fds[MAX_FDS], message_fd_count;
static struct { pid_t pid; uint32_t token; } running[MAX_RUNNING];
static struct { int resource; rlim_t value; } limits[MAX_LIMITS];
static int limit_count, task_fds[MAX_GROUPS], task_fd_count, group_fd = -1, freezer_fd = -1;
static int host_proc = -1, host_mounts = -1, host_root = -1, dev_null = -1, signals = -1, ending, dropping;
static uid_t guest_uid;
static gid_t guest_gid;
static struct { unsigned short count; void *code; } filter; /* struct sock_fprog */
static char attributes[64]; /* struct sched_attr, which says its own size */
static uint32_t attributes_size;

static void die(void)
{
    /* A guest that the v1 freezer holds does not even die of SIGKILL. */
    if (freezer_fd >= 0 && write(freezer_fd, "THAWED", 6) < 0) { /* then the next server thaws it */ }
    _exit(1);
}

static int send_to(int to, char kind, uint32_t first, uint32_t second, int fd)
{
    char body[9], control[CMSG_SPACE(sizeof fd)];
    struct iovec part = { body, sizeof body };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
    body[0] = kind;
    memcpy(body + 1, &first, 4);
    memcpy(body + 5, &second, 4);
    if (fd >= 0) {
        memset(control, 0, sizeof control);
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        struct cmsghdr *item = CMSG_FIRSTHDR(&header);
        *item = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(item), &fd, sizeof fd);
    }
    while (sendmsg(to, &header, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return -1;
    return 0;
}

static void tell(char kind, uint32_t first, uint32_t second, int fd)
{
    if (send_to(CONTROL, kind, first, second, fd))
        die();
}

/* One message into `message`, its descriptors into `message_fds`. Ends the program when the platform is gone. */
static size_t hear(void)
{
    char control[CMSG_SPACE(sizeof(int) * MAX_FDS)];
    struct iovec part = { message, sizeof message };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control };
    ssize_t size;
    do
        size = recvmsg(CONTROL, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size <= 0 || header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        die();
    message_fd_count = 0;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&header); item; item = CMSG_NXTHDR(&header, item))
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS) {
            message_fd_count = (int)((item->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(message_fds, CMSG_DATA(item), (size_t)message_fd_count * sizeof(int));
        }
    return (size_t)size;
}

static const char *decode(const char *at, const char *end, struct record *record)
{
    memset(record, 0, sizeof *record);
    if (end - at < 3)
        die();
    record->op = (uint8_t)at[0];
    int numbers = at[1], texts = at[2];
    at += 3;
    if (numbers > 4 || texts > 3 || end - at < 8 * numbers)
        die();
    for (int i = 0; i < numbers; i++, at += 8)
        memcpy(&record->number[i], at, 8);
    for (int i = 0; i < texts; i++) {
        if (end - at < 4)
            die();
        memcpy(&record->length[i], at, 4);
        at += 4;
        if ((uint64_t)(end - at) < (uint64_t)record->length[i] + 1)
            die();
        record->text[i] = at;
        at += record->length[i] + 1; /* each text ends in a zero byte that is not counted */
    }
    return at;
}

/* struct mount_attr of the kernel */
static int set_attributes(int fd, const char *path, unsigned flags, uint64_t set)
{
    uint64_t attributes[4] = { set, 0, 0, 0 };
    return (int)syscall(NR_mount_setattr, fd, path, flags, attributes, sizeof attributes);
}

static int attach(int tree, const char *target)
{
    return (int)syscall(NR_move_mount, tree, "", AT_FDCWD, target, 4u); /* F_EMPTY_PATH */
}

/* A copy of the source's whole tree that is attached nowhere, with the attributes set before anybody can see it. */
static int copy_tree(const char *source, uint64_t attributes)
{
    int tree = (int)syscall(NR_open_tree, AT_FDCWD, source, 1u | O_CLOEXEC | 0x8000u); /* CLONE, RECURSIVE */
    if (tree < 0 || set_attributes(tree, "", 0x1000u | 0x8000u, attributes) == 0) /* EMPTY_PATH, RECURSIVE */
        return tree;
    int error = errno;
    close(tree);
    errno = error;
    return -1;
}

static int bind_tree(const char *source, const char *target, uint64_t attributes)
{
    int tree = copy_tree(source, attributes);
    int result = tree < 0 ? -1 : attach(tree, target);
    int error = errno;
    if (tree >= 0)
        close(tree);
    errno = error;
    return result;
}

static int write_file(int folder, const char *path, int flags, mode_t mode, const char *text, size_t size)
{
    int fd = openat(folder, path, flags | O_WRONLY | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    ssize_t done = write(fd, text, size);
    int error = done < 0 ? errno : ENOSPC;
    close(fd);
    errno = error;
    return done == (ssize_t)size ? 0 : -1;
}

static int loopback_up(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int result = fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &request);
    if (fd >= 0)
        close(fd);
    return result;
}

static int listen_at(uint32_t address, uint16_t port)
{
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, 128) < 0)
        return -1;
    tell('L', 0, 0, fd);
    close(fd);
    return 0;
}

/* Abstract sockets and signals of processes outside end here, also where the network is the host's. */
static int landlock(uint64_t scoped)
{
    uint64_t rules[3] = { 0, 0, scoped };
    int fd = (int)syscall(NR_landlock_create_ruleset, rules, sizeof rules, 0);
    int result = fd < 0 ? -1 : (int)syscall(NR_landlock_restrict_self, fd, 0);
    if (fd >= 0)
        close(fd);
    return result;
}

/* The new root comes to lie under the old one, which is then taken away. */
static int pivot(void)
{
    return syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/") ? -1 : 0;
}

static int get_ready(void)
{
    sigset_t all;
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    dev_null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(host_proc);
    prctl(PR_SET_DUMPABLE, 0);
    return signals < 0 || dev_null < 0 ? -1 : 0;
}

static int keep_filter(const char *program, uint32_t size)
{
    filter.count = (unsigned short)(size / 8);
    filter.code = malloc(size);
    if (!filter.code)
        return -1;
    memcpy(filter.code, program, size);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int keep_limit(int resource, rlim_t value)
{
    if (limit_count == MAX_LIMITS)
        return -1;
    limits[limit_count].resource = resource;
    limits[limit_count++].value = value;
    return 0;
}

static int keep_attributes(const char *kept, uint32_t size)
{
    if (size > sizeof attributes)
        return -1;
    memcpy(attributes, kept, size);
    attributes_size = size;
    return 0;
}

static int ask_map(void)
{
    tell('M', 0, 0, -1);
    hear();
    return message[0] == 'm' ? 0 : -1;
}

static int carry_out(const struct record *step)
{
    const char *first = step->text[0], *second = step->text[1];
    const uint64_t *number = step->number;
    switch ((enum step)step->op) {
    case UNSHARE: return unshare((int)number[0]);
    case PRIVATE: return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    case TMPFS: return mount("tmpfs", first, "tmpfs", number[0], second);
    case ENTER: return chdir(first);
    case FOLDER: return mkdir(first, (mode_t)number[0]) && errno != EEXIST ? -1 : 0;
    case FILE_: return write_file(AT_FDCWD, first, O_CREAT | O_TRUNC, (mode_t)number[0], second, step->length[1]);
    case LINK: return symlink(second, first);
    case BIND: return bind_tree(first, second, number[0]);
    case ATTACH:
        if (number[0] >= (uint64_t)message_fd_count)
            return -1;
        return attach(message_fds[number[0]], first);
    case PROC: return mount("proc", first, "proc", number[0], second);
    case PIVOT: return pivot();
    case READONLY: return set_attributes(AT_FDCWD, first, 0, number[0]);
    case HOSTNAME: return sethostname(first, step->length[0]);
    case LOOPBACK: return loopback_up();
    case LISTEN: return listen_at((uint32_t)number[0], (uint16_t)number[1]);
    case WRITE: return write_file(host_proc, first, 0, 0, second, step->length[1]);
    case ASK_MAP: return ask_map();
    case GROUPS: return setgroups(0, NULL);
    case LANDLOCK: return landlock(number[0]);
    case IDENTITY: guest_uid = (uid_t)number[0]; guest_gid = (gid_t)number[1]; return 0;
    case LIMIT: return keep_limit((int)number[0], (rlim_t)number[1]);
    case SECCOMP: return keep_filter(first, step->length[0]);
    case REMOVE: return unlink(first);
    case DROP: dropping = 1; return 0;
    case PROMPT: return keep_attributes(first, step->length[0]);
    }
    errno = ENOSYS;
    return -1;
}

static void carry_out_plan(size_t size)
{
    /* ASK_MAP receives into `message`, so the plan is worked off from a copy. */
    char *plan = malloc(size);
    if (!plan)
        die();
    memcpy(plan, message, size);
    const char *at = plan + 1, *end = plan + size;
    struct record step;
    for (uint32_t index = 0; at < end; index++) {
        at = decode(at, end, &step);
        errno = 0;
        if (carry_out(&step)) {
            tell('E', index, (uint32_t)errno, -1);
            _exit(1);
        }
    }
    for (int i = 0; i < message_fd_count; i++)
        close(message_fds[i]);
    free(plan);
    if (get_ready()) {
        tell('E', UINT32_MAX, (uint32_t)errno, -1);
        _exit(1);
    }
    tell('Y', 0, 0, -1);
}

/* The launcher's first request: the namespaces, and a socket that becomes descriptor 0 of the new process 1.
 * CLONE_PARENT makes that a child of the platform, which can so wait for it. */
static void launch(size_t size)
{
    uint64_t flags;
    if (size < 9 || message_fd_count != 1)
        die();
    memcpy(&flags, message + 1, sizeof flags);
    long pid = syscall(SYS_clone, flags | CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0) /* the one who asked may be gone already */
        (void)send_to(message_fds[0], 'E', UINT32_MAX - 1, (uint32_t)errno, -1);
    if (pid == 0)
        dup2(message_fds[0], CONTROL);
    close(message_fds[0]);
    if (pid == 0) {
        close(host_mounts);
        close(host_root);
        tell('I', 0, 0, -1); /* the kernel adds our pid as the platform sees it */
        if (getpid() != 1) { /* a plan without a pid namespace must not be */
            tell('E', UINT32_MAX - 1, EPERM, -1);
            _exit(1);
        }
    }
}

/* The launcher's other request: mounts for a sandbox that is there already, as steps `bind` and `attach`. The first
 * descriptor is its mount namespace. Sources are looked up here, on the host; targets there. */
static void furnish(size_t size)
{
    enum { MOST = 2 * MAX_FDS };
    int trees[MOST], count = 0, done = 0, failed = 0;
    const char *targets[MOST], *at = message + 1, *end = message + size;
    struct record step;
    if (message_fd_count < 1)
        die();
    while (at < end && !failed) {
        at = decode(at, end, &step);
        if (count == MOST || (step.op != BIND && (step.op != ATTACH || step.number[0] >= (uint64_t)message_fd_count)))
            die();
        targets[count] = step.op == BIND ? step.text[1] : step.text[0];
        trees[count] = step.op == BIND ? copy_tree(step.text[0], step.number[0])
                                       : fcntl(message_fds[step.number[0]], F_DUPFD_CLOEXEC, 3);
        if (trees[count] < 0)
            failed = errno;
        else
            count++;
    }
    if (!failed && setns(message_fds[0], CLONE_NEWNS) == 0) {
        while (done < count && attach(trees[done], targets[done]) == 0)
            done++;
        failed = done < count ? errno : 0;
        if (setns(host_mounts, CLONE_NEWNS) || fchdir(host_root) || chroot("."))
            die(); /* a launcher elsewhere is no use */
    } else if (!failed) {
        failed = errno;
    }
    for (int i = 0; i < count; i++)
        close(trees[i]);
    for (int i = 0; i < message_fd_count; i++)
        close(message_fds[i]);
    tell(failed ? 'E' : 'Y', (uint32_t)(failed && done < count ? done : count), (uint32_t)failed, -1);
}

/* Descriptors of the guests' cgroups, each described by a letter. */
static void take_groups(size_t size)
{
    for (int i = 0; i < message_fd_count && (size_t)i + 1 < size; i++)
        switch (message[i + 1]) {
        case 'd': group_fd = message_fds[i]; break;
        case 'f': freezer_fd = message_fds[i]; break;
        case 't':
            if (task_fd_count < MAX_GROUPS) {
                task_fds[task_fd_count++] = message_fds[i];
                break;
            } /* fall through */
        default: close(message_fds[i]);
        }
}

static int take_identity(void)
{
    return setresgid(guest_gid, guest_gid, guest_gid) || setresuid(guest_uid, guest_uid, guest_uid) ? -1 : 0;
}

static int drop_privileges(void)
{
    struct __user_cap_header_struct version = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = { { 0 } };
    unsigned long locked = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED
        | SECBIT_KEEP_CAPS_LOCKED | (1u << 6) | (1u << 7); /* NO_CAP_AMBIENT_RAISE and its lock */
    if (prctl(PR_SET_SECUREBITS, locked))
        return -1;
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability))
            return -1;
    return syscall(SYS_capset, &version, none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -1 : 0;
}

static int enter_filter(void)
{
    return filter.code ? (int)syscall(SYS_seccomp, NR_seccomp_set_filter, 0, &filter) : 0;
}

static int enter_limits(void)
{
    for (int i = 0; i < limit_count; i++) {
        struct rlimit now, limit = { limits[i].value, limits[i].value };
        if (getrlimit(limits[i].resource, &now))
            return -1;
        if (limit.rlim_cur > now.rlim_max) /* raising needs a capability that root in a container may lack */
            limit.rlim_cur = limit.rlim_max = now.rlim_max;
        if (setrlimit(limits[i].resource, &limit))
            return -1;
    }
    return 0;
}

static const char *next_text(const char **at, const char *end)
{
    const char *text = *at, *zero = memchr(text, 0, (size_t)(end - text));
    if (!zero)
        die();
    *at = zero + 1;
    return text;
}

/* In the child: everything up to exec. What fails before is the host's fault, a failing exec is the guest's. */
static void become_guest(uint32_t token, const char *cwd, char **argv, char **environment)
{
    sigset_t none;
    sigemptyset(&none);
    for (int i = 0; i < task_fd_count; i++)
        if (write(task_fds[i], "0", 1) != 1)
            goto failed;
    umask(022);
    if (setsid() < 0 || dup2(message_fds[0], 1) < 0 || dup2(message_fds[0], 2) < 0)
        goto failed;
    if (unshare(0x02000000) && errno != EINVAL) /* CLONE_NEWCGROUP, which a kernel may lack */
        goto failed;
    if (attributes_size) /* a kernel that does not know them refuses, or takes no notice */
        syscall(SYS_sched_setattr, 0, attributes, 0u);
    if (enter_limits() || sigprocmask(SIG_SETMASK, &none, NULL) || take_identity()
        || (dropping && drop_privileges()) || enter_filter())
        goto failed;
    tell('S', token, 0, -1);
    int status = 126;
    /* Before the working folder is entered: /proc/self/fd must not lead out of the root (CVE-2024-21626). */
    dup2(message_fd_count > 1 ? message_fds[1] : dev_null, 0);
    syscall(NR_close_range, 3u, ~0u, 0u);
    if (chdir(cwd) == 0) {
        execve(argv[0], argv, environment);
        status = errno == ENOENT || errno == ENOTDIR ? 127 : 126;
        cwd = argv[0];
    }
    dprintf(2, "%s: %s\n", cwd, strerror(errno));
    _exit(status);
failed:
    tell('F', token, (uint32_t)errno, -1);
    _exit(1);
}

static pid_t fork_into_group(uint32_t token)
{
    uint64_t arguments[11] = { 0 }; /* struct clone_args; 4: exit_signal, 10: cgroup */
    arguments[4] = SIGCHLD;
    if (group_fd < 0)
        return fork();
    arguments[0] = 0x200000000ull; /* CLONE_INTO_CGROUP */
    arguments[10] = (uint64_t)group_fd;
    pid_t pid = (pid_t)syscall(NR_clone3, arguments, sizeof arguments);
    if (pid >= 0 || errno != ENOSYS)
        return pid;
    pid = fork();
    if (pid == 0 && write_file(group_fd, "cgroup.procs", 0, 0, "0", 1)) {
        tell('F', token, (uint32_t)errno, -1);
        _exit(1);
    }
    return pid;
}

/* token, counts of arguments and variables, then cwd, arguments and variables as zero-terminated texts. The first
 * descriptor becomes output and errors, a second one the input. */
static void run(size_t size)
{
    uint32_t head[3], slot = 0;
    const char *at = message + 1 + sizeof head, *end = message + size;
    if (size < 1 + sizeof head || message_fd_count < 1 || message_fd_count > 2)
        die();
    memcpy(head, message + 1, sizeof head);
    while (slot < MAX_RUNNING && running[slot].pid)
        slot++;
    const char *cwd = next_text(&at, end);
    char **texts = calloc((size_t)head[1] + head[2] + 2, sizeof *texts);
    if (slot == MAX_RUNNING || !texts) {
        tell('F', head[0], slot == MAX_RUNNING ? EAGAIN : ENOMEM, -1);
    } else {
        for (uint32_t i = 0; i < head[1]; i++)
            texts[i] = (char *)next_text(&at, end);
        for (uint32_t i = 0; i < head[2]; i++)
            texts[head[1] + 1 + i] = (char *)next_text(&at, end);
        pid_t pid = fork_into_group(head[0]);
        if (pid == 0)
            become_guest(head[0], cwd, texts, texts + head[1] + 1);
        if (pid < 0) {
            tell('F', head[0], (uint32_t)errno, -1);
        } else {
            running[slot].pid = pid;
            running[slot].token = head[0];
        }
    }
    free(texts);
    for (int i = 0; i < message_fd_count; i++)
        close(message_fds[i]);
}

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
        for (int i = 0; i < MAX_RUNNING; i++)
            if (running[i].pid == pid) {
                running[i].pid = 0;
                tell('X', running[i].token, (uint32_t)status, -1);
            }
    if (ending && pid < 0 && errno == ECHILD) {
        ending = 0;
        tell('Z', 0, 0, -1);
    }
}

static void signal_one(void)
{
    uint32_t token_and_signal[2];
    memcpy(token_and_signal, message + 1, sizeof token_and_signal);
    for (int i = 0; i < MAX_RUNNING; i++)
        if (running[i].pid && running[i].token == token_and_signal[0])
            // To its first thread. Of one that is about to leave the freezer the kernel thinks that it has a signal
            // already, and gives one for the whole process to another thread: then Python's handlers do not run.
            // Not SIGKILL, which is for all: a first thread that has ended before the others does not take it.
            if (token_and_signal[1] == SIGKILL)
                kill(running[i].pid, SIGKILL);
            else
                syscall(SYS_tgkill, running[i].pid, running[i].pid, (int)token_and_signal[1]);
}

static void serve(size_t size)
{
    if (strchr("KFT", message[0]) && getpid() != 1)
        die(); /* elsewhere -1 would be everybody on this host */
    switch (message[0]) {
    case 'N': launch(size); break;
    case 'A': furnish(size); break;
    case 'P': carry_out_plan(size); break;
    case 'C': take_groups(size); break;
    case 'R': run(size); break;
    case 'G': if (size >= 9) signal_one(); break;
    case 'K': /* in a pid namespace -1 is everybody but us, and no fork slips through */
        kill(-1, SIGKILL);
        tell('k', 0, 0, -1);
        ending = 1;
        reap();
        break;
    case 'F': kill(-1, SIGSTOP); break;
    case 'T': kill(-1, SIGCONT); break;
    default: die();
    }
}

/* Also the two that the C library keeps to itself: whoever started the platform may have ignored them. */
static void default_signals(void)
{
    uint64_t action[4] = { 0 }; /* the kernel's struct sigaction */
    for (int signum = 1; signum <= 64; signum++)
        syscall(SYS_rt_sigaction, signum, action, NULL, 8);
}

int main(void)
{
    umask(0);
    default_signals();
    syscall(NR_close_range, 3u, ~0u, 0u);
    host_proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC); /* the host's, for steps before the guests' own */
    host_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC); /* these two are the launcher's own */
    host_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (;;) {
        struct pollfd sources[2] = { { CONTROL, POLLIN, 0 }, { signals, POLLIN, 0 } };
        if (poll(sources, signals < 0 ? 1 : 2, -1) < 0 && errno != EINTR)
            die();
        if (sources[1].revents & POLLIN) {
            struct signalfd_siginfo ignored;
            while (read(signals, &ignored, sizeof ignored) > 0) { }
            reap();
        }
        if (sources[0].revents)
            serve(hear());
    }
}
