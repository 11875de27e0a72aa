// Runs an ExecuTorch program so many times on one thread: executorch_runner PROGRAM SIDE RUNS.
// The libraries of ExecuTorch's Python package are enough, so that torch need not be emulated.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

// The package has the library, and no header of it.
namespace executorch::extension::threadpool {
struct ThreadPool {
    bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool *get_threadpool();
}  // namespace executorch::extension::threadpool

using namespace executorch::extension;

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const int side = std::atoi(argv[2]), runs = std::atoi(argv[3]);
    threadpool::get_threadpool()->_unsafe_reset_threadpool(1);
    Module module(argv[1]);
    std::vector<float> planes(3 * side * side, 0.5f);
    auto input = from_blob(planes.data(), {1, 3, side, side});
    for (int run = 0; run < runs; ++run) {
        auto result = module.forward(input);
        if (!result.ok()) return 1;
    }
    return 0;
}
