// The queries of a block of attend, in the order of K's columns, and the RoPE rotations in tables.
#ifndef XQ_LIB_ATTEND_QUERY_CUH
#define XQ_LIB_ATTEND_QUERY_CUH

#include "attend_work.cuh"
#include "element.cuh"
#include "rope.cuh"

template <class C> struct attend_query {
    using map = typename C::map;
    using work = attend_work<C>;
    static constexpr int HEAD_DIM = C::HEAD_DIM, QUERY_ROWS = C::QUERY_ROWS, THREADS = work::THREADS;
    static constexpr int PAIRS = C::PAIRS, PAIR_COLUMNS = C::PAIR_COLUMNS, KEY_COLUMNS = C::KEY_COLUMNS;

    // A dimension of a row's query, as f16.
    static __device__ __forceinline__ f16 value(const xq_attend_params &p, const work &w, int row, int dim)
    {
        const int head = w.kv_head * work::GROUP_HEADS + w.rows.head(row);
        const size_t place = (size_t)(w.queries.first + w.rows.query(row)) * C::HEADS + head;
        return (f16)element<C::BF16>::to_f16x2(p.q[place * HEAD_DIM + dim]);
    }

    // The dimension of a head that a column of K holds, or -1 for a column of padding (gen/layout.lua, keys).
    static __device__ __forceinline__ int key_dimension(int column)
    {
        if (column >= 2 * PAIR_COLUMNS)
            return 2 * PAIRS + column - 2 * PAIR_COLUMNS < HEAD_DIM ? 2 * PAIRS + column - 2 * PAIR_COLUMNS : -1;
        const int second = column >= PAIR_COLUMNS, pair = column - second * PAIR_COLUMNS;
        if (C::INTERLEAVED)
            return pair < PAIRS ? 2 * pair + second : -1;
        return pair < PAIRS ? pair + second * PAIRS : -1;
    }

    // Loads the queries. Rows that do not exist are zero. Many queries are rotated here, by their distance to the
    // block's reference. One query is rotated later, against each tile.
    static __device__ __forceinline__ void load(const xq_attend_params &p, const work &w)
    {
        if constexpr (C::MANY && PAIRS > 0) {
            load_rotated(p, w);
            load_columns<2 * PAIR_COLUMNS>(p, w);
        } else {
            load_columns<0>(p, w);
        }
    }

    // The rotation of a column of pairs by a distance. Columns of padding are not rotated.
    static __device__ __forceinline__ float2 column_rotation(int distance, int column)
    {
        return column < PAIRS ? rope_rotation(distance, C::TURNS[column]) : make_float2(1, 0);
    }

    static __device__ __forceinline__ void fill_row_turns()
    {
        for (int i = threadIdx.x; i < 16 * PAIR_COLUMNS; i += THREADS)
            map::row_turns(i / PAIR_COLUMNS)[i % PAIR_COLUMNS] = column_rotation(i / PAIR_COLUMNS, i % PAIR_COLUMNS);
    }

  private:
    // Loads the columns of pairs, rotated.
    static __device__ __forceinline__ void load_rotated(const xq_attend_params &p, const work &w)
    {
        for (int i = threadIdx.x; i < QUERY_ROWS * PAIR_COLUMNS; i += THREADS) {
            const int row = i / PAIR_COLUMNS, column = i % PAIR_COLUMNS;
            float x = 0, y = 0;
            if (row < w.rows.count && column < PAIRS) {
                const int distance = w.queries.position(p.queries, w.rows.query(row)) - w.reference;
                x = f32_from_f16(value(p, w, row, key_dimension(column))) * C::ROTARY_FACTOR;
                y = f32_from_f16(value(p, w, row, key_dimension(column + PAIR_COLUMNS))) * C::ROTARY_FACTOR;
                rope_rotate(x, y, rope_rotation(distance, C::TURNS[column]));
            }
            map::query_row(row)[column] = f16_from_f32(x);
            map::query_row(row)[column + PAIR_COLUMNS] = f16_from_f32(y);
        }
    }

    // Loads the columns from FIRST on, as they are.
    template <int FIRST>
    static __device__ __forceinline__ void load_columns(const xq_attend_params &p, const work &w)
    {
        constexpr int COLUMNS = KEY_COLUMNS - FIRST;
        if constexpr (COLUMNS > 0) {
            for (int i = threadIdx.x; i < QUERY_ROWS * COLUMNS; i += THREADS) {
                const int row = i / COLUMNS, column = FIRST + i % COLUMNS, dim = key_dimension(column);
                map::query_row(row)[column] = row < w.rows.count && dim >= 0 ? value(p, w, row, dim) : (f16)0;
            }
        }
    }
};

#endif
