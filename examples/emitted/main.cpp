// Decoding with a bundle of `xq emit` in a C++17 project. The program consists of the bundle (kernels and runtime) and
// this file. Two sequences get their prompts, then one token each in every step. The whole run takes place twice, with
// pages allocated in a different order: the place of a token in the pool must not change a bit of any output.
//
//     build/decode [DEVICE]
#include "attention.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int hidden = 256, heads = 4, head_dim = 64, kv_width = 128; // spec.json
constexpr int layers = 2, sequences = 2, steps = 6, pool_pages = 16;
constexpr int prompts[sequences] = {70, 33};

// ------------------------------------------------------------------ errors and owners

attention_context *the_context;

void check(attention_status status)
{
    if (status == ATTENTION_OK)
        return;
    attention_error_detail detail = ATTENTION_ERROR_DETAIL_INIT;
    attention_last_error(the_context, &detail);
    throw std::runtime_error(std::string(attention_status_name(status)) + ": " +
                             (detail.message ? detail.message : ""));
}

using Context = std::unique_ptr<attention_context, decltype(&attention_context_destroy)>;
using Plan = std::unique_ptr<attention_plan, decltype(&attention_plan_destroy)>;

Context open_context(const char *device)
{
    attention_context_options options = ATTENTION_CONTEXT_OPTIONS_INIT;
    options.device = device;
    attention_status status = attention_context_create(&options, &the_context);
    Context owner(the_context, attention_context_destroy);
    check(status);
    return owner;
}

Plan load(const char *name)
{
    attention_plan *plan = nullptr;
    check(attention_bundle_load(the_context, nullptr, name, &plan));
    return Plan(plan, attention_plan_destroy);
}

// Device memory, zeroed when it is allocated.
class Buffer {
public:
    explicit Buffer(size_t bytes) : bytes_(bytes)
    {
        check(attention_device_alloc(the_context, bytes, &pointer_));
        check(attention_device_fill(the_context, pointer_, 0, bytes));
    }
    template <class T> explicit Buffer(const std::vector<T> &values) : Buffer(values.size() * sizeof(T))
    {
        write(values);
    }
    Buffer(Buffer &&other) noexcept : pointer_(other.pointer_), bytes_(other.bytes_) { other.pointer_ = 0; }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer()
    {
        if (pointer_)
            attention_device_free(the_context, pointer_);
    }
    template <class T> void write(const std::vector<T> &values)
    {
        check(attention_device_write(the_context, pointer_, values.data(), values.size() * sizeof(T)));
    }
    std::vector<uint16_t> read() const
    {
        std::vector<uint16_t> values(bytes_ / sizeof(uint16_t));
        check(attention_device_read(the_context, values.data(), pointer_, bytes_));
        return values;
    }
    uint64_t pointer() const { return pointer_; }

private:
    uint64_t pointer_ = 0;
    size_t bytes_;
};

// ------------------------------------------------------------------ inputs

std::vector<float> matrix(std::mt19937 &random, int rows, int cols)
{
    std::vector<float> values(static_cast<size_t>(rows) * cols);
    for (float &value : values)
        value = (static_cast<float>(random() & 0xffff) - 32768.0f) / (16 * 32768.0f);
    return values;
}

// Random f16 numbers of both signs whose magnitudes are between 0.5 and 1.
std::vector<uint16_t> halves(std::mt19937 &random, int rows, int cols)
{
    std::vector<uint16_t> values(static_cast<size_t>(rows) * cols);
    for (uint16_t &value : values) {
        uint32_t bits = random();
        value = static_cast<uint16_t>(0x3800 | (bits & 0x83ff));
    }
    return values;
}

// ------------------------------------------------------------------ the cache

// The page table of all sequences. Sequence i has lengths[i] tokens. Pages are allocated in the order of `numbers`.
struct PageTable {
    std::vector<int32_t> indptr{0}, indices, last_page_len;

    PageTable(const std::vector<int> &lengths, int page_tokens, const std::vector<int32_t> &numbers)
    {
        for (size_t i = 0; i < lengths.size(); i++) {
            int pages = (lengths[i] + page_tokens - 1) / page_tokens;
            for (int p = 0; p < pages; p++) // each sequence has its own part of the pool
                indices.push_back(numbers[i * (pool_pages / sequences) + p]);
            indptr.push_back(static_cast<int32_t>(indices.size()));
            last_page_len.push_back(lengths[i] - (pages - 1) * page_tokens);
        }
    }
};

struct Layer {
    Buffer weights, pages;
};

Layer make_layer(const attention_plan *plan, const attention_plan_info &info, std::mt19937 &random)
{
    std::vector<float> uk = matrix(random, hidden, kv_width), ak = matrix(random, kv_width, kv_width);
    std::vector<float> uv = matrix(random, hidden, kv_width), av = matrix(random, kv_width, kv_width);
    attention_weights weights = ATTENTION_WEIGHTS_INIT;
    weights.uk = uk.data();
    weights.ak = ak.data();
    weights.uv = uv.data();
    weights.av = av.data();
    std::vector<unsigned char> packed(info.weights_bytes);
    check(attention_plan_pack_weights(plan, &weights, packed.data(), packed.size()));
    return {Buffer(packed), Buffer(pool_pages * info.page_bytes)};
}

// ------------------------------------------------------------------ decoding

// Runs all steps and returns the outputs of every step and layer, one after another.
std::vector<uint16_t> decode(attention_plan *plan, const std::vector<int32_t> &page_numbers)
{
    std::mt19937 random(1);
    attention_plan_info info = ATTENTION_PLAN_INFO_INIT;
    check(attention_plan_query(plan, &info));
    Buffer workspace(info.workspace_bytes), indptr((sequences + 1) * sizeof(int32_t)),
        indices(pool_pages * sizeof(int32_t)), last_page_len(sequences * sizeof(int32_t));
    std::vector<Layer> all;
    for (int l = 0; l < layers; l++)
        all.push_back(make_layer(plan, info, random));
    attention_page_table table;
    table.batch = sequences;
    table.indptr = indptr.pointer();
    table.indices = indices.pointer();
    table.last_page_len = last_page_len.pointer();

    std::vector<uint16_t> outputs;
    std::vector<int> lengths(sequences, 0);
    for (int step = 0; step < steps; step++) {
        std::vector<int32_t> sequence, position;
        for (int i = 0; i < sequences; i++)
            for (int t = 0; t < (step == 0 ? prompts[i] : 1); t++) {
                sequence.push_back(i);
                position.push_back(lengths[i]++);
            }
        const int tokens = static_cast<int>(sequence.size());
        const PageTable pages(lengths, info.page_tokens, page_numbers);
        indptr.write(pages.indptr);
        indices.write(pages.indices);
        last_page_len.write(pages.last_page_len);
        Buffer token_sequence(sequence), token_position(position);
        for (Layer &layer : all) {
            Buffer x(halves(random, tokens, hidden)), q(halves(random, sequences, heads * head_dim));
            Buffer out(sequences * heads * head_dim * sizeof(uint16_t));
            attention_append_args append = ATTENTION_APPEND_ARGS_INIT;
            append.tokens = tokens;
            append.x = x.pointer();
            append.token_sequence = token_sequence.pointer();
            append.token_position = token_position.pointer();
            append.table = table;
            append.pages = layer.pages.pointer();
            append.weights = layer.weights.pointer();
            check(attention_plan_append(plan, &append, nullptr));
            attention_attend_args attend = ATTENTION_ATTEND_ARGS_INIT;
            attend.max_tokens = prompts[0] + steps;
            attend.q = q.pointer();
            attend.out = out.pointer();
            attend.table = table;
            attend.pages = layer.pages.pointer();
            attend.weights = layer.weights.pointer();
            attend.workspace = workspace.pointer();
            attend.workspace_bytes = info.workspace_bytes;
            check(attention_plan_attend(plan, &attend, nullptr));
            const std::vector<uint16_t> values = out.read(); // waits until the launches are done
            outputs.insert(outputs.end(), values.begin(), values.end());
        }
    }
    std::printf("%d steps of %d sequences in %d layers; %.0f bytes a token instead of %d\n", steps, sequences, layers,
                info.cache_bytes_per_token, 2 * 2 * kv_width);
    return outputs;
}

// Returns the device that the argument names, or auto without an argument. The program ends on `--help` and on extra
// arguments.
const char *device_argument(int argc, char **argv)
{
    const bool asked = argc == 2 && std::string(argv[1]) == "--help";
    if (argc <= 2 && !asked)
        return argc == 2 ? argv[1] : "auto";
    std::fprintf(asked ? stdout : stderr, "usage: decode [DEVICE], where DEVICE is auto (default), cuda or cuda:N\n");
    std::exit(asked ? 0 : 1);
}

} // namespace

int main(int argc, char **argv)
try {
    const Context context = open_context(device_argument(argc, argv));
    const Plan plan = load("4bit");
    std::vector<int32_t> numbers, reversed;
    for (int32_t i = 0; i < pool_pages; i++) {
        numbers.push_back(i);
        reversed.push_back(pool_pages - 1 - i);
    }
    const std::vector<uint16_t> outputs = decode(plan.get(), numbers);
    if (decode(plan.get(), reversed) != outputs)
        throw std::runtime_error("outputs depend on where pages lie");
    std::printf("the same bits wherever the pages lie; first outputs, as f16: %04x %04x %04x %04x\n", outputs[0],
                outputs[1], outputs[2], outputs[3]);
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "decode: %s\n", error.what());
    return 1;
}
