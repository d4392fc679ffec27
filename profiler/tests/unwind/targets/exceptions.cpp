// Threads that sleep while an exception flies, and in what the library offers for sleeping.

#include "doze.h"

#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace weather {

struct Guard {
    NOIPA ~Guard() {
        outer();
        STAY;
    }
};

NOIPA void thrower(const std::string &what) {
    throw std::runtime_error(what);
}

NOIPA void guarded() {
    Guard guard;
    thrower("in a destructor while the stack is unwound");
    STAY;
}

NOIPA void in_destructor() {
    try {
        guarded();
    } catch (const std::exception &) {
        STAY;
    }
}

NOIPA void in_catch() {
    try {
        thrower("in a handler");
    } catch (const std::exception &error) {
        outer();
        STAY;
    }
}

// By std::function, in a frame of the library's templates.
NOIPA void in_function(const std::function<void(int)> &function) {
    function(7);
    STAY;
}

NOIPA void on_condition() {
    std::mutex mutex;
    std::condition_variable never;
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) never.wait_for(lock, std::chrono::milliseconds(2));
}

NOIPA void on_future() {
    std::promise<int> promise;
    auto future = promise.get_future();
    for (;;) future.wait_for(std::chrono::milliseconds(2));
}

NOIPA void in_sleep() {
    for (;;) std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

} // namespace weather

int main() {
    std::vector<std::thread> threads;
    const auto start = [&](const char *name, std::function<void()> function) {
        threads.emplace_back([=] {
            prctl(PR_SET_NAME, name);
            function();
        });
    };
    start("destructor", weather::in_destructor);
    start("catch", weather::in_catch);
    start("function", [] { weather::in_function([](int) { outer(); STAY; }); });
    start("condition", weather::on_condition);
    start("future", weather::on_future);
    start("sleep", weather::in_sleep);
    settle();
    say("ready");
    outer();
}
