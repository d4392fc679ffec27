// Two workers with an event loop of libevent, in functions named as Envoy's are, and a client over loopback
// TCP: `--count N` requests in all, with `--seed N`. A worker sleeps in its loop's epoll_wait and is woken by the
// client's write; the client sleeps in read and is woken by the write of a worker's connection.
//
// A wait of a worker is taken to last from the end of the callback before it, as libevent does not say when
// it goes to sleep: some microseconds more than the truth.

#include "oracle.h"

#include <event2/event.h>
#include <functional>
#include <memory>
#include <netinet/in.h>
#include <sys/socket.h>

// Neither inlined nor cloned nor merged: under its own name in every stack.
#define NOINLINE __attribute__((noipa))
// At the end of a function: what it called was no tail call.
#define STAY(name) asm volatile("" ::"r"(name))

// A request: which wait of the client the reply ends, and 0 for the last one.
struct Request {
  uint64_t wait, more;
};

namespace Envoy {
namespace Event {

class Dispatcher {
public:
  enum class RunType { Block, NonBlock, RunUntilExit };
};

class FileEventImpl {
public:
  using FileReadyCb = std::function<void(uint32_t)>;

  FileEventImpl(event_base* base, int fd, FileReadyCb cb) : cb_(std::move(cb)), fd_(fd) {
    assignEvents(EV_READ | EV_PERSIST, base);
  }
  ~FileEventImpl() { event_free(raw_event_); }

private:
  NOINLINE void assignEvents(uint32_t events, event_base* base) {
    raw_event_ = event_new(
        base, fd_, events,
        [](evutil_socket_t, short what, void* arg) -> void {
          static_cast<FileEventImpl*>(arg)->mergeInjectedEventsAndRunCb(what);
          STAY("lambda");
        },
        this);
    event_add(raw_event_, nullptr);
  }
  NOINLINE void mergeInjectedEventsAndRunCb(uint32_t events) {
    cb_(events);
    STAY("mergeInjectedEventsAndRunCb");
  }

  FileReadyCb cb_;
  const int fd_;
  event* raw_event_ = nullptr;
};

class LibeventScheduler {
public:
  LibeventScheduler() : base_(event_base_new()) {}
  NOINLINE void run(Dispatcher::RunType mode) {
    event_base_loop(base_, mode == Dispatcher::RunType::NonBlock ? EVLOOP_NONBLOCK : 0);
    STAY("LibeventScheduler::run");
  }
  void loopExit() { event_base_loopbreak(base_); }
  event_base& base() { return *base_; }

private:
  event_base* const base_;
};

class DispatcherImpl : public Dispatcher {
public:
  NOINLINE void run(RunType type) {
    scheduler_.run(type);
    STAY("DispatcherImpl::run");
  }
  void exit() { scheduler_.loopExit(); }
  event_base& base() { return scheduler_.base(); }

private:
  LibeventScheduler scheduler_;
};

} // namespace Event

namespace Network {

class ConnectionImpl {
public:
  using OnRequest = std::function<void(const Request&)>;

  ConnectionImpl(Event::DispatcherImpl& dispatcher, int fd, std::function<void()> before, OnRequest on_request)
      : fd_(fd), on_request_(std::move(on_request)), before_(std::move(before)),
        file_event_(&dispatcher.base(), fd, [this](uint32_t events) { onFileEvent(events); }) {}

  NOINLINE void write(const Request& request) {
    if (::write(fd_, &request, sizeof request) != sizeof request) oracle::fail("write");
    STAY("ConnectionImpl::write");
  }

private:
  NOINLINE void onFileEvent(uint32_t events) {
    if (events & EV_READ) onReadReady();
    STAY("ConnectionImpl::onFileEvent");
  }
  NOINLINE void onReadReady() {
    before_();
    Request request;
    if (read(fd_, &request, sizeof request) != sizeof request) oracle::fail("read");
    on_request_(request);
    STAY("ConnectionImpl::onReadReady");
  }

  const int fd_;
  OnRequest on_request_;
  std::function<void()> before_;
  Event::FileEventImpl file_event_;
};

} // namespace Network

namespace Http {

// What a worker does with a request.
class ConnectionManagerImpl {
public:
  ConnectionManagerImpl(oracle::Role& client, oracle::Ledger& replies, uint64_t seed)
      : client_(client), replies_(replies), rng_(seed) {}
  NOINLINE void onData(Network::ConnectionImpl& connection, const Request& request) {
    oracle::busy(rng_.micros(300, 2500));
    client_.await_asleep(request.wait);
    replies_.wake();
    connection.write(request);
    STAY("ConnectionManagerImpl::onData");
  }

private:
  oracle::Role& client_;
  oracle::Ledger& replies_;
  oracle::Rng rng_;
};

} // namespace Http

namespace Server {

class GuardDog {};

class WorkerImpl {
public:
  WorkerImpl(int index, const std::vector<int>& connections, oracle::Role& client, uint64_t seed)
      : role("wrk:worker_" + std::to_string(index)), manager_(client, replies, seed) {
    for (int fd : connections) {
      const size_t i = connections_.size();
      connections_.push_back(std::make_unique<Network::ConnectionImpl>(
          dispatcher_, fd, [this] { requests.slept(); },
          [this, i](const Request& request) {
            manager_.onData(*connections_[i], request);
            if (request.more) {
              role.announce();
              requests.sleep();
            } else {
              dispatcher_.exit();
            }
          }));
    }
  }

  NOINLINE void threadRoutine(GuardDog&, const std::function<void()>& cb) {
    cb();
    role.announce();
    requests.sleep();
    dispatcher_.run(Event::Dispatcher::RunType::Block);
    STAY("WorkerImpl::threadRoutine");
  }

  oracle::Role role;
  oracle::Ledger requests, replies;

private:
  Event::DispatcherImpl dispatcher_;
  Http::ConnectionManagerImpl manager_;
  std::vector<std::unique_ptr<Network::ConnectionImpl>> connections_;
};

} // namespace Server
} // namespace Envoy

namespace Downstream {

NOINLINE void sendRequest(int fd, const Request& request) {
  if (write(fd, &request, sizeof request) != sizeof request) oracle::fail("write");
  STAY("sendRequest");
}

NOINLINE void awaitReply(int fd) {
  Request reply;
  if (read(fd, &reply, sizeof reply) != sizeof reply) oracle::fail("read");
  STAY("awaitReply");
}

// The two functions above call libc themselves, and may be lost to a walk by frame pointers: these are not.
NOINLINE void request(int fd, const Request& request) {
  sendRequest(fd, request);
  STAY("request");
}

NOINLINE void reply(int fd) {
  awaitReply(fd);
  STAY("reply");
}

} // namespace Downstream

namespace {

constexpr int Workers = 2, Connections = 3;

// `count` pairs of connected sockets: the server's ends and the client's.
std::pair<std::vector<int>, std::vector<int>> connect_pairs(int count) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, any, size) != 0 || listen(listener, count) != 0 || getsockname(listener, any, &size) != 0) {
    oracle::fail("no port of loopback to listen on");
  }
  std::pair<std::vector<int>, std::vector<int>> pairs;
  for (int i = 0; i < count; ++i) {
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(client, any, size) != 0) oracle::fail("connect");
    const int server = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (server < 0) oracle::fail("accept");
    pairs.first.push_back(server);
    pairs.second.push_back(client);
  }
  close(listener);
  return pairs;
}

} // namespace

int main(int argc, char** argv) {
  uint64_t count = 500, seed = 1;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    const uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], nullptr, 10) : 0;
    if (value != 0 && option == "--count") {
      count = value;
    } else if (value != 0 && option == "--seed") {
      seed = value;
    } else {
      fprintf(stderr, "usage: %s [--count N] [--seed N]\n", argv[0]);
      return 2;
    }
  }

  oracle::Role downstream("downstream");
  oracle::Stage stage;
  Envoy::Server::GuardDog guard_dog;
  std::vector<std::unique_ptr<Envoy::Server::WorkerImpl>> workers;
  std::vector<std::vector<int>> clients;
  for (int i = 0; i < Workers; ++i) {
    const auto [server, client] = connect_pairs(Connections);
    workers.push_back(std::make_unique<Envoy::Server::WorkerImpl>(i, server, downstream, seed + 1 + i));
    clients.push_back(client);
    auto& worker = *workers.back();
    stage.thread(worker.role, [&worker, &guard_dog] { worker.threadRoutine(guard_dog, [] {}); });
  }
  stage.thread(downstream, [&] {
    oracle::Rng rng(seed);
    // The first wait that a thread announces is that at the start gate.
    uint64_t waits[Workers] = {1, 1};
    const auto exchange = [&](size_t i, bool more) {
      auto& worker = *workers[i];
      const int fd = clients[i][rng.next() % Connections];
      worker.role.await_asleep(++waits[i]);
      oracle::pause(rng.micros(200, 2000));
      worker.requests.wake();
      Downstream::request(fd, {downstream.announced() + 1, more});
      downstream.announce();
      worker.replies.sleep();
      Downstream::reply(fd);
      worker.replies.slept();
    };
    for (uint64_t i = Workers; i < count; ++i) exchange(rng.next() % Workers, true);
    for (size_t i = 0; i < Workers; ++i) exchange(i, false);
  });
  stage.perform();

  const char* routine =
      "Envoy::Server::WorkerImpl::threadRoutine(Envoy::Server::GuardDog&, std::function<void ()> const&)";
  const char* on_data =
      "Envoy::Http::ConnectionManagerImpl::onData(Envoy::Network::ConnectionImpl&, Request const&)";
  const char* request = "Downstream::request(int, Request const&)";
  for (const auto& worker : workers) {
    stage.tell(worker->requests, "epoll_wait", worker->role, routine, downstream, request);
    stage.tell(worker->replies, "read", downstream, "Downstream::reply(int)", worker->role, on_data);
  }
  stage.finish();
}
