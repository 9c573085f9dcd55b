// Threads that help with a task. Nobody waits for a thread, only for work that a thread has taken: on a busy machine the
// helpers may not run at all for milliseconds, and then whoever runs does everything.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

static inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// A task is a list of stages, each a number of independent units. A thread that comes late finds the units taken and
// goes on; when all stages are done it has touched nothing but this object.
class Task {
   public:
    virtual ~Task() = default;
    virtual void work(int thread) = 0;

    std::atomic<int> helpers{0};  // threads that may still look at this object

   protected:
    void begin(const std::vector<int>& units) {
        count = units.size();
        if (size < count) stages = std::make_unique<Stage[]>(size = count);
        for (size_t i = 0; i < count; i++) {
            stages[i].units = units[i];
            stages[i].next.store(0, std::memory_order_relaxed);
            stages[i].done.store(0, std::memory_order_relaxed);
        }
    }

    // Takes units of a stage until none is left, then waits for those that others have taken.
    template <typename Unit>
    void share(int index, const Unit& unit) {
        Stage& stage = stages[index];
        for (int u; (u = stage.next.fetch_add(1, std::memory_order_relaxed)) < stage.units;) {
            unit(u);
            stage.done.fetch_add(1, std::memory_order_acq_rel);
        }
        for (int spins = 0; stage.done.load(std::memory_order_acquire) < stage.units; spins++)
            if (spins < 1000) relax();
            else std::this_thread::yield();
    }

   private:
    struct Stage {
        std::atomic<int> next{0}, done{0};
        int units = 0;
    };
    std::unique_ptr<Stage[]> stages;
    size_t size = 0, count = 0;
};

class Pool {
   public:
    explicit Pool(int threads) {
        try {
            for (int i = 1; i < threads; i++) workers.emplace_back([this, i] { help(i); });
        } catch (const std::system_error&) {  // no more threads: those that there are do it
        }
    }
    ~Pool() {
        publish(nullptr, true);
        for (auto& worker : workers) worker.join();
    }

    // Returns when the task is done, though a late helper may still hold it (`task.helpers`).
    void run(Task& task) {
        publish(&task, false);
        task.work(0);
        std::lock_guard<std::mutex> hold(mutex);
        current = nullptr;
    }

   private:
    void publish(Task* task, bool stop) {
        {
            std::lock_guard<std::mutex> hold(mutex);
            current = task;
            stopping = stop;
            epoch.fetch_add(1, std::memory_order_release);
        }
        condition.notify_all();
    }

    void help(int index) {
        for (unsigned seen = 0;;) {
            // Steps follow each other closely while somebody waits for a completion; between completions, sleep.
            for (int spins = 0; epoch.load(std::memory_order_acquire) == seen && spins < 3000; spins++) relax();
            Task* task;
            {
                std::unique_lock<std::mutex> hold(mutex);
                condition.wait(hold, [&] { return epoch.load(std::memory_order_relaxed) != seen; });
                seen = epoch.load(std::memory_order_relaxed);
                if (stopping) return;
                task = current;
                if (task) task->helpers.fetch_add(1, std::memory_order_relaxed);
            }
            if (!task) continue;
            task->work(index);
            task->helpers.fetch_sub(1, std::memory_order_release);
        }
    }

    std::atomic<unsigned> epoch{0};
    Task* current = nullptr;
    bool stopping = false;
    std::mutex mutex;
    std::condition_variable condition;
    std::vector<std::thread> workers;
};
