/* Maps the elements of a packed matrix or vector to their source: rows and columns of the caller's matrix,
 * reordered and padded. */
#ifndef RUNTIME_HOST_PACK_VIEW_H
#define RUNTIME_HOST_PACK_VIEW_H

#include "../launch/shape.h"

/* Element (k, n) of a packed matrix is source[row[k] * row_step + col[n] * col_step], or 0 if row[k] or
 * col[n] is negative. A vector has one row. */
struct pack_view {
    const float *source;
    int32_t source_rows, source_cols;
    int32_t rows, cols;
    const int32_t *row, *col;
    int64_t row_step, col_step;
    int32_t *map; /* the memory that row and col point into */
};

/* Errors: XQ_ERROR_ARGUMENT (weights.SOURCE) for a missing matrix, XQ_ERROR_MEMORY, XQ_ERROR_INTERNAL where
 * spec and library disagree. pack_view_free after success only. */
xq_status pack_view_matrix(const struct shape *shape, const xq_weights *weights,
                           const struct shape_matrix *m, struct pack_view *view, error *err);
xq_status pack_view_vector(const struct shape *shape, const xq_weights *weights,
                           const struct shape_vector *v, struct pack_view *view, error *err);
void pack_view_free(struct pack_view *view);

/* The index of element (k, n) in the source; -1 if the element is 0. */
static inline int64_t pack_view_index(const struct pack_view *view, int32_t k, int32_t n)
{
    return view->row[k] < 0 || view->col[n] < 0
               ? -1
               : view->row[k] * view->row_step + view->col[n] * view->col_step;
}

static inline float pack_view_at(const struct pack_view *view, int32_t k, int32_t n)
{
    int64_t i = pack_view_index(view, k, n);
    return i < 0 ? 0 : view->source[i];
}

#endif
