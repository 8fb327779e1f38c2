#include "archive.h"

#include "errors.h"

#include <c10/core/ScalarType.h>
#include <c10/util/safe_numerics.h>
#include <torch/csrc/jit/serialization/pickler_helper.h>
#include <torch/csrc/jit/serialization/source_range_serialization.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace kontrast {

namespace {

using caffe2::serialize::PyTorchStreamReader;
using torch::jit::PickleOpCode;

constexpr size_t kDepth = 1000;

// What matters of an object on the pickle's stack. Copies share texts and tuples: a pickle can repeat them at no cost.
struct Item {
  enum class Kind { Other, Integer, Text, Tuple, List, Storage };
  explicit Item(Kind kind = Kind::Other) : kind(kind) {}
  Kind kind;
  int64_t integer = 0;    // the bytes of a storage
  int64_t itemBytes = 0;  // of a storage
  size_t depth = 0;       // of a tuple or list
  std::shared_ptr<const std::string> text;
  std::shared_ptr<const std::vector<Item>> items;
};

// LibTorch's numbers of the types that a storage's class can name.
std::optional<int64_t> scalarTypeOfStorage(const std::string& className) {
#define KONTRAST_NAME(_, name) \
  if (className == #name "Storage") return static_cast<int64_t>(c10::ScalarType::name);
  AT_FORALL_SCALAR_TYPES_WITH_COMPLEX_AND_QINTS(KONTRAST_NAME)
#undef KONTRAST_NAME
  return std::nullopt;
}

// Functions whose effect matters.
enum class Function { Other, RebuildTensor, BuildIntegers };

// Follows a pickle as LibTorch's reader will, without making anything.
class PickleCheck {
 public:
  // Of the entry `archive` + `suffix`. Adds to `devices` those that storages were on.
  PickleCheck(PyTorchStreamReader& reader, std::string archive, std::string suffix, std::set<std::string>& devices)
      : reader_(reader), archive_(std::move(archive)), entry_(archive_ + suffix), devices_(devices) {
    std::tie(data_, size_) = reader.getRecord(entry_);
  }

  // The object that the pickle holds.
  Item run() {
    require(take<PickleOpCode>() == PickleOpCode::PROTO && take<uint8_t>() == 2, "it is no pickle of protocol 2");
    while (step()) {
    }
    require(stack_.size() == 1, "it does not hold one object");
    return stack_[0];
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const {
    throw Failure("SCRIPT_FILE", "its entry " + entry_ + " is damaged: " + reason);
  }

  void require(bool holds, const std::string& reason) const {
    if (!holds) refuse(reason);
  }

  const char* takeBytes(size_t count) {
    require(count <= size_ - position_, "it ends too early");
    const auto* bytes = static_cast<const char*>(data_.get()) + position_;
    position_ += count;
    return bytes;
  }

  template <typename T>
  T take() {
    T value;
    std::memcpy(&value, takeBytes(sizeof value), sizeof value);
    return value;
  }

  std::string takeLine() {
    const auto* start = static_cast<const char*>(data_.get()) + position_;
    const auto* end = static_cast<const char*>(std::memchr(start, '\n', size_ - position_));
    require(end != nullptr, "it ends too early");
    position_ += static_cast<size_t>(end - start) + 1;
    return {start, end};
  }

  void push(Item item) { stack_.push_back(std::move(item)); }

  Item pop() {
    require(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "it takes more objects than it has");
    auto item = std::move(stack_.back());
    stack_.pop_back();
    return item;
  }

  void pushOther() { push(Item()); }

  void pushInteger(int64_t integer) {
    Item item(Item::Kind::Integer);
    item.integer = integer;
    push(std::move(item));
  }

  // The objects above the last mark.
  std::vector<Item> popMarked() {
    require(!marks_.empty(), "it takes more objects than it has");
    const auto start = static_cast<std::ptrdiff_t>(marks_.back());
    marks_.pop_back();
    std::vector<Item> items(std::make_move_iterator(stack_.begin() + start), std::make_move_iterator(stack_.end()));
    stack_.erase(stack_.begin() + start, stack_.end());
    return items;
  }

  void pushItems(Item::Kind kind, std::vector<Item> items) {
    Item made(kind);
    for (const auto& item : items) made.depth = std::max(made.depth, item.depth + 1);
    // Freeing a tuple frees those inside it, a call in a call.
    require(made.depth <= kDepth, "it is nested too deeply");
    made.items = std::make_shared<const std::vector<Item>>(std::move(items));
    push(std::move(made));
  }

  void pushTuple(size_t count) {
    std::vector<Item> items(count);
    for (size_t i = count; i > 0; i--) items[i - 1] = pop();
    pushItems(Item::Kind::Tuple, std::move(items));
  }

  // Adds to the list below.
  void append(std::vector<Item> items) {
    requireContainer();
    const auto list = std::move(stack_.back());
    stack_.pop_back();
    if (list.kind != Item::Kind::List) {
      pushOther();
      return;
    }
    items.insert(items.begin(), list.items->begin(), list.items->end());
    pushItems(Item::Kind::List, std::move(items));
  }

  // A container to add to lies under what is added.
  void requireContainer() const { require(!stack_.empty(), "it adds to nothing"); }

  void remember(size_t index) {
    require(!stack_.empty(), "it takes more objects than it has");
    // Writers number what they remember without gaps, and a gap would take memory.
    require(index <= memo_.size(), "it numbers its objects with gaps");
    if (index == memo_.size()) memo_.emplace_back();
    // What a list will hold when it is recalled is not followed.
    memo_[index] = stack_.back().kind == Item::Kind::List ? Item() : stack_.back();
  }

  void recall(size_t index) {
    require(index < memo_.size(), "it refers to an object that it does not have");
    push(memo_[index]);
  }

  bool step() {
    const auto code = take<PickleOpCode>();
    switch (code) {
      case PickleOpCode::STOP:
        return false;
      case PickleOpCode::MARK:
        marks_.push_back(stack_.size());
        break;
      case PickleOpCode::EMPTY_LIST:
        pushItems(Item::Kind::List, {});
        break;
      case PickleOpCode::EMPTY_DICT:
      case PickleOpCode::NEWTRUE:
      case PickleOpCode::NEWFALSE:
      case PickleOpCode::NONE:
        pushOther();
        break;
      case PickleOpCode::BINFLOAT:
        takeBytes(8);
        pushOther();
        break;
      case PickleOpCode::BININT1:
        pushInteger(take<uint8_t>());
        break;
      case PickleOpCode::BININT2:
        pushInteger(take<uint16_t>());
        break;
      case PickleOpCode::BININT:
        pushInteger(take<int32_t>());
        break;
      case PickleOpCode::LONG1:
        require(take<uint8_t>() == 8, "it holds an integer that is not of 64 bits");
        pushInteger(take<int64_t>());
        break;
      case PickleOpCode::BINUNICODE: {
        const auto length = take<uint32_t>();
        const auto* text = takeBytes(length);
        Item item(Item::Kind::Text);
        item.text = std::make_shared<const std::string>(text, length);
        push(std::move(item));
        break;
      }
      case PickleOpCode::EMPTY_TUPLE:
        pushTuple(0);
        break;
      case PickleOpCode::TUPLE1:
        pushTuple(1);
        break;
      case PickleOpCode::TUPLE2:
        pushTuple(2);
        break;
      case PickleOpCode::TUPLE3:
        pushTuple(3);
        break;
      case PickleOpCode::TUPLE:
        pushItems(Item::Kind::Tuple, popMarked());
        break;
      case PickleOpCode::LIST:
        pushItems(Item::Kind::List, popMarked());
        break;
      case PickleOpCode::DICT:
        requirePairs(popMarked());
        pushOther();
        break;
      case PickleOpCode::APPENDS:
        append(popMarked());
        break;
      case PickleOpCode::SETITEMS:
        requirePairs(popMarked());
        requireContainer();
        break;
      case PickleOpCode::SETITEM:
        pop();
        pop();
        requireContainer();
        break;
      case PickleOpCode::BINPUT:
        remember(take<uint8_t>());
        break;
      case PickleOpCode::LONG_BINPUT:
        remember(take<uint32_t>());
        break;
      case PickleOpCode::BINGET:
        recall(take<uint8_t>());
        break;
      case PickleOpCode::LONG_BINGET:
        recall(take<uint32_t>());
        break;
      case PickleOpCode::GLOBAL:
        pushGlobal();
        break;
      case PickleOpCode::NEWOBJ:
        pop();
        break;
      case PickleOpCode::BUILD:
      case PickleOpCode::REDUCE:
        callGlobal();
        break;
      case PickleOpCode::BINPERSID:
        pushStorage();
        break;
      default:
        refuse("it has an instruction that no TorchScript file has");
    }
    return true;
  }

  void requirePairs(const std::vector<Item>& items) const {
    require(items.size() % 2 == 0, "a dictionary has a key without a value");
  }

  // A function or class, known by its index from now on; the classes of storages are numbers of their own.
  void pushGlobal() {
    const auto module = takeLine();
    const auto name = takeLine();
    if (module == "torch") {
      if (const auto type = scalarTypeOfStorage(name)) {
        pushInteger(*type);
        return;
      }
      // Other names of this module but `device` are small numbers, of which nothing depends here.
      if (name != "device") {
        pushInteger(0);
        return;
      }
    }
    auto function = Function::Other;
    if (module == "torch._utils" && (name == "_rebuild_tensor_v2" || name == "_rebuild_qtensor"))
      function = Function::RebuildTensor;
    if (module == "torch.jit._pickle" && name == "build_intlist") function = Function::BuildIntegers;
    functions_.push_back(function);
    pushInteger(static_cast<int64_t>(functions_.size()) - 1);
  }

  // Calls a function with its arguments, or gives an object its state.
  void callGlobal() {
    const auto argument = pop();
    const auto called = pop();
    require(called.kind == Item::Kind::Integer && called.integer >= 0 &&
                called.integer < static_cast<int64_t>(functions_.size()),
            "it calls something that is no function");
    const auto function = functions_[static_cast<size_t>(called.integer)];
    if (function == Function::RebuildTensor) checkTensor(argument);
    if (function == Function::BuildIntegers && argument.kind == Item::Kind::Tuple && argument.items->size() == 1)
      push((*argument.items)[0]);
    else
      pushOther();
  }

  // ('storage', type, key, device, number of elements)
  void pushStorage() {
    const auto given = pop();
    require(given.kind == Item::Kind::Tuple && given.items->size() >= 5, "it has an unknown kind of storage");
    const auto& items = *given.items;
    require(items[0].kind == Item::Kind::Text && *items[0].text == "storage" && items[1].kind == Item::Kind::Integer &&
                items[2].kind == Item::Kind::Text && items[3].kind == Item::Kind::Text &&
                items[4].kind == Item::Kind::Integer,
            "it has an unknown kind of storage");
    require(items[1].integer >= 0 && items[1].integer < static_cast<int64_t>(c10::ScalarType::Undefined),
            "it has an unknown kind of storage");
    const auto itemBytes = static_cast<int64_t>(c10::elementSize(static_cast<c10::ScalarType>(items[1].integer)));
    const auto count = items[4].integer;
    int64_t bytes = 0;
    require(count >= 0 && !c10::mul_overflows(count, itemBytes, &bytes), "a storage has an impossible size");
    if (count > 0) requireRecord(*items[2].text, static_cast<uint64_t>(bytes));
    devices_.insert(*items[3].text);
    Item storage(Item::Kind::Storage);
    storage.integer = bytes;
    storage.itemBytes = itemBytes;
    push(std::move(storage));
  }

  void requireRecord(const std::string& key, uint64_t bytes) {
    const auto record = key.find('/') == std::string::npos ? archive_ + "/" + key : key;
    require(reader_.hasRecord(record), "the entry " + record + ", which it refers to, is missing");
    const auto found = reader_.getRecordSize(record);
    require(found >= bytes, "the entry " + record + " has " + std::to_string(found) + " bytes, and a tensor needs " +
                                std::to_string(bytes));
  }

  static bool areCounts(const Item& tuple) {
    if (tuple.kind != Item::Kind::Tuple) return false;
    for (const auto& item : *tuple.items) {
      if (item.kind != Item::Kind::Integer || item.integer < 0) return false;
    }
    return true;
  }

  // (storage, offset, sizes, strides, ...)
  void checkTensor(const Item& argument) const {
    require(argument.kind == Item::Kind::Tuple && argument.items->size() >= 4, "a tensor is not described as usual");
    const auto& items = *argument.items;
    const auto& storage = items[0];
    require(storage.kind == Item::Kind::Storage && items[1].kind == Item::Kind::Integer && items[1].integer >= 0 &&
                areCounts(items[2]) && areCounts(items[3]) && items[2].items->size() == items[3].items->size(),
            "a tensor is not described as usual");
    // The index of the last element, and so of what lies behind it.
    int64_t end = items[1].integer;
    bool isEmpty = false;
    bool overflows = false;
    for (size_t i = 0; i < items[2].items->size(); i++) {
      const auto size = (*items[2].items)[i].integer;
      int64_t span = 0;
      isEmpty = isEmpty || size == 0;
      if (size == 0) continue;
      overflows = overflows || c10::mul_overflows(size - 1, (*items[3].items)[i].integer, &span) ||
                  c10::add_overflows(end, span, &end);
    }
    int64_t bytes = 0;
    overflows = overflows || c10::add_overflows(end, int64_t{1}, &end) ||
                c10::mul_overflows(end, storage.itemBytes, &bytes);
    require(isEmpty || (!overflows && bytes <= storage.integer), "a tensor is larger than its storage");
  }

  PyTorchStreamReader& reader_;
  const std::string archive_;
  const std::string entry_;
  std::set<std::string>& devices_;
  at::DataPtr data_;
  size_t size_ = 0;
  size_t position_ = 0;
  std::vector<Item> stack_;
  std::vector<size_t> marks_;
  std::vector<Item> memo_;
  std::vector<Function> functions_;
};

bool isTuple(const Item& item, size_t size) { return item.kind == Item::Kind::Tuple && item.items->size() == size; }

// Whether an integer can be an index, or a place between items.
bool isBelow(const Item& item, size_t limit) {
  return item.kind == Item::Kind::Integer && item.integer >= 0 && static_cast<uint64_t>(item.integer) < limit;
}

// Checks what an archive says of its source as it was written: (format, texts, rows). A row is (place, range, tag), a
// range (source, start, end), a source (indices of its lines among the texts, that of the file's name, line number).
class SourceCheck {
 public:
  bool isSound(const Item& root) {
    if (!isTuple(root, 3)) return false;
    const auto& format = (*root.items)[0];
    const auto& texts = (*root.items)[1];
    const auto& rows = (*root.items)[2];
    if (format.kind != Item::Kind::Text || *format.text != torch::jit::kFormatWithStringTable ||
        texts.kind != Item::Kind::Tuple || rows.kind != Item::Kind::Tuple)
      return false;
    texts_ = texts.items.get();
    for (const auto& text : *texts_) {
      if (text.kind != Item::Kind::Text) return false;
    }
    return std::all_of(rows.items->begin(), rows.items->end(), [this](const Item& row) { return isSoundRow(row); });
  }

 private:
  bool isSoundRow(const Item& row) {
    if (!isTuple(row, 3)) return false;
    const auto& range = (*row.items)[1];
    if ((*row.items)[0].kind != Item::Kind::Integer || (*row.items)[2].kind != Item::Kind::Integer ||
        !isTuple(range, 3))
      return false;
    const auto length = lengthOf((*range.items)[0]);
    const auto& start = (*range.items)[1];
    const auto& end = (*range.items)[2];
    // LibTorch gives what has no source the first place of an empty text.
    return length && isBelow(end, std::max<size_t>(*length, 1) + 1) &&
           isBelow(start, static_cast<size_t>(end.integer) + 1);
  }

  // How long a source is; nothing where it is not sound. Many rows share one.
  std::optional<size_t> lengthOf(const Item& source) {
    if (!isTuple(source, 3)) return std::nullopt;
    const auto known = lengths_.find(source.items.get());
    if (known != lengths_.end()) return known->second;
    const auto& lines = (*source.items)[0];
    if (lines.kind != Item::Kind::List || !isBelow((*source.items)[1], texts_->size()) ||
        (*source.items)[2].kind != Item::Kind::Integer)
      return std::nullopt;
    size_t length = 0;
    for (const auto& line : *lines.items) {
      if (!isBelow(line, texts_->size())) return std::nullopt;
      length += (*texts_)[static_cast<size_t>(line.integer)].text->size();
    }
    lengths_.emplace(source.items.get(), length);
    return length;
  }

  const std::vector<Item>* texts_ = nullptr;
  std::unordered_map<const void*, size_t> lengths_;
};

bool hasSoundSources(PyTorchStreamReader& reader) {
  static const std::string kSuffix = ".debug_pkl";
  std::set<std::string> devices;
  for (const auto& name : reader.getAllRecords()) {
    if (name.size() <= kSuffix.size() || name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) != 0)
      continue;
    try {
      const auto archive = name.substr(0, name.size() - kSuffix.size());
      if (!SourceCheck().isSound(PickleCheck(reader, archive, kSuffix, devices).run())) return false;
    } catch (const std::exception&) {
      return false;
    }
  }
  return true;
}

}  // namespace

ArchiveContent checkArchive(PyTorchStreamReader& reader) {
  ArchiveContent content;
  for (const auto* name : {"constants", "data"}) {
    if (!reader.hasRecord(std::string(name) + ".pkl"))
      throw Failure("SCRIPT_FILE", std::string("it has no entry ") + name +
                                       ".pkl: it was not written by torch.jit.save, or is damaged");
    PickleCheck(reader, name, ".pkl", content.devices).run();
  }
  content.hasSoundSources = hasSoundSources(reader);
  return content;
}

}  // namespace kontrast
