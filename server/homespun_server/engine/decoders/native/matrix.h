// Matrices of 8-bit integers with a scale per output and GROUP inputs, times rows quantised the same way.
//
// Within a group the sum is exact (32-bit integers); the groups of a row are added up in their order. So a row's result
// does not depend on the rows beside it. Layout: tiles of TILE outputs; in a tile, for every 4 inputs, PANELS vectors
// of W outputs x 4 inputs, which is what `dot4` takes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "vec.h"

#ifndef GROUP
#define GROUP 64
#endif
constexpr int PANELS = 4, TILE = PANELS * W;
constexpr int BLOCK = 16;  // rows whose scales lie together, as `amx.h` takes them

static inline int groups_of(int inputs) { return (inputs + GROUP - 1) / GROUP; }

template <typename T>
class Buffer {  // aligned to cache lines; grows, never shrinks, doesn't keep its content
   public:
    ~Buffer() { free(data); }
    T* at_least(size_t n) {
        if (n > capacity) {
            free(data);
            data = static_cast<T*>(aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64));
            capacity = data ? n : 0;
        }
        return data;
    }
    T* data = nullptr;
    size_t capacity = 0;
};

struct Matrix {
    int outputs, inputs, groups, tiles;
    Buffer<uint8_t> weights;
    Buffer<float> scales;  // [tile][group][TILE]

    Matrix(int outputs, int inputs, const float* values) : outputs(outputs), inputs(inputs) {
        groups = groups_of(inputs);
        tiles = (outputs + TILE - 1) / TILE;
        const size_t bytes = (size_t)tiles * groups * GROUP * TILE, scale_count = (size_t)tiles * groups * TILE;
        if (!weights.at_least(bytes) || !scales.at_least(scale_count)) return;
        memset(weights.data, WEIGHT_BIAS, bytes);
        memset(scales.data, 0, scale_count * sizeof(float));
        for (int n = 0; n < outputs; n++)
            for (int g = 0; g < groups; g++) pack(n, g, values + (size_t)n * inputs);
    }

    bool is_complete() const { return weights.data && scales.data; }  // else there was no memory
    const uint8_t* tile(int t) const { return weights.data + (size_t)t * groups * GROUP * TILE; }
    const float* tile_scales(int t) const { return scales.data + (size_t)t * groups * TILE; }
    size_t bytes() const { return weights.capacity + scales.capacity * sizeof(float); }

   private:
    void pack(int n, int g, const float* row) {
        const int first = g * GROUP, last = std::min(inputs, first + GROUP), t = n / TILE, channel = n % TILE;
        float biggest = 0;
        for (int k = first; k < last; k++) biggest = std::max(biggest, std::fabs(row[k]));
        const float scale = biggest / 127;
        scales.data[((size_t)t * groups + g) * TILE + channel] = scale;
        uint8_t* to = weights.data + (size_t)t * groups * GROUP * TILE;
        for (int k = first; k < last; k++) {
            const int value = scale > 0 ? (int)std::lrintf(row[k] / scale) : 0;
            to[(size_t)(k / 4) * 4 * TILE + channel * 4 + k % 4] = (uint8_t)(value + WEIGHT_BIAS);
        }
    }
};

// Rows of a matrix's inputs as signed bytes with a scale per group, and what the weights' bias adds to a group's sum.
struct Quantised {
    Buffer<int8_t> values;   // [row][group][GROUP]
    Buffer<float> scales;    // [row / BLOCK][group][row % BLOCK]
    Buffer<int32_t> excess;  // the same

    bool reserve(int rows, int inputs) {
        const size_t groups = (size_t)(rows + BLOCK - 1) / BLOCK * BLOCK * groups_of(inputs);
        return values.at_least(groups * GROUP) && scales.at_least(groups) && excess.at_least(groups);
    }

    // Where the scale of a row's first group is; those of the next groups follow at steps of BLOCK.
    static size_t first_scale(int row, int groups) { return (size_t)(row / BLOCK) * groups * BLOCK + row % BLOCK; }

    // `from` has room for a multiple of GROUP floats; what is beyond `inputs` is set to 0.
    void set_row(int row, float* from, int inputs) {
        const int groups = groups_of(inputs);
        for (int k = inputs; k < groups * GROUP; k++) from[k] = 0;
        const size_t first = first_scale(row, groups);
        for (int g = 0; g < groups; g++)
            set_group(values.data + ((size_t)row * groups + g) * GROUP, first + (size_t)g * BLOCK, from + g * GROUP);
    }

   private:
    void set_group(int8_t* to, size_t at, const float* x) {
        vf biggest{};
        for (int k = 0; k < GROUP; k += W) biggest = max(biggest, absolute(load(x + k)));
        const float scale = largest(biggest) / 127, inverse = scale > 0 ? 1 / scale : 0;
        vi total{};
        for (int k = 0; k < GROUP; k += W) {
            const vi q = __builtin_convertvector(rounded(load(x + k) * inverse), vi);
            const vb bytes = __builtin_convertvector(q, vb);
            memcpy(to + k, &bytes, W);
            total += q;
        }
        int32_t all = 0;
        for (int i = 0; i < W; i++) all += total[i];
        scales.data[at] = scale;
        excess.data[at] = WEIGHT_BIAS * all;
    }
};

// ROWS rows from `row` on times one tile; `emit(row, channel, vector)` gets W outputs at a time.
template <int ROWS, typename Emit>
static void multiply_rows(const Matrix& m, int t, const Quantised& x, int row, const Emit& emit) {
    const int groups = m.groups;
    const uint8_t* weights = m.tile(t);
    const float* scales = m.tile_scales(t);
    vf result[ROWS][PANELS] = {};
    size_t at[ROWS];
    for (int r = 0; r < ROWS; r++) at[r] = Quantised::first_scale(row + r, groups);
    for (int g = 0; g < groups; g++) {
        vi acc[ROWS][PANELS];
        for (int r = 0; r < ROWS; r++)
            for (int p = 0; p < PANELS; p++) acc[r][p] = vi{} - x.excess.data[at[r] + (size_t)g * BLOCK];
        const int8_t* values = x.values.data + ((size_t)row * groups + g) * GROUP;
        for (int k = 0; k < GROUP; k += 4) {
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
                for (int p = 0; p < PANELS; p++)
                    acc[r][p] = dot4(acc[r][p], weights + p * 4 * W, values + (size_t)r * groups * GROUP + k);
            weights += 4 * TILE;
        }
        for (int r = 0; r < ROWS; r++) {
            const float scale = x.scales.data[at[r] + (size_t)g * BLOCK];
            for (int p = 0; p < PANELS; p++)
                result[r][p] = fma(__builtin_convertvector(acc[r][p], vf), load(scales + p * W) * scale, result[r][p]);
        }
        scales += TILE;
    }
    for (int r = 0; r < ROWS; r++)
        for (int p = 0; p < PANELS; p++) emit(row + r, t * TILE + p * W, result[r][p]);
}

template <int ROWS, typename Emit>
static void multiply_rest(const Matrix& m, int t, const Quantised& x, int row, int rest, const Emit& emit) {
    if constexpr (ROWS > 0) {
        if (rest == ROWS) multiply_rows<ROWS>(m, t, x, row, emit);
        else multiply_rest<ROWS - 1>(m, t, x, row, rest, emit);
    }
}
