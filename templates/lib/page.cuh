// The page table of the sequences, in FlashInfer's CSR form (xq_page_table).
#ifndef XQ_LIB_PAGE_CUH
#define XQ_LIB_PAGE_CUH

#include "params.h"

// The number of tokens in a sequence; 0 for a sequence without pages.
__device__ __forceinline__ int sequence_tokens(const xq_table &table, int sequence, int page_tokens)
{
    int pages = table.indptr[sequence + 1] - table.indptr[sequence];
    return pages > 0 ? (pages - 1) * page_tokens + table.last_page_len[sequence] : 0;
}

// The page of the pool that holds a token. The token must be within the sequence.
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

// The number of tokens in a table entry's page. It is 0 for entries beyond the table's end, because a grid may be
// larger than the table: the host, which launches the grid, knows only a bound of the table's size.
__device__ __forceinline__ int tokens_of_entry(const xq_table &table, int sequence, int entry, int page_tokens)
{
    const int end = table.indptr[sequence + 1];
    if (entry >= end)
        return 0;
    return entry + 1 == end ? table.last_page_len[sequence] : page_tokens;
}

#endif
