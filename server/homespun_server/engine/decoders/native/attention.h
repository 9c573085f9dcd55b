// Keys and values of one sequence, and attention over them.
//
// A row sees the positions of its own path: the first `common` ones of the cache, and for a branch of a tree the places
// of a few more. Scores are brought into the order of the path before anything is added up, so that a path has the same
// result wherever its rows lie.
#pragma once
#include <limits>

#include "matrix.h"

constexpr int BLOCKS = 4;             // of W positions: how many are scored at once
constexpr int STRIDE = BLOCKS * W;    // capacities are multiples of it

struct Kv {
    int layers, heads, dim, capacity = 0;
    half_t* keys = nullptr;    // [layer][head][position / W][dim][W]: scores of W positions in one vector
    half_t* values = nullptr;  // [layer][head][position][dim]

    Kv(int layers, int heads, int dim) : layers(layers), heads(heads), dim(dim) {}
    ~Kv() { free(keys), free(values); }

    size_t bytes() const { return 2 * sizeof(half_t) * (size_t)layers * heads * dim * capacity; }
    half_t* head_keys(int layer, int head) const { return keys + ((size_t)layer * heads + head) * capacity * dim; }
    half_t* head_values(int layer, int head) const { return values + ((size_t)layer * heads + head) * capacity * dim; }
    static size_t key_offset(int position, int d, int dim) {
        return ((size_t)(position / W) * dim + d) * W + position % W;
    }

    // Room for `length` positions; the first `used` are kept. False when there is no memory: nothing has changed then.
    bool reserve(int length, int used) {
        if (length <= capacity) return true;
        const int wanted = (std::max(length, capacity + capacity / 2) + 255) / 256 * 256;
        Kv larger(layers, heads, dim);
        const size_t count = (size_t)layers * heads * dim * wanted;
        larger.keys = static_cast<half_t*>(calloc(count, sizeof(half_t)));
        larger.values = static_cast<half_t*>(calloc(count, sizeof(half_t)));
        if (!larger.keys || !larger.values) return false;
        larger.capacity = wanted;
        larger.copy(*this, used);
        std::swap(keys, larger.keys), std::swap(values, larger.values), std::swap(capacity, larger.capacity);
        return true;
    }

    void copy(const Kv& other, int length) {
        const size_t key_count = (size_t)(length + W - 1) / W * W * dim, value_count = (size_t)length * dim;
        for (int l = 0; length > 0 && l < layers; l++)
            for (int h = 0; h < heads; h++) {
                memcpy(head_keys(l, h), other.head_keys(l, h), key_count * sizeof(half_t));
                memcpy(head_values(l, h), other.head_values(l, h), value_count * sizeof(half_t));
            }
    }

    void move(int from, int to) {
        for (int l = 0; l < layers; l++)
            for (int h = 0; h < heads; h++) {
                half_t *k = head_keys(l, h), *v = head_values(l, h);
                for (int d = 0; d < dim; d++) k[key_offset(to, d, dim)] = k[key_offset(from, d, dim)];
                memcpy(v + (size_t)to * dim, v + (size_t)from * dim, dim * sizeof(half_t));
            }
    }
};

struct Path {                 // what one row sees
    int common;               // positions 0 .. common - 1 of the cache
    std::vector<int> others;  // places of the rest, ascending
    int length() const { return common + (int)others.size(); }
};

struct Query {  // one head of one row
    const float* q;
    const Path* path;
    float* out;
};

// scores[r][position] for STRIDE positions from `block` on, of ROWS queries.
template <int ROWS>
static void score_blocks(const Query* queries, const half_t* keys, int dim, float* const* scores, int position) {
    vf acc[ROWS][BLOCKS] = {};
    const half_t* block = keys + (size_t)position * dim;
    for (int d = 0; d < dim; d++) {
        vf key[BLOCKS];
        for (int b = 0; b < BLOCKS; b++) key[b] = widen(block + ((size_t)b * dim + d) * W);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int b = 0; b < BLOCKS; b++) acc[r][b] = fma(splat(queries[r].q[d]), key[b], acc[r][b]);
    }
    for (int r = 0; r < ROWS; r++)
        for (int b = 0; b < BLOCKS; b++) store(scores[r] + position + b * W, acc[r][b]);
}

// Adds up values[j] * weights[j] for j < count in their order, on top of `out`.
template <int ROWS, int VECTORS>
static void add_values(const Query* queries, const half_t* values, int dim, int d, float* const* weights, int count) {
    vf acc[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) acc[r][v] = load(queries[r].out + d + v * W);
    for (int j = 0; j < count; j++) {
        const half_t* row = values + (size_t)j * dim + d;
        vf value[VECTORS];
        for (int v = 0; v < VECTORS; v++) value[v] = widen(row + v * W);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const vf weight = splat(weights[r][j]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) acc[r][v] = fma(weight, value[v], acc[r][v]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) store(queries[r].out + d + v * W, acc[r][v]);
}

static void add_value(float* out, const half_t* value, float weight, int dim) {
    for (int d = 0; d < dim; d += W) store(out + d, fma(splat(weight), widen(value + d), load(out + d)));
}

// Turns scores into weights; returns 1 / their sum. `scores` has room up to the next multiple of W.
static float soften(float* scores, int length, int window) {
    const float nothing = -std::numeric_limits<float>::infinity();
    for (int j = 0; window > 0 && j < length - window; j++) scores[j] = nothing;
    const int end = (length + W - 1) / W * W;
    for (int j = length; j < end; j++) scores[j] = nothing;
    vf best = splat(nothing), total{};
    for (int j = 0; j < end; j += W) best = max(best, load(scores + j));
    const vf top = splat(largest(best));
    for (int j = 0; j < end; j += W) {
        const vf weight = exponential(load(scores + j) - top);
        store(scores + j, weight);
        total += weight;
    }
    return 1 / sum(total);
}

// ROWS queries of one head; `first` is where the segment's own rows begin, `places` how many positions are written.
template <int ROWS>
static void attend(const Query* queries, const Kv& kv, int layer, int head, int places, int window,
                   float* const* scores) {
    const int dim = kv.dim;
    const half_t *keys = kv.head_keys(layer, head), *values = kv.head_values(layer, head);
    int seen = 0, common = std::numeric_limits<int>::max();
    for (int r = 0; r < ROWS; r++) {
        const Path& path = *queries[r].path;
        seen = std::max(seen, path.others.empty() ? path.common : places);
        common = std::min(common, path.common);
    }
    for (int at = 0; at < seen; at += STRIDE) score_blocks<ROWS>(queries, keys, dim, scores, at);
    float inverse[ROWS];
    for (int r = 0; r < ROWS; r++) {
        const Path& path = *queries[r].path;
        for (size_t j = 0; j < path.others.size(); j++) scores[r][path.common + j] = scores[r][path.others[j]];
        inverse[r] = soften(scores[r], path.length(), window);
        memset(queries[r].out, 0, dim * sizeof(float));
    }
    int d = 0;
    for (; d + PANELS * W <= dim; d += PANELS * W)
        add_values<ROWS, PANELS>(queries, values, dim, d, scores, common);
    for (; d < dim; d += W) add_values<ROWS, 1>(queries, values, dim, d, scores, common);
    for (int r = 0; r < ROWS; r++) {
        const Path& path = *queries[r].path;
        float* out = queries[r].out;
        for (int j = common; j < path.common; j++) add_value(out, values + (size_t)j * dim, scores[r][j], dim);
        for (size_t j = 0; j < path.others.size(); j++)
            add_value(out, values + (size_t)path.others[j] * dim, scores[r][path.common + j], dim);
        for (int i = 0; i < dim; i += W) store(out + i, load(out + i) * inverse[r]);
    }
}

template <int ROWS>
static void attend_rest(int rows, const Query* queries, const Kv& kv, int layer, int head, int places, int window,
                        float* const* scores) {
    if constexpr (ROWS > 0) {
        if (rows == ROWS) attend<ROWS>(queries, kv, layer, head, places, window, scores);
        else attend_rest<ROWS - 1>(rows, queries, kv, layer, head, places, window, scores);
    }
}
