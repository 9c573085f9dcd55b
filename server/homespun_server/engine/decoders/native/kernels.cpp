// A decoder-only transformer with 8-bit weights: what `native_decoder.py` calls. See there for who owns what.
//
// All threads run the whole forward side by side and take units of its stages; see `pool.h`.
#include <new>

#include "amx.h"
#include "attention.h"
#include "pool.h"

extern "C" {

struct Layer {
    const float *attention_norm, *attention_norm_bias;
    const Matrix* qkv;
    const float *qkv_bias, *q_norm, *k_norm;
    const Matrix* out;
    const float* out_bias;
    const float *mlp_norm, *mlp_norm_bias;
    const Matrix* up;
    const float* up_bias;
    const Matrix* down;
    const float* down_bias;
    int32_t window;  // 0: none
};

struct Model {
    int32_t vocabulary, hidden, intermediate, layers, heads, kv_heads, dim;
    int32_t is_layer_norm, is_gelu, is_gated;
    float epsilon, attention_scale, embedding_scale, residual_scale, logit_scale;
    const float* embedding;  // [vocabulary][hidden]
    const Layer* layer;
    const float *norm, *norm_bias;
    const Matrix* head;
    const float *cos, *sin;  // [position][dim / 2]
};

struct Segment {
    Kv* kv;
    int32_t start;           // positions of kv that count
    int32_t count;           // ids after them
    const int32_t* ids;
    const int32_t* parents;  // null: a chain
    int32_t wanted;          // logits of the last so many ids
};
}

namespace {

constexpr int ROW_CHUNK = 96;  // rows of a unit of matrix work: a multiple of ROWS_A_TILE and BLOCK that stays in the cache

int padded(int n) {
    constexpr int step = TILE > GROUP ? TILE : GROUP;
    return (n + step - 1) / step * step;
}

struct Scratch {  // of one thread
    Buffer<float> row, scores;
};

struct Buffers {  // of one forward at a time
    Buffer<float> x, projected, attention, inner;
    Quantised quantised;
    std::vector<Scratch> scratch;
};

// One forward. The sizes of all stages are known before it starts, and what `model` points to is only looked at inside
// of units: a late helper may come when the model is long gone.
class Step : public Task {
   public:
    explicit Step(Buffers& buffers) : buffers(buffers) {}

    // False when there is no memory.
    bool plan(const Model& model, const Segment* segments, int count, float* to) {
        m = model, logits = to;
        rows.clear(), wanted.clear();
        int longest = 0;
        for (int s = 0; s < count; s++) {
            const Segment& segment = segments[s];
            const int places = segment.start + segment.count;
            if (!segment.kv->reserve(places, segment.start)) return false;
            longest = std::max(longest, places);
            add_rows(segment);
        }
        heads_width = padded(m.heads * m.dim), hidden_width = padded(m.hidden);
        projected_width = padded((m.heads + 2 * m.kv_heads) * m.dim);
        inner_width = padded(m.intermediate * (m.is_gated ? 2 : 1));
        score_stride = (longest + STRIDE - 1) / STRIDE * STRIDE;
        plan_stages();
        return reserve();
    }

    void work(int thread) override {
        int stage = 0, count = (int)rows.size();
        Scratch& own = buffers.scratch[thread];
        share(stage++, [&](int r) { embed(r); });
        for (int l = 0; l < m.layers; l++) {
            const Layer* layer = m.layer + l;
            const bool is_last = l == m.layers - 1;
            share(stage++, [&](int r) { normalise(r, layer->attention_norm, layer->attention_norm_bias, own); });
            share(stage++, [&](int u) {
                product(u, count, *layer->qkv, layer->qkv_bias, buffers.projected.data, projected_width);
            });
            share(stage++, [&](int r) { place(r, l, *layer); });
            if (is_last) {  // from here on, rows whose logits nobody wants are left out
                count = (int)wanted.size();
                share(stage++, [&](int) { gather_wanted(); });
            }
            share(stage++, [&](int u) { attend_unit(u, l, layer->window, is_last, own); });
            share(stage++, [&](int r) {
                buffers.quantised.set_row(r, buffers.attention.data + (size_t)r * heads_width, m.heads * m.dim);
            });
            share(stage++, [&](int u) { add_product(u, count, *layer->out, layer->out_bias); });
            share(stage++, [&](int r) { normalise(r, layer->mlp_norm, layer->mlp_norm_bias, own); });
            share(stage++, [&](int u) {
                product(u, count, *layer->up, layer->up_bias, buffers.inner.data, inner_width);
            });
            share(stage++, [&](int r) { activate(r, own); });
            share(stage++, [&](int u) { add_product(u, count, *layer->down, layer->down_bias); });
        }
        share(stage++, [&](int r) { normalise(r, m.norm, m.norm_bias, own); });
        share(stage++, [&](int u) { score_vocabulary(u, count); });
    }

   private:
    struct Row {
        const Segment* segment;
        int index;     // in the segment
        int position;  // on its path
        Path path;
    };

    void add_rows(const Segment& segment) {
        const int first = (int)rows.size();
        for (int i = 0; i < segment.count; i++) {
            rows.push_back(Row{&segment, i, 0, path_of(segment, i, first)});
            rows.back().position = rows.back().path.length() - 1;
            if (i >= segment.count - segment.wanted) wanted.push_back(first + i);
        }
    }

    // `first`: where the segment's rows begin in `rows`.
    Path path_of(const Segment& segment, int i, int first) const {
        if (!segment.parents) return Path{segment.start + i + 1, {}};
        const int parent = segment.parents[i];
        Path path = parent < 0 ? Path{segment.start, {}} : rows[first + parent].path;
        if (path.others.empty() && path.common == segment.start + i) path.common++;
        else path.others.push_back(segment.start + i);
        return path;
    }

    // In the order of `work`.
    void plan_stages() {
        int n = (int)rows.size();
        std::vector<int> units{n};
        for (int l = 0; l < m.layers; l++) {
            const Layer& layer = m.layer[l];
            units.insert(units.end(), {n, units_of(*layer.qkv, n), n});
            if (l == m.layers - 1) n = (int)wanted.size(), units.push_back(1);
            const int tiles = (n * (m.heads / m.kv_heads) + ROWS_A_TILE - 1) / ROWS_A_TILE;
            units.insert(units.end(), {m.kv_heads * tiles, n, units_of(*layer.out, n), n, units_of(*layer.up, n), n,
                                       units_of(*layer.down, n)});
        }
        units.insert(units.end(), {n, units_of(*m.head, n)});
        begin(units);
    }

    static int units_of(const Matrix& matrix, int count) {
        return matrix.tiles * ((count + ROW_CHUNK - 1) / ROW_CHUNK);
    }

    bool reserve() {
        const int widest = std::max({m.hidden, m.intermediate, m.heads * m.dim});
        const size_t n = rows.size();
        for (auto& own : buffers.scratch)
            if (!own.row.at_least(padded(widest)) || !own.scores.at_least((size_t)ROWS_A_TILE * score_stride))
                return false;
        return buffers.x.at_least(n * hidden_width) && buffers.projected.at_least(n * projected_width) &&
               buffers.attention.at_least(n * heads_width) && buffers.inner.at_least(n * inner_width) &&
               buffers.quantised.reserve((int)n, widest);
    }

    float* x(int r) const { return buffers.x.data + (size_t)r * hidden_width; }

    void embed(int r) {
        const float* from = m.embedding + (size_t)rows[r].segment->ids[rows[r].index] * m.hidden;
        for (int i = 0; i < m.hidden; i += W) store(x(r) + i, load(from + i) * m.embedding_scale);
    }

    void gather_wanted() {
        for (size_t w = 0; w < wanted.size(); w++) memmove(x((int)w), x(wanted[w]), m.hidden * sizeof(float));
    }

    // The norm of a row, quantised.
    void normalise(int r, const float* norm, const float* bias, Scratch& own) {
        const float* from = x(r);
        float* to = own.row.data;
        vf total{};
        float mean = 0;
        if (m.is_layer_norm) {
            for (int i = 0; i < m.hidden; i += W) total += load(from + i);
            mean = sum(total) / m.hidden;
            total = vf{};
        }
        for (int i = 0; i < m.hidden; i += W) {
            const vf v = load(from + i) - mean;
            total = fma(v, v, total);
        }
        const float scale = 1 / std::sqrt(sum(total) / m.hidden + m.epsilon);
        for (int i = 0; i < m.hidden; i += W) {
            const vf v = (load(from + i) - mean) * scale * load(norm + i);
            store(to + i, bias ? v + load(bias + i) : v);
        }
        buffers.quantised.set_row(r, to, m.hidden);
    }

    template <typename Emit>
    void multiply_unit(int u, int count, const Matrix& matrix, const Emit& emit) {
        const int first = u / matrix.tiles * ROW_CHUNK, last = std::min(count, first + ROW_CHUNK);
        multiply(matrix, u % matrix.tiles, buffers.quantised, first, last, emit);
    }

    void product(int u, int count, const Matrix& matrix, const float* bias, float* to, int width) {
        multiply_unit(u, count, matrix, [&](int r, int channel, vf v) {
            store(to + (size_t)r * width + channel, bias ? v + load(bias + channel) : v);
        });
    }

    void add_product(int u, int count, const Matrix& matrix, const float* bias) {
        multiply_unit(u, count, matrix, [&](int r, int channel, vf v) {
            float* to = x(r) + channel;
            store(to, fma(splat(m.residual_scale), bias ? v + load(bias + channel) : v, load(to)));
        });
    }

    void score_vocabulary(int u, int count) {
        const size_t width = padded(m.vocabulary);
        multiply_unit(u, count, *m.head,
                      [&](int r, int channel, vf v) { store(logits + r * width + channel, v * m.logit_scale); });
    }

    // Rotates queries and keys of a row; its keys and values go into the cache.
    void place(int r, int l, const Layer& layer) {
        const Row& row = rows[r];
        const int dim = m.dim, half = dim / 2, spot = row.segment->start + row.index;
        float* q = buffers.projected.data + (size_t)r * projected_width;
        for (int h = 0; h < m.heads + m.kv_heads; h++) {
            const float* norm = h < m.heads ? layer.q_norm : layer.k_norm;
            if (norm) normalise_head(q + h * dim, norm);
            rotate(q + h * dim, (size_t)row.position * half, h < m.heads ? m.attention_scale : 1);
        }
        Kv& kv = *row.segment->kv;
        for (int h = 0; h < m.kv_heads; h++) {
            const float *k = q + (m.heads + h) * dim, *v = q + (m.heads + m.kv_heads + h) * dim;
            half_t *keys = kv.head_keys(l, h), *values = kv.head_values(l, h) + (size_t)spot * dim, some[W];
            for (int d = 0; d < dim; d += W) {
                narrow(values + d, load(v + d));
                narrow(some, load(k + d));
                for (int i = 0; i < W; i++) keys[Kv::key_offset(spot, d + i, dim)] = some[i];
            }
        }
    }

    void rotate(float* head, size_t at, float scale) const {
        const int half = m.dim / 2;
        for (int d = 0; d < half; d++) {
            const float a = head[d], b = head[d + half], cos = m.cos[at + d], sin = m.sin[at + d];
            head[d] = (a * cos - b * sin) * scale;
            head[d + half] = (b * cos + a * sin) * scale;
        }
    }

    void normalise_head(float* head, const float* norm) const {
        float total = 0;
        for (int d = 0; d < m.dim; d++) total += head[d] * head[d];
        const float scale = 1 / std::sqrt(total / m.dim + m.epsilon);
        for (int d = 0; d < m.dim; d++) head[d] = head[d] * scale * norm[d];
    }

    // Units: kv heads x tiles of queries; the queries of a kv head are the rows times the heads that share it.
    void attend_unit(int u, int l, int window, bool only_wanted, Scratch& own) {
        const int group = m.heads / m.kv_heads, count = (int)(only_wanted ? wanted.size() : rows.size()) * group;
        const int head = u % m.kv_heads, first = u / m.kv_heads * ROWS_A_TILE;
        const int last = std::min(count, first + ROWS_A_TILE);
        const auto row_of = [&](int f) { return only_wanted ? wanted[f / group] : f / group; };
        for (int f = first; f < last;) {
            const Segment& segment = *rows[row_of(f)].segment;
            Query queries[ROWS_A_TILE];
            float* scores[ROWS_A_TILE];
            int n = 0;
            for (; f < last && rows[row_of(f)].segment == &segment; f++, n++) {
                const int column = (head * group + f % group) * m.dim;
                queries[n] = {buffers.projected.data + (size_t)row_of(f) * projected_width + column,
                              &rows[row_of(f)].path,
                              buffers.attention.data + (size_t)(f / group) * heads_width + column};
                scores[n] = own.scores.data + (size_t)n * score_stride;
            }
            attend_rest<ROWS_A_TILE>(n, queries, *segment.kv, l, head, segment.start + segment.count, window, scores);
        }
    }

    void activate(int r, Scratch& own) {
        const int size = m.intermediate;
        const float *gate = buffers.inner.data + (size_t)r * inner_width, *up = gate + size;
        for (int i = 0; i < size; i += W) {
            const vf v = activated(load(gate + i));
            store(own.row.data + i, m.is_gated ? v * load(up + i) : v);
        }
        buffers.quantised.set_row(r, own.row.data, size);
    }

    vf activated(vf v) const {
        if (!m.is_gelu) return v / (exponential(-v) + 1.0f);
        const vf y = (v + v * v * v * 0.044715f) * 0.7978845608f;
        return v * (1.0f - 1.0f / (exponential(y + y) + 1.0f));
    }

    Buffers& buffers;
    Model m{};
    float* logits = nullptr;
    std::vector<Row> rows;
    std::vector<int> wanted;  // of them, ascending
    int heads_width = 0, hidden_width = 0, projected_width = 0, inner_width = 0, score_stride = 0;
};

class Forward {
   public:
    explicit Forward(int threads) : pool(threads) { buffers.scratch = std::vector<Scratch>(threads); }

    int run(const Model& model, const Segment* segments, int count, float* logits) {
        Step& step = free_step();
        if (!step.plan(model, segments, count, logits)) return -1;
        pool.run(step);
        return 0;
    }

   private:
    Step& free_step() {
        for (auto& step : steps)
            if (step->helpers.load(std::memory_order_acquire) == 0) return *step;
        return *steps.emplace_back(std::make_unique<Step>(buffers));
    }

    Buffers buffers;
    std::vector<std::unique_ptr<Step>> steps;  // as many as there are late helpers, plus one
    Pool pool;                                 // the last member: its threads end before what they look at
};

}  // namespace

extern "C" {

const char* hs_kind() {
#if defined(__AMX_INT8__)
    return "amx";
#elif defined(__AVX512VNNI__)
    return "avx512-vnni";
#elif defined(__AVX2__) && defined(__AVXVNNI__)
    return "avx-vnni";
#elif defined(__AVX2__)
    return "avx2";
#else
    return "portable";
#endif
}

#ifndef SOURCES
#define SOURCES ""
#endif
// Digest of what this was compiled from.
const char* hs_sources() { return SOURCES; }

// Whether the system lets this process use what the library was compiled for.
int hs_may_run() { return may_use_tiles(); }

// Padding of rows and matrix outputs, in floats: biases and rows of logits must have room for it.
int hs_padding() { return padded(1); }

Matrix* hs_matrix_new(int outputs, int inputs, const float* values) {
    Matrix* matrix = new (std::nothrow) Matrix(outputs, inputs, values);
    if (matrix && matrix->is_complete()) return matrix;
    delete matrix;
    return nullptr;
}
void hs_matrix_free(Matrix* matrix) { delete matrix; }
int64_t hs_matrix_bytes(const Matrix* matrix) { return (int64_t)matrix->bytes(); }

Forward* hs_forward_new(int threads) { return new (std::nothrow) Forward(threads); }
void hs_forward_free(Forward* forward) { delete forward; }

Kv* hs_kv_new(int layers, int heads, int dim) { return new (std::nothrow) Kv(layers, heads, dim); }
void hs_kv_free(Kv* kv) { delete kv; }
int64_t hs_kv_bytes(const Kv* kv) { return (int64_t)kv->bytes(); }

// Makes the rows `places[i]` (ascending) the positions `start + i`.
void hs_kv_keep(Kv* kv, int start, const int32_t* places, int count) {
    for (int i = 0; i < count; i++)
        if (places[i] != start + i) kv->move(places[i], start + i);
}

int hs_kv_copy(Kv* kv, const Kv* from, int length) {
    if (!kv->reserve(length, 0)) return -1;
    kv->copy(*from, length);
    return 0;
}

// logits: [wanted rows of all segments][vocabulary, padded]. -1: no memory.
int hs_forward(Forward* forward, const Model* model, const Segment* segments, int count, float* logits) {
    return forward->run(*model, segments, count, logits);
}
}
