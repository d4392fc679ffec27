// The protocol of the targets (see ../src/lib.rs) for one in C++.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace oracle {

[[noreturn]] inline void fail(const std::string& what) {
  perror(what.c_str());
  _exit(1);
}

inline uint64_t read_clock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return uint64_t(time.tv_sec) * 1000000000 + time.tv_nsec;
}

// CLOCK_MONOTONIC in ns.
inline uint64_t now() { return read_clock(CLOCK_MONOTONIC); }

inline void pause(uint64_t ns) {
  timespec time{time_t(ns / 1000000000), long(ns % 1000000000)};
  nanosleep(&time, nullptr);
}

inline void busy(uint64_t ns) {
  for (uint64_t end = now() + ns; now() < end;) {
  }
}

// SplitMix64, as in ../src/rng.rs.
class Rng {
public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // A duration between `low` and `high` µs, in ns.
  uint64_t micros(uint64_t low, uint64_t high) { return low * 1000 + next() % ((high - low) * 1000); }

private:
  uint64_t state_;
};

// The sums over all waits of one kind: see ../src/ledger.rs.
struct Ledger {
  std::atomic<uint64_t> sleeps{0}, wakes{0}, slept_at{0}, woke_at{0}, off{0};
  uint64_t since = 0, on_cpu = 0;

  void sleep() {
    on_cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
    since = now();
    slept_at += since;
  }
  void slept() {
    const uint64_t time = now() - since;
    off += time - (read_clock(CLOCK_THREAD_CPUTIME_ID) - on_cpu);
    ++sleeps;
  }
  void wake() {
    ++wakes;
    woke_at += now();
  }
};

// What the kernel counts for a thread.
struct Usage {
  uint64_t wall, on_cpu, run_delay, voluntary, involuntary;
};

// A thread of the play.
class Role {
public:
  explicit Role(std::string comm) : comm_(std::move(comm)) {}

  void assume() {
    prctl(PR_SET_NAME, comm_.c_str());
    tid_ = gettid();
  }

  // Tells wakers that the calling thread, whose role this is, goes to sleep in its next system call.
  void announce() {
    rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    switches_ = usage.ru_nvcsw;
    ++announced_;
  }
  uint64_t announced() const { return announced_; }

  // Returns once the thread sleeps in the `n`th wait (from 1) that it announced.
  void await_asleep(uint64_t n) const {
    while (announced_ < n) {
    }
    while (usage().voluntary <= switches_) {
    }
  }

  Usage usage() const {
    const std::string dir = "/proc/self/task/" + std::to_string(tid_);
    Usage usage{now(), 0, 0, 0, 0};
    std::ifstream schedstat(dir + "/schedstat"), status(dir + "/status");
    schedstat >> usage.on_cpu >> usage.run_delay;
    for (std::string line; std::getline(status, line);) {
      sscanf(line.c_str(), "voluntary_ctxt_switches: %lu", &usage.voluntary);
      sscanf(line.c_str(), "nonvoluntary_ctxt_switches: %lu", &usage.involuntary);
    }
    return usage;
  }

  // Names here need no escapes.
  std::string json() const {
    return "\"pid\":" + std::to_string(getpid()) + ",\"tid\":" + std::to_string(tid_) + ",\"comm\":\"" + comm_ + "\"";
  }

private:
  const std::string comm_;
  std::atomic<pid_t> tid_{0};
  std::atomic<uint64_t> switches_{0}, announced_{0};
};

// Where threads wait before and after the play.
class Gate {
public:
  Gate() {
    if (pipe(fds_) != 0) fail("pipe");
  }
  __attribute__((noinline)) void pass() {
    char byte;
    while (read(fds_[0], &byte, 1) != 1) {
    }
  }
  void let_pass(size_t n) {
    const std::string bytes(n, 0);
    if (write(fds_[1], bytes.data(), n) != ssize_t(n)) fail("write");
  }

private:
  int fds_[2];
};

__attribute__((noinline)) inline void wait_for_line() {
  for (int byte = getchar(); byte != '\n' && byte != EOF; byte = getchar()) {
  }
}

// Starts threads, lets them play, and tells the truth about it.
class Stage {
public:
  template <typename Part> void thread(Role& role, Part part) {
    cast_.push_back(&role);
    std::thread([this, &role, part] {
      role.assume();
      role.announce();
      start_.pass();
      part();
      role.announce();
      ++arrived_;
      end_.pass();
    }).detach();
  }

  void perform() {
    std::string threads;
    for (Role* role : cast_) {
      role->await_asleep(1);
      before_.push_back({});
      threads += (threads.empty() ? "{" : ",{") + role->json() + "}";
    }
    printf("{\"ready\":{\"pid\":%d,\"threads\":[%s]}}\n", getpid(), threads.c_str());
    fflush(stdout);
    wait_for_line();
    pause(50000000);
    for (size_t i = 0; i < cast_.size(); ++i) before_[i] = cast_[i]->usage();
    start_.let_pass(cast_.size());
    while (arrived_ < cast_.size()) pause(1000000);
    for (Role* role : cast_) {
      role->await_asleep(role->announced());
      after_.push_back(role->usage());
    }
  }

  void tell(const Ledger& ledger, const char* syscall, const Role& sleeper, const char* sleeps_in, const Role& waker,
            const char* wakes_in) {
    if (ledger.sleeps != ledger.wakes) {
      fprintf(stderr, "not as many wakes as sleeps: this target has a fault\n");
      _exit(1);
    }
    printf("{\"wait\":{\"sleeper\":{%s,\"function\":\"%s\"},\"waker\":{\"kind\":\"task\",%s,\"function\":\"%s\"},"
           "\"state\":\"interruptible\",\"syscall\":\"%s\",\"count\":%lu,\"blocked_ns\":%lu,\"off_ns\":%lu}}\n",
           sleeper.json().c_str(), sleeps_in, waker.json().c_str(), wakes_in, syscall, ledger.sleeps.load(),
           ledger.woke_at - ledger.slept_at, ledger.off.load());
  }

  [[noreturn]] void finish() {
    for (size_t i = 0; i < cast_.size(); ++i) {
      const Usage &a = before_[i], &b = after_[i];
      // Without the wait at the end gate, in which it is now.
      printf("{\"thread\":{%s,\"wall_ns\":%lu,\"on_cpu_ns\":%lu,\"run_delay_ns\":%lu,\"voluntary_switches\":%lu,"
             "\"involuntary_switches\":%lu}}\n",
             cast_[i]->json().c_str(), b.wall - a.wall, b.on_cpu - a.on_cpu, b.run_delay - a.run_delay,
             b.voluntary - a.voluntary - 1, b.involuntary - a.involuntary);
    }
    printf("{\"done\":{\"seconds\":%f}}\n", (after_.back().wall - before_.back().wall) / 1e9);
    fflush(stdout);
    wait_for_line();
    _exit(0);
  }

private:
  Gate start_, end_;
  std::vector<Role*> cast_;
  std::vector<Usage> before_, after_;
  std::atomic<size_t> arrived_{0};
};

} // namespace oracle
