// The laboratory's network: hosts as network namespaces, and the bad links between them.
// usage: switch HOSTS FILE [hold]
// Makes HOSTS namespaces, each with a tap interface eth0 whose other end is here, and carries frames between them as
// the conditions in FILE say, which benchmarks/lab/shared.py writes, also while this runs. Nothing has a name, and
// all of it belongs to this process: it goes when the process ends, which it does when its standard input is closed.
// With `hold` there are one more namespace and no interfaces: somebody else connects them, with the kernel's means.
// build: cc -O2 -o switch switch.c -lm
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <math.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kHosts = 65, kFrameBytes = 2048, kPool = 1 << 15, kReads = 64, kDown = 0, kUp = 1 };
static const uint64_t kLongestWait = 500000000;  // ns in the queue of the medium: what comes then is dropped

// What the file holds. shared.py knows these offsets.
struct Conditions {
  double delay_us, loss, burst, fade_ms, duplicate, reorder, rate_kbit, frame_us;
};
struct Counters {  // of one direction of one worker's link
  uint64_t frames, bytes, lost, duplicated, reordered, dropped;
};
struct Shared {
  uint64_t pid;  // of this process; written when the namespaces stand
  uint64_t seed;
  uint64_t sequence;                     // odd while the conditions are being written
  struct Conditions conditions[kHosts];  // of each worker's link; of host 0: the medium's, which all share
  int32_t namespaces[kHosts + 1];        // their descriptors in this process
  char rest[8192 - 24 - kHosts * sizeof(struct Conditions) - 4 * (kHosts + 1)];
  struct Counters counters[kHosts][2];  // from offset 8192: of host i, frames to it and from it
};

struct Link {
  int bad[2];  // a burst is under way, by direction
  int dead;    // a fade is under way
  uint64_t until;
};
struct Frame {
  int length;
  uint8_t data[kFrameBytes];
};
struct Entry {  // of the heap: frames by the time at which they are due, and by arrival where that is the same
  uint64_t due, number;
  uint32_t frame;
  int to;
};

static struct Shared* shared;
static struct Conditions now_are[kHosts];
static uint64_t seen;  // the sequence of `now_are`
static struct Link links[kHosts];
static struct Frame* pool;
static uint32_t unused[kPool];
static struct Entry heap[kPool];
static int n_unused, n_heap, n_hosts, taps[kHosts];
static uint64_t arrivals, medium_free, state;

static void fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// In [0, 1): splitmix64, S. Vigna, public domain.
static double uniform(void) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static uint64_t exponential_ns(double mean_ms) { return (uint64_t)(-log1p(-uniform()) * mean_ms * 1e6) + 1; }

// The mean of the times for which a link is dead, or alive.
static double fade_mean_ms(const struct Conditions* are, int dead) {
  return dead ? are->fade_ms : are->fade_ms * (1 - are->loss) / are->loss;
}

static void begin_fade_state(int i, uint64_t t) {
  const struct Conditions* are = &now_are[i];
  const int stays = are->loss >= 1 || are->loss <= 0;
  links[i].dead = uniform() < are->loss;
  links[i].until = stays ? UINT64_MAX : t + exponential_ns(fade_mean_ms(are, links[i].dead));
}

static void take_conditions(void) {
  static struct Conditions read[kHosts];
  const uint64_t sequence = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
  if (sequence == seen || sequence & 1) return;
  memcpy(read, shared->conditions, sizeof read);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&shared->sequence, __ATOMIC_RELAXED) != sequence) return;
  seen = sequence;
  const uint64_t t = now();
  for (int i = 0; i < n_hosts; i++) {
    if (!memcmp(&now_are[i], &read[i], sizeof read[i])) continue;  // the other links' bursts and fades go on
    now_are[i] = read[i];
    links[i].bad[kDown] = uniform() < read[i].loss;
    links[i].bad[kUp] = uniform() < read[i].loss;
    begin_fade_state(i, t);
  }
}

// Alternating exponential times, so the state after a long silence may be drawn anew.
static int fades(int i, uint64_t t) {
  struct Link* link = &links[i];
  if (!(now_are[i].fade_ms > 0)) return 0;
  if (link->until < t && (double)(t - link->until) > 1e8 * now_are[i].fade_ms) begin_fade_state(i, t);
  while (link->until <= t) {
    link->dead = !link->dead;
    link->until += exponential_ns(fade_mean_ms(&now_are[i], link->dead));
  }
  return link->dead;
}

// Whose link a frame crosses: between two workers that of whose loses more.
static int link_between(int from, int to) {
  if (!from || !to) return from ? from : to;
  return now_are[to].loss > now_are[from].loss ? to : from;
}

static int is_lost(int from, int to, uint64_t t) {
  if ((from && fades(from, t)) | (to && fades(to, t))) return 1;
  const int i = link_between(from, to);
  const double p = now_are[i].loss, burst = now_are[i].burst;
  if (p <= 0 || now_are[i].fade_ms > 0) return 0;
  if (burst <= 1 || p >= 1) return uniform() < p;
  int* bad = &links[i].bad[from == i ? kUp : kDown];  // Gilbert and Elliott: all is lost in the bad state
  *bad = *bad ? uniform() >= 1 / burst : uniform() < p / (1 - p) / burst;
  return *bad;
}

static int before(const struct Entry* a, const struct Entry* b) {
  return a->due != b->due ? a->due < b->due : a->number < b->number;
}

static void push(struct Entry e) {
  int i = n_heap++;
  for (; i && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
  heap[i] = e;
}

static struct Entry pop(void) {
  const struct Entry top = heap[0], last = heap[--n_heap];
  int i = 0;
  for (int child; (child = 2 * i + 1) < n_heap; i = child) {
    if (child + 1 < n_heap && before(&heap[child + 1], &heap[child])) child++;
    if (!before(&heap[child], &last)) break;
    heap[i] = heap[child];
  }
  heap[i] = last;
  return top;
}

// A host that is down, or out of memory, misses the frame, as in life.
static void deliver(int to, const uint8_t* data, int length) {
  if (write(taps[to], data, (size_t)length) < 0) return;
}

static void send_at(uint64_t due, int to, const uint8_t* data, int length, struct Counters* count) {
  if (!n_unused) {
    count->dropped++;
    return;
  }
  const uint32_t slot = unused[--n_unused];
  memcpy(pool[slot].data, data, (size_t)length);
  pool[slot].length = length;
  push((struct Entry){due, arrivals++, slot, to});
}

// One frame from host `from` to host `to`: what becomes of it.
static void carry(int from, int to, const uint8_t* data, int length) {
  const struct Conditions *medium = &now_are[0], *are = &now_are[link_between(from, to)];
  struct Counters* count = &shared->counters[from ? from : to][from ? kUp : kDown];
  const uint64_t t = now();
  uint64_t at = t;
  count->frames++;
  count->bytes += (uint64_t)length;
  if (medium->rate_kbit > 0 || medium->frame_us > 0) {
    if (medium_free < t) medium_free = t;
    if (medium_free - t > kLongestWait) {
      count->dropped++;
      return;
    }
    // A frame that will be lost occupies the medium all the same.
    medium_free += (uint64_t)(medium->frame_us * 1e3 + (medium->rate_kbit > 0 ? length * 8e6 / medium->rate_kbit : 0));
    at = medium_free;
  }
  if (is_lost(from, to, t)) {
    count->lost++;
    return;
  }
  const int copies = 1 + (are->duplicate > 0 && uniform() < are->duplicate);
  count->duplicated += (uint64_t)copies - 1;
  for (int i = 0; i < copies; i++) {
    uint64_t due = at + (uint64_t)(are->delay_us * 1e3);
    if (are->reorder > 0 && uniform() < are->reorder) {  // held back, up to a round trip and a millisecond
      due += (uint64_t)(uniform() * (2e3 * are->delay_us + 1e6));
      count->reordered++;
    }
    if (due == t && !n_heap)
      deliver(to, data, length);
    else
      send_at(due, to, data, length, count);
  }
}

// Host i has the hardware address 02:00:00:00:00:i.
static void receive(int from) {
  static uint8_t data[kFrameBytes];
  for (int k = 0; k < kReads; k++) {
    const ssize_t length = read(taps[from], data, sizeof data);
    if (length < 14) return;
    if (!(data[0] & 1)) {
      if (data[5] < n_hosts && data[5] != from) carry(from, data[5], data, (int)length);
      continue;
    }
    // To a group: the kernels of the hosts talk among themselves, which nobody measures. Late, but never lost or
    // counted.
    struct Counters nobody = {0};
    for (int to = 0; to < n_hosts; to++)
      if (to != from)
        send_at(now() + (uint64_t)(now_are[link_between(from, to)].delay_us * 1e3), to, data, (int)length, &nobody);
  }
}

static int new_namespace(int i) {
  if (unshare(CLONE_NEWNET)) fail("a network namespace cannot be made");
  const int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("/proc/self/ns/net");
  return shared->namespaces[i] = fd;
}

static int new_tap(int i) {
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), any = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || any < 0) fail("/dev/net/tun cannot be opened");
  struct ifreq name = {.ifr_name = "eth0", .ifr_flags = IFF_TAP | IFF_NO_PI}, address = {.ifr_name = "eth0"};
  if (ioctl(fd, TUNSETIFF, &name)) fail("a tap interface cannot be made");
  address.ifr_hwaddr = (struct sockaddr){.sa_family = ARPHRD_ETHER, .sa_data = {2, 0, 0, 0, 0, (char)i}};
  if (ioctl(any, SIOCSIFHWADDR, &address)) fail("a hardware address cannot be set");
  close(any);
  return fd;
}

// The network should not wait for a processor: that would be a delay nobody asked for.
static void hurry(void) {
  const struct sched_param lowest = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_FIFO, &lowest) && setpriority(PRIO_PROCESS, 0, -10)) fprintf(stderr, "no priority\n");
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

static void run(void) {
  struct pollfd waiting[kHosts + 1] = {{.fd = 0}};  // of standard input only its end counts
  for (int i = 0; i < n_hosts; i++) waiting[i + 1] = (struct pollfd){.fd = taps[i], .events = POLLIN};
  for (;;) {
    uint64_t t = now();
    while (n_heap && heap[0].due <= t) {
      const struct Entry e = pop();
      deliver(e.to, pool[e.frame].data, pool[e.frame].length);
      unused[n_unused++] = e.frame;
    }
    struct timespec left = {1, 0};
    if (n_heap) {
      t = now();
      const uint64_t ns = heap[0].due > t ? heap[0].due - t : 0;
      left = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    }
    if (ppoll(waiting, (nfds_t)n_hosts + 1, &left, NULL) < 0 && errno != EINTR) fail("ppoll");
    if (waiting[0].revents) return;
    take_conditions();
    for (int i = 0; i < n_hosts; i++)
      if (waiting[i + 1].revents) receive(i);
  }
}

int main(int argc, char** argv) {
  const int hold = argc == 4 && !strcmp(argv[3], "hold");
  if ((argc != 3 && !hold) || (n_hosts = atoi(argv[1])) < 2 || n_hosts > kHosts) {
    fprintf(stderr, "usage: switch HOSTS FILE [hold], with 2 to %d hosts\n", kHosts);
    return 2;
  }
  const int file = open(argv[2], O_RDWR | O_CLOEXEC);
  if (file < 0) fail(argv[2]);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared == MAP_FAILED) fail("mmap");
  state = shared->seed;
  for (int i = 0; i < n_hosts; i++) {
    new_namespace(i);
    if (!hold) taps[i] = new_tap(i);
  }
  if (hold) new_namespace(n_hosts);
  pool = malloc(sizeof *pool * kPool);
  if (!pool) fail("malloc");
  while (n_unused < kPool) unused[n_unused] = (uint32_t)n_unused, n_unused++;
  hurry();
  __atomic_store_n(&shared->pid, (uint64_t)getpid(), __ATOMIC_RELEASE);
  if (hold) n_hosts = 0;
  run();
  return 0;
}
