// hls::stream_of_blocks for C simulation without Vitis. Processes of a dataflow region run one
// after the other in C, so the queue of blocks has no bound here; in hardware DEPTH is the bound.
#ifndef HEADRACE_HLS_STREAMOFBLOCKS_H
#define HEADRACE_HLS_STREAMOFBLOCKS_H

#include <deque>
#include <memory>
#include <stdexcept>

namespace hls {

template <typename T, int DEPTH = 2>
class stream_of_blocks;

template <typename T>
class stream_of_blocks<T, 2> {
 public:
  stream_of_blocks() = default;
  stream_of_blocks(const stream_of_blocks&) = delete;
  stream_of_blocks& operator=(const stream_of_blocks&) = delete;

  T& append() {
    blocks_.emplace_back(new Block());
    return blocks_.back()->data;
  }
  T& front() {
    if (blocks_.empty()) throw std::runtime_error("read from empty stream of blocks");
    return blocks_.front()->data;
  }
  void drop() { blocks_.pop_front(); }

 private:
  struct Block {
    T data;
  };
  std::deque<std::unique_ptr<Block>> blocks_;
};

template <typename T, int DEPTH>
class stream_of_blocks : public stream_of_blocks<T, 2> {};

template <typename T>
class write_lock {
 public:
  explicit write_lock(stream_of_blocks<T>& blocks) : data_(blocks.append()) {}
  operator T&() { return data_; }

 private:
  T& data_;
};

template <typename T>
class read_lock {
 public:
  explicit read_lock(stream_of_blocks<T>& blocks) : blocks_(blocks), data_(blocks.front()) {}
  read_lock(const read_lock&) = delete;
  read_lock& operator=(const read_lock&) = delete;
  ~read_lock() { blocks_.drop(); }
  operator T&() { return data_; }

 private:
  stream_of_blocks<T>& blocks_;
  T& data_;
};

}  // namespace hls
#endif
