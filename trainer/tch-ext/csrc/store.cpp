// TCPStore: the rendezvous of a job.
#include "group.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cstring>

using tchx::guarded;
using tchx::Store;

TCHX int32_t tchx_store_tcp(
    const char* host, uint16_t port, bool is_server, int64_t world, int64_t timeout_ms, Store** out, char** message) {
  return guarded(message, [&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server;
    if (world >= 0) options.numWorkers = static_cast<size_t>(world);
    options.waitWorkers = world >= 0;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    const uint16_t bound = store->getPort();
    *out = new Store{std::move(store), bound};
  }, true);
}

TCHX uint16_t tchx_store_port(const Store* store) {
  return store->port;
}

TCHX int32_t tchx_store_set(Store* store, const char* key, const uint8_t* value, size_t n, char** message) {
  return guarded(message, [&] { store->store->set(key, std::vector<uint8_t>(value, value + n)); }, true);
}

// `*value` is malloc'ed; the caller frees it with `tchx_free`.
TCHX int32_t tchx_store_get(Store* store, const char* key, uint8_t** value, size_t* n, char** message) {
  return guarded(message, [&] {
    const auto bytes = store->store->get(key);
    auto* copy = static_cast<uint8_t*>(std::malloc(bytes.size() + 1));
    if (copy == nullptr) throw std::bad_alloc();
    if (!bytes.empty()) std::memcpy(copy, bytes.data(), bytes.size());
    *value = copy;
    *n = bytes.size();
  }, true);
}

TCHX int32_t tchx_store_add(Store* store, const char* key, int64_t amount, int64_t* sum, char** message) {
  return guarded(message, [&] { *sum = store->store->add(key, amount); }, true);
}

TCHX int32_t tchx_store_wait(Store* store, const char* key, int64_t timeout_ms, char** message) {
  return guarded(message, [&] { store->store->wait({key}, std::chrono::milliseconds(timeout_ms)); }, true);
}

TCHX void tchx_store_free(Store* store) {
  char* message = nullptr;
  guarded(&message, [&] { delete store; });
  tchx_free(message);
}
