// hls::stream for C simulation without Vitis: an unbounded queue that throws on an empty read.
#ifndef HEADRACE_HLS_STREAM_H
#define HEADRACE_HLS_STREAM_H
#define HEADRACE_STREAM_SHIM 1

#include <cstddef>
#include <deque>
#include <stdexcept>
#include <string>

namespace hls {

template <typename T, int DEPTH = 0>
class stream {
 public:
  explicit stream(const char* name = "stream") : name_(name) {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  bool empty() const { return queue_.empty(); }
  std::size_t size() const { return queue_.size(); }
  std::size_t max_occupancy() const { return peak_; }

  void write(const T& value) {
    queue_.push_back(value);
    if (queue_.size() > peak_) peak_ = queue_.size();
  }

  T read() {
    if (queue_.empty()) throw std::runtime_error("read from empty stream '" + name_ + "'");
    T value = queue_.front();
    queue_.pop_front();
    return value;
  }

 private:
  std::string name_;
  std::deque<T> queue_;
  std::size_t peak_ = 0;
};

}  // namespace hls
#endif
