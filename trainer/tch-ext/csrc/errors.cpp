#include "common.h"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/exception.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace tchx {
namespace {

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

int32_t fail(char** message, TchxCode code, const std::string& text) noexcept {
  if (message != nullptr) *message = strdup(text.c_str());
  return code;
}

// c10d throws its timeouts and socket errors under several types, Gloo under its own; the texts are what they share.
TchxCode classify(const std::string& text, TchxCode otherwise) {
  if (contains(text, "EADDRINUSE") || contains(text, "Address already in use")) return TCHX_ADDRESS_IN_USE;
  if (otherwise == TCHX_TORCH) return TCHX_TORCH;
  if (contains(text, "imed out") || contains(text, "imeout")) return TCHX_TIMEOUT;
  return otherwise;
}

}  // namespace

int32_t report_current_exception(char** message, bool collective) noexcept {
  const TchxCode foreign = collective ? TCHX_COMMUNICATION : TCHX_TORCH;
  try {
    throw;
  } catch (const Failure& e) {
    return fail(message, e.code, e.text);
  } catch (const c10::OutOfMemoryError& e) {
    return fail(message, TCHX_OUT_OF_MEMORY, e.what_without_backtrace());
  } catch (const c10d::TimeoutError& e) {
    return fail(message, classify(e.what_without_backtrace(), TCHX_TIMEOUT), e.what_without_backtrace());
  } catch (const c10::DistError& e) {
    return fail(message, classify(e.what_without_backtrace(), TCHX_COMMUNICATION), e.what_without_backtrace());
  } catch (const c10::Error& e) {
    return fail(message, classify(e.what_without_backtrace(), TCHX_TORCH), e.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return fail(message, TCHX_OUT_OF_MEMORY, "out of memory");
  } catch (const std::invalid_argument& e) {
    return fail(message, TCHX_TORCH, e.what());
  } catch (const std::exception& e) {
    return fail(message, classify(e.what(), foreign), e.what());
  } catch (...) {
    return fail(message, TCHX_TORCH, "an exception that is not a std::exception");
  }
}

}  // namespace tchx

TCHX void tchx_free(void* memory) {
  std::free(memory);
}
