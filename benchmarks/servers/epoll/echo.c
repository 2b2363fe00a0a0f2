// The practical limit: one thread, level-triggered epoll, no library between
// the loop and the kernel. Usage: epoll -net tcp|unix|udp -addr ADDR
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK = 64 << 10, EVENTS = 256, BATCH = 64, DATAGRAM = 2048 };

// A connection owns memory only while the kernel refuses its output.
struct conn {
    int fd;
    char *pending;
    size_t len, off;
};

static int ep;
static char chunk[CHUNK];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int op, int fd, unsigned events, void *ptr) {
    struct epoll_event ev = {.events = events, .data.ptr = ptr};
    if (epoll_ctl(ep, op, fd, &ev) != 0)
        die("epoll_ctl");
}

static void drop(struct conn *c) {
    close(c->fd);
    free(c->pending);
    free(c);
}

// keep stores what the kernel did not take and stops reading until it does.
static void keep(struct conn *c, const char *p, size_t n) {
    c->pending = malloc(n);
    if (c->pending == NULL)
        die("malloc");
    memcpy(c->pending, p, n);
    c->len = n;
    c->off = 0;
    watch(EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
}

static void on_writable(struct conn *c) {
    ssize_t n = send(c->fd, c->pending + c->off, c->len - c->off, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN)
            drop(c);
        return;
    }
    c->off += n;
    if (c->off < c->len)
        return;
    free(c->pending);
    c->pending = NULL;
    watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void on_readable(struct conn *c) {
    ssize_t n = recv(c->fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(c);
        return;
    }
    ssize_t w = send(c->fd, chunk, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (w < 0 && errno != EAGAIN)
        drop(c);
    else if (w < n)
        keep(c, chunk + (w > 0 ? w : 0), n - (w > 0 ? w : 0));
}

static void on_connection(int listener, int tcp) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    int one = 1;
    if (tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        die("calloc");
    c->fd = fd;
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
}

static void echo_streams(int listener, int tcp) {
    struct epoll_event events[EVENTS];
    if (listen(listener, 4096) != 0)
        die("listen");
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int n = epoll_wait(ep, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == NULL)
                on_connection(listener, tcp);
            else if (c->pending != NULL)
                on_writable(c);
            else
                on_readable(c);
        }
    }
}

static struct mmsghdr msgs[BATCH];
static struct iovec iov[BATCH];

static void prepare_batch(void) {
    static char data[BATCH][DATAGRAM];
    static struct sockaddr_storage peers[BATCH];
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){data[i], DATAGRAM};
        msgs[i].msg_hdr = (struct msghdr){
            .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &iov[i], .msg_iovlen = 1};
    }
}

// echo_batch answers up to BATCH datagrams with two system calls. What the
// kernel does not take is lost, as datagrams are.
static void echo_batch(int fd) {
    int n = recvmmsg(fd, msgs, BATCH, MSG_DONTWAIT, NULL);
    if (n <= 0)
        return;
    for (int i = 0; i < n; i++)
        iov[i].iov_len = msgs[i].msg_len;
    sendmmsg(fd, msgs, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    for (int i = 0; i < n; i++) {
        iov[i].iov_len = DATAGRAM;
        msgs[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_storage);
    }
}

static void echo_datagrams(int fd) {
    struct epoll_event ev;
    prepare_batch();
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, NULL);
    for (;;)
        if (epoll_wait(ep, &ev, 1, -1) == 1)
            echo_batch(fd);
}

static int open_unix(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strncpy(a.sun_path, path, sizeof a.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0)
        die(path);
    return fd;
}

static int open_inet(char *addr, int type) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    char *colon = strrchr(addr, ':');
    if (colon == NULL)
        exit(2);
    *colon = 0;
    a.sin_port = htons(atoi(colon + 1));
    if (inet_pton(AF_INET, addr, &a.sin_addr) != 1)
        exit(2);
    int one = 1, fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0)
        die(addr);
    return fd;
}

int main(int argc, char **argv) {
    const char *net = "tcp";
    char *addr = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "-net") == 0)
            net = argv[i + 1];
        else if (strcmp(argv[i], "-addr") == 0)
            addr = argv[i + 1];
    }
    if (addr == NULL)
        return 2;
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (strcmp(net, "udp") == 0)
        echo_datagrams(open_inet(addr, SOCK_DGRAM));
    else if (strcmp(net, "unix") == 0)
        echo_streams(open_unix(addr), 0);
    else
        echo_streams(open_inet(addr, SOCK_STREAM), 1);
}
