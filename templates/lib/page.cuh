// Sequences in pages: FlashInfer's CSR table (xq_page_table).
#ifndef XQ_LIB_PAGE_CUH
#define XQ_LIB_PAGE_CUH

#include "params.h"

// Tokens in a sequence; 0 for one without pages.
__device__ __forceinline__ int sequence_tokens(const xq_table &table, int sequence, int page_tokens)
{
    int pages = table.indptr[sequence + 1] - table.indptr[sequence];
    return pages > 0 ? (pages - 1) * page_tokens + table.last_page_len[sequence] : 0;
}

// The pool's page that holds a token. Only to be asked for tokens within the sequence.
__device__ __forceinline__ int page_of_token(const xq_table &table, int sequence, int token, int page_tokens)
{
    int entry = table.indptr[sequence] + token / page_tokens;
    return table.indices ? table.indices[entry] : entry;
}

// The sequence that owns a table entry: the last one that starts at or before it.
__device__ __forceinline__ int sequence_of_entry(const xq_table &table, int batch, int entry)
{
    int low = 0, high = batch - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (table.indptr[middle] <= entry)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// Tokens in a table entry's page; 0 for an entry beyond the table's end, so that a grid may be larger than
// the table: the host that launches it knows only a bound.
__device__ __forceinline__ int tokens_of_entry(const xq_table &table, int sequence, int entry, int page_tokens)
{
    const int end = table.indptr[sequence + 1];
    if (entry >= end)
        return 0;
    return entry + 1 == end ? table.last_page_len[sequence] : page_tokens;
}

#endif
