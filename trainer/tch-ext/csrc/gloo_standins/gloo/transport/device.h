#pragma once
namespace gloo::transport {
class Device {
 public:
  virtual ~Device() = 0;
};
}  // namespace gloo::transport
