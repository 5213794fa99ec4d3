// HTTP/1.1 load on loopback. usage: generator PORT PATH CONTENT_TYPE BODYFILE RATE SECONDS
// DEADLINE_MS [SEED] [EXTRA_HEADER] Prints one JSON line.
// RATE > 0: open loop, Poisson arrivals, latency counted from the scheduled arrival. A request that
// finds no idle connection opens one (up to MAXC), else waits in the client's own list.
// RATE < 0: closed loop, -RATE users who ask again as soon as they are answered.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#define MAXC 4000
typedef struct {
  int fd, busy;
  double t0;
  size_t sent, got, need;
  int chunked;
  char tail[5]; // the last bytes that came
  char buf[16384];
} conn;
static conn *c;
static int nc, idle[MAXC], nidle, ep;
static char *req;
static size_t reqlen;
static struct sockaddr_in to;
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static double *pend;
static long ph, pt, pcap;
static double *lat;
static int *code;
static long nd, broken, dcap, sched;
static int closed;
static double stop;
static void arm(int i, uint32_t ev) {
  struct epoll_event e = {.events = ev, .data.u32 = i};
  epoll_ctl(ep, EPOLL_CTL_MOD, c[i].fd, &e);
}
static int open1(int i) {
  int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
    close(fd);
    return -1;
  }
  c[i].fd = fd;
  struct epoll_event e = {.events = EPOLLOUT, .data.u32 = i};
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  return 0;
}
static void done(int i, int status, int keep) {
  if (nd < dcap) {
    lat[nd] = now() - c[i].t0;
    code[nd++] = status;
  }
  c[i].busy = 0;
  if (!keep) {
    close(c[i].fd);
    c[i].fd = -1;
  }
  idle[nidle++] = i;
  if (closed && now() < stop && sched < pcap) {
    pend[pt++] = now();
    sched++;
  }
}
static void push(int i) {
  while (c[i].sent < reqlen) {
    ssize_t n = write(c[i].fd, req + c[i].sent, reqlen - c[i].sent);
    if (n < 0) {
      if (errno == EAGAIN) {
        arm(i, EPOLLOUT | EPOLLIN);
        return;
      }
      broken++;
      done(i, 0, 0);
      return;
    }
    c[i].sent += n;
  }
  arm(i, EPOLLIN);
}
static void keep_tail(char *tail, const char *data, size_t n) {
  if (n < 5)
    memmove(tail, tail + n, 5 - n);
  else
    data += n - 5, n = 5;
  memcpy(tail + 5 - n, data, n);
}
static void pull(int i) {
  for (;;) {
    char *data = c[i].buf + (c[i].got < 8000 ? c[i].got : 8000);
    ssize_t n = read(c[i].fd, data, 8000);
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0) {
      broken++;
      done(i, 0, 0);
      return;
    }
    c[i].got += n;
    keep_tail(c[i].tail, data, n);
    if (!c[i].need) {
      c[i].buf[c[i].got < 16000 ? c[i].got : 16000] = 0;
      char *h = strstr(c[i].buf, "\r\n\r\n");
      if (!h)
        continue;
      char *l = strcasestr(c[i].buf, "content-length:");
      c[i].need = (h + 4 - c[i].buf) + (l && l < h ? strtoul(l + 15, 0, 10) : 0);
      char *t = strcasestr(c[i].buf, "transfer-encoding: chunked");
      c[i].chunked = t && t < h;
    }
    if (c[i].chunked ? !memcmp(c[i].tail, "0\r\n\r\n", 5) : c[i].got >= c[i].need) {
      int s = atoi(c[i].buf + 9);
      char *k = strcasestr(c[i].buf, "connection: close");
      done(i, s, !k);
      return;
    }
  }
}
static int start(double t0) {
  int i;
  if (nidle)
    i = idle[--nidle];
  else if (nc < MAXC) {
    i = nc++;
    c[i].fd = -1;
  } else
    return 0;
  c[i].busy = 1;
  c[i].t0 = t0;
  c[i].sent = c[i].got = c[i].need = 0;
  memset(c[i].tail, 0, sizeof c[i].tail);
  if (c[i].fd < 0) {
    if (open1(i)) {
      broken++;
      done(i, 0, 0);
    }
  } else
    push(i);
  return 1;
}
static int cmp(const void *a, const void *b) {
  double x = *(double *)a, y = *(double *)b;
  return (x > y) - (x < y);
}
int main(int n, char **a) {
  if (n < 8)
    return fprintf(stderr, "usage: generator PORT PATH CONTENT_TYPE BODYFILE RATE SECONDS "
                           "DEADLINE_MS [SEED] [HEADER]\n"),
           2;
  FILE *f = fopen(a[4], "rb");
  fseek(f, 0, SEEK_END);
  long bl = ftell(f);
  rewind(f);
  req = malloc(bl + 2048);
  reqlen = sprintf(
      req,
      "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: %ld\r\n%s%s\r\n",
      a[2], a[3], bl, n > 9 ? a[9] : "", n > 9 ? "\r\n" : "");
  reqlen += fread(req + reqlen, 1, bl, f);
  double rate = atof(a[5]), secs = atof(a[6]), dl = atof(a[7]) / 1e3;
  srand48(n > 8 ? atol(a[8]) : 1);
  to.sin_family = AF_INET;
  to.sin_port = htons(atoi(a[1]));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c = calloc(MAXC, sizeof *c);
  ep = epoll_create1(0);
  closed = rate < 0 ? -rate : 0;
  dcap = pcap = (closed ? 20000 : rate) * secs * 1.5 + 1000;
  lat = malloc(8 * dcap);
  code = malloc(4 * dcap);
  pend = malloc(8 * pcap);
  double t = now(), begin = t, next = t;
  stop = begin + secs;
  for (; closed && sched < closed; sched++)
    pend[pt++] = begin;
  struct epoll_event ev[256];
  while (now() < begin + secs || (nd < sched && now() < begin + secs + 3 * dl + 2)) {
    double w = now();
    while (!closed && next <= w && next < begin + secs) {
      if (sched < pcap) {
        pend[pt++] = next;
        sched++;
      }
      next += -log(1 - drand48()) / rate;
    }
    while (ph < pt && start(pend[ph]))
      ph++;
    double wait = !closed && next < begin + secs ? next - now() : 5e-3;
    if (wait < 0)
      wait = 0;
    if (wait > 5e-3)
      wait = 5e-3;
    struct timespec ts = {0, (long)(wait * 1e9)};
    int k = epoll_pwait2(ep, ev, 256, &ts, NULL);
    for (int j = 0; j < k; j++) {
      int i = ev[j].data.u32;
      if (!c[i].busy) {
        char z[256];
        if (c[i].fd >= 0 && read(c[i].fd, z, 256) == 0) {
          close(c[i].fd);
          c[i].fd = -1;
        }
        continue;
      }
      if (c[i].sent < reqlen)
        push(i);
      if (c[i].busy && (ev[j].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        pull(i);
    }
  }
  long ok = 0, good = 0, s429 = 0, s503 = 0, s504 = 0, s5 = 0, oth = 0;
  double *ol = malloc(8 * (nd + 1)), *rl = malloc(8 * (nd + 1));
  long no = 0, nr = 0;
  for (long i = 0; i < nd; i++) {
    if (code[i] / 100 == 2) {
      ok++;
      ol[no++] = lat[i];
      good += lat[i] <= dl;
    } else if (code[i]) {
      rl[nr++] = lat[i];
      if (code[i] == 429)
        s429++;
      else if (code[i] == 503)
        s503++;
      else if (code[i] == 504)
        s504++;
      else if (code[i] / 100 == 5)
        s5++;
      else
        oth++;
    }
  }
  qsort(ol, no, 8, cmp);
  qsort(rl, nr, 8, cmp);
#define P(v, m, q) (m ? v[(long)((m - 1) * q)] * 1e3 : 0)
  struct rusage ru;
  getrusage(RUSAGE_SELF, &ru);
  double cpu =
      ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1e-6;
  printf("{\"rate\":%.0f,\"sent\":%ld,\"answered\":%ld,\"ok\":%ld,\"goodput_rps\":%.1f,\"ok_p50_"
         "ms\":%.3f,\"ok_p95_ms\":%.3f,\"ok_p99_ms\":%.3f,\"429\":%ld,\"503\":%ld,\"504\":%ld,\"5xx\":%ld,\"other\":%"
         "ld,\"refused_p50_ms\":%.1f,\"refused_p99_ms\":%.1f,\"broken\":%ld,\"unanswered\":%ld,"
         "\"connections\":%d,\"generator_cores\":%.2f}\n",
         rate, sched, nd, ok, good / secs, P(ol, no, .5), P(ol, no, .95), P(ol, no, .99), s429, s503, s504, s5, oth,
         P(rl, nr, .5), P(rl, nr, .99), broken, sched - nd, nc, cpu / secs);
  return 0;
}
