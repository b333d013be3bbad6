/* Loads, stores, atomics, asynchronous copies, fences and control flow: PTX ISA 9.7.9, 9.7.12, 9.7.13. */
#include "ptx_harness.h"

#include <math.h>

#define WARP(identifier)                                                                                   \
    static void identifier(const struct ptx_case *self, uint64_t a[][PTX_LANES], uint64_t d[][PTX_LANES])

/* Element `i` of the constant bank `table`. */
static uint32_t table_entry(uint32_t i)
{
    return i * 0x01010101u;
}

/* All lanes add to one counter, in any order, and then each lane loads the sum. */
WARP(all_lanes)
{
    (void)self;
    uint64_t sum = 0;
    for (int lane = 0; lane < PTX_LANES; lane++)
        sum += (uint32_t)a[0][lane];
    for (int lane = 0; lane < PTX_LANES; lane++)
        d[0][lane] = (uint32_t)sum;
}

WARP(ticket_mask)
{
    (void)self, (void)a;
    for (int lane = 0; lane < PTX_LANES; lane++)
        d[0][lane] = 0xffffffff; /* each ticket 0 .. 31 was drawn by one lane */
}

WARP(neighbour)
{
    (void)self;
    for (int lane = 0; lane < PTX_LANES; lane++)
        d[0][lane] = a[0][lane ^ 1];
}

WARP(block_votes)
{
    (void)self;
    uint32_t set = 0;
    for (int lane = 0; lane < PTX_LANES; lane++)
        set += a[0][lane] != 0;
    for (int lane = 0; lane < PTX_LANES; lane++) {
        d[0][lane] = set;
        d[1][lane] = set == PTX_LANES;
        d[2][lane] = set != 0;
    }
}

static uint32_t collatz_steps(uint32_t x)
{
    uint32_t steps = 0;
    for (; x > 1; steps++)
        x = x & 1 ? 3 * x + 1 : x / 2;
    return steps;
}

/* Cases of atom: %a0 is stored first, %d0 is the old value that atom returns, and %d1 is the value
 * afterwards. */
#define ATOM(identifier, instruction, bits, letters, results, old, ...)                                    \
    CASE(identifier##_global,                                                                              \
         "st.global.b" #bits " [%lane_scratch], %a0; atom.global." instruction                             \
         " %d0, [%lane_scratch], " old "; "                                                                \
         "ld.global.b" #bits " %d1, [%lane_scratch];",                                                     \
         letters, results, d[0] = a[0];                                                                    \
         __VA_ARGS__)                                                                                      \
    CASE(identifier##_shared,                                                                              \
         "st.shared.b" #bits " [%lane_shared], %a0; atom.shared." instruction " %d0, [%lane_shared], " old \
         "; "                                                                                              \
         "ld.shared.b" #bits " %d1, [%lane_shared];",                                                      \
         letters, results, d[0] = a[0];                                                                    \
         __VA_ARGS__)

// clang-format off
CASE(ld_st_global_b8, "st.global.b8 [%lane_scratch+3], %a0; ld.global.u8 %d0, [%lane_scratch+3]; ld.global.s8 %d1, [%lane_scratch+3];",
     "r", "rr", d[0] = U(0) & 0xff; d[1] = (uint32_t)(int8_t)U(0))
CASE(ld_st_global_b16, "st.global.u16 [%lane_scratch+6], %a0; ld.global.u16 %d0, [%lane_scratch+6]; ld.global.s16 %d1, [%lane_scratch+6];",
     "h", "hr", d[0] = U16(0); d[1] = (uint32_t)I16(0))
CASE(ld_st_global_v2_b16, "st.global.v2.b16 [%lane_scratch+4], {%a0,%a1}; ld.global.b32 %d0, [%lane_scratch+4];", "hh", "r",
     R(L(0) | L(1) << 16))
CASE(ld_st_global_v2, "st.global.v2.u32 [%lane_scratch+8], {%a0,%a1}; ld.global.v2.u32 {%d0,%d1}, [%lane_scratch+8];", "rr", "rr",
     d[0] = U(0); d[1] = U(1))
CASE(ld_st_global_v4, "st.global.v4.f32 [%lane_scratch], {%a0,%a1,%a2,%a3}; ld.global.v4.b32 {%d0,%d1,%d2,%d3}, [%lane_scratch];",
     "rrrr", "rrrr", d[0] = U(0); d[1] = U(1); d[2] = U(2); d[3] = U(3))
CASE(ld_st_global_v2_b64, "st.global.v2.u64 [%lane_scratch], {%a0,%a1}; ld.global.v2.b64 {%d0,%d1}, [%lane_scratch];", "ll", "ll",
     d[0] = L(0); d[1] = L(1))
CASE(ld_st_global_v4_b8, "st.global.v4.u8 [%lane_scratch], {%a0,%a1,%a2,%a3}; ld.global.b32 %d0, [%lane_scratch];", "rrrr", "r",
     R((U(0) & 255) | (U(1) & 255) << 8 | (U(2) & 255) << 16 | U(3) << 24))
CASE(ld_global_nc, "ld.global.nc.v4.u32 {%d0,%d1,%d2,%d3}, [%lane_scratch]; ld.global.nc.L1::no_allocate.v4.u32 {%d4,%d5,%d6,%d7}, [%lane_scratch];"
     "ld.global.nc.b16 %d8, [%in];", "h", "rrrrrrrrh", d[8] = U16(0))
CASE(ld_cache_operators, "st.global.cg.b32 [%lane_scratch], %a0; ld.global.cg.b32 %d0, [%lane_scratch]; ld.global.ca.b32 %d1, [%lane_scratch];"
     "ld.global.cs.b32 %d2, [%lane_scratch]; st.global.wb.b32 [%lane_scratch+4], %a0; ld.global.cv.b32 %d3, [%lane_scratch+4];"
     "ld.global.lu.b32 %d4, [%lane_scratch]; st.global.cs.b32 [%lane_scratch], %a0; st.global.wt.b32 [%lane_scratch], %a0;"
     "ld.global.L2::128B.b32 %d5, [%lane_scratch]; ld.global.L1::evict_last.b32 %d6, [%lane_scratch];", "r", "rrrrrrr",
     for (int i = 0; i < 7; i++) d[i] = U(0))
CASE(ld_memory_model, "st.relaxed.gpu.global.b32 [%lane_scratch], %a0; ld.relaxed.gpu.global.b32 %d0, [%lane_scratch];"
     "st.release.gpu.global.u32 [%lane_scratch+4], %a0; ld.acquire.gpu.global.u32 %d1, [%lane_scratch+4];"
     "st.volatile.global.b32 [%lane_scratch+8], %a0; ld.volatile.global.b32 %d2, [%lane_scratch+8];"
     "ld.acquire.sys.global.b32 %d3, [%lane_scratch+8]; ld.weak.global.b32 %d4, [%lane_scratch+8];", "r", "rrrrr",
     for (int i = 0; i < 5; i++) d[i] = U(0))
CASE(ld_st_generic, "st.b32 [%lane_scratch], %a0; ld.b32 %d0, [%lane_scratch]; cvt.u64.u32 %l0, %lane_shared; cvta.shared.u64 %l1, %l0;"
     "st.v2.b32 [%l1+8], {%a0,%a1}; ld.b32 %d1, [%l1+12]; ld.shared.b32 %d2, [%lane_shared+8]; st.u64 [%lane_local+16], %a2;"
     "ld.u64 %d3, [%lane_local+16];", "rrl", "rrrl", d[0] = U(0); d[1] = U(1); d[2] = U(0); d[3] = L(2))
CASE(ld_st_shared, "st.shared.b8 [%lane_shared+1], %a0; st.shared.b8 [%lane_shared], %a1; ld.shared.u16 %d0, [%lane_shared];"
     "st.shared.v4.b32 [%lane_shared], {%a0,%a1,%a0,%a1}; ld.shared.v2.b64 {%d1,%d2}, [%lane_shared]; ld.shared.s8 %d3, [%lane_shared+4];",
     "rr", "hllr", d[0] = (U(0) & 255) << 8 | (U(1) & 255); d[1] = d[2] = L(0) | L(1) << 32; d[3] = (uint32_t)(int8_t)U(1))
CASE(ld_st_shared_symbol, "bar.warp.sync -1; setp.eq.u32 %p0, %lane, 0; @%p0 st.shared.b32 [memory+2048], %a0; bar.warp.sync -1;"
     "st.shared.b32 [%lane_shared], %a0; mov.u32 %t0, memory; ld.shared.b32 %t1, [%t0+2048]; ld.shared.b32 %t2, [memory+2048];"
     "sub.u32 %d0, %t1, %t2; ld.shared.volatile.b32 %d1, [%lane_shared];", "r", "rr", d[0] = 0; d[1] = U(0))
CASE(ld_st_local, "st.local.b32 [frame+4], %a0; st.local.v2.b32 [frame+8], {%a1,%a0}; mov.u64 %l0, frame; ld.local.b32 %d0, [%l0+4];"
     "ld.local.b64 %d1, [%l0+8]; st.local.u8 [%l0+63], %a1; ld.local.u8 %d2, [frame+63]; ld.b32 %d3, [%lane_local+4];", "rr", "rlrr",
     d[0] = U(0); d[1] = L(1) | L(0) << 32; d[2] = U(1) & 255; d[3] = U(0))
CASE(ld_const, "and.b32 %t0, %a0, 63; mul.wide.u32 %l0, %t0, 4; mov.u64 %l1, table; add.s64 %l0, %l0, %l1; ld.const.u32 %d0, [%l0];"
     "ld.const.u32 %d1, [table+20]; ld.const.v2.u32 {%d2,%d3}, [table+8]; ld.const.u8 %d4, [%l0+1]; cvta.const.u64 %l2, %l1; ld.u32 %d5, [%l2+12];",
     "r", "rrrrrr", d[0] = table_entry(U(0) & 63); d[1] = table_entry(5); d[2] = table_entry(2); d[3] = table_entry(3);
     d[4] = table_entry(U(0) & 63) >> 8 & 255; d[5] = table_entry(3))
CASE(ld_param, "ld.param.v2.u64 {%l0,%l1}, [params]; ld.param.b64 %l2, [params+16]; ld.param.u32 %t0, [params+8]; cvt.u32.u64 %t1, %l1;"
     "sub.u32 %d0, %t0, %t1; mov.b64 %l3, params; ld.param.b64 %l4, [%l3+16]; sub.s64 %l4, %l4, %l2; cvt.u32.u64 %d1, %l4;", "", "rr",
     d[0] = d[1] = 0)
CASE_MODULE(ld_st_module_global, ".global .align 8 .u32 numbers[4] = {10, 20, 30, 40}; .global .align 4 .f32 third = 0f40400000; .global .align 1 .b8 text[6] = {104, 101, 108, 108, 111};",
     "ld.global.u32 %d0, [numbers+8]; mov.u64 %l0, numbers; ld.global.v2.u32 {%d1,%d2}, [%l0]; ld.global.f32 %d3, [third];"
     "ld.global.u8 %d4, [text+4]; ld.global.u8 %d5, [text+5];", "", "rrrrrr",
     d[0] = 30; d[1] = 10; d[2] = 20; d[3] = 0x40400000; d[4] = 111; d[5] = 0)
CASE_MODULE(ld_const_pointer, ".const .align 4 .b8 bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8}; .const .align 8 .u64 pointer = generic(table);",
     "ld.const.b32 %d0, [bytes]; ld.const.b32 %d1, [bytes+4];", "", "rr", d[0] = 0x04030201; d[1] = 0x08070605)
CASE_MODULE(shared_module, ".shared .align 16 .b8 outside[512]; .extern .shared .align 16 .b8 dynamic[];",
     "mov.u32 %t0, outside; shl.b32 %t1, %lane, 4; add.s32 %t0, %t0, %t1; st.shared.b32 [%t0+4], %a0; ld.shared.b32 %d0, [%t0+4];"
     "mov.u32 %t2, dynamic; mov.u32 %d1, 1;", "r", "rr", d[0] = U(0); d[1] = 1)
ATOM(atom_add_u32, "add.u32", 32, "rr", "rr", "%a1", d[1] = U(0) + U(1))
ATOM(atom_add_s32, "add.s32", 32, "rr", "rr", "%a1", d[1] = U(0) + U(1))
ATOM(atom_add_u64, "add.u64", 64, "ll", "ll", "%a1", d[1] = L(0) + L(1))
ATOM(atom_add_f32, "add.f32", 32, "uu", "rf", "%a1", d[1] = ptx_encode(ptx_add(F(0), F(1)), &ptx_f32, RN))
ATOM(atom_add_f64, "add.f64", 64, "dd", "ld", "%a1", d[1] = ptx_double_bits(D(0) + D(1)))
ATOM(atom_min_s32, "min.s32", 32, "rr", "rr", "%a1", d[1] = (uint32_t)(I(0) < I(1) ? I(0) : I(1)))
ATOM(atom_max_s32, "max.s32", 32, "rr", "rr", "%a1", d[1] = (uint32_t)(I(0) > I(1) ? I(0) : I(1)))
ATOM(atom_min_u32, "min.u32", 32, "rr", "rr", "%a1", d[1] = U(0) < U(1) ? U(0) : U(1))
ATOM(atom_max_u32, "max.u32", 32, "rr", "rr", "%a1", d[1] = U(0) > U(1) ? U(0) : U(1))
ATOM(atom_max_u64, "max.u64", 64, "ll", "ll", "%a1", d[1] = L(0) > L(1) ? L(0) : L(1))
ATOM(atom_and_b32, "and.b32", 32, "rr", "rr", "%a1", d[1] = U(0) & U(1))
ATOM(atom_or_b32, "or.b32", 32, "rr", "rr", "%a1", d[1] = U(0) | U(1))
ATOM(atom_xor_b32, "xor.b32", 32, "rr", "rr", "%a1", d[1] = U(0) ^ U(1))
ATOM(atom_exch_b32, "exch.b32", 32, "rr", "rr", "%a1", d[1] = U(1))
ATOM(atom_exch_b64, "exch.b64", 64, "ll", "ll", "%a1", d[1] = L(1))
ATOM(atom_inc_u32, "inc.u32", 32, "rr", "rr", "%a1", d[1] = U(0) >= U(1) ? 0 : U(0) + 1)
ATOM(atom_dec_u32, "dec.u32", 32, "rr", "rr", "%a1", d[1] = U(0) == 0 || U(0) > U(1) ? U(1) : U(0) - 1)
ATOM(atom_cas_b32, "cas.b32", 32, "22r", "rr", "%a1, %a2", d[1] = U(0) == U(1) ? U(2) : U(0))
ATOM(atom_cas_b64, "cas.b64", 64, "lll", "ll", "%a1, %a2", d[1] = L(0) == L(1) ? L(2) : L(0))
ATOM(atom_add_f16x2, "add.noftz.f16x2", 32, "MM", "rP", "%a1",
     d[1] = ptx_encode(ptx_add(H(0), H(1)), &ptx_f16, RN) |
            ptx_encode(ptx_add(ptx_decode(U(0) >> 16, &ptx_f16), ptx_decode(U(1) >> 16, &ptx_f16)), &ptx_f16, RN) << 16)
CASE(atom_generic, "st.b32 [%lane_scratch], %a0; atom.add.u32 %d0, [%lane_scratch], %a1; atom.acq_rel.gpu.global.add.u32 %d1, [%lane_scratch], 1;"
     "atom.relaxed.sys.global.exch.b32 %d2, [%lane_scratch], 5;", "rr", "rrr", d[0] = U(0); d[1] = U(0) + U(1); d[2] = U(0) + U(1) + 1)
CASE(red_global, "st.global.b32 [%lane_scratch], %a0; red.global.add.u32 [%lane_scratch], %a1; red.relaxed.gpu.global.max.u32 [%lane_scratch], 100;"
     "ld.global.b32 %d0, [%lane_scratch];", "rr", "r", R(U(0) + U(1) > 100 ? U(0) + U(1) : 100))
CASE(red_shared, "st.shared.b32 [%lane_shared], %a0; red.shared.xor.b32 [%lane_shared], %a1; ld.shared.b32 %d0, [%lane_shared];", "rr", "r",
     R(U(0) ^ U(1)))
CASE_WARP(atom_contended_global, "atom.global.add.u32 %t0, [%scratch], %a0; bar.warp.sync -1; ld.global.cg.b32 %d0, [%scratch];", "r", "r", all_lanes)
CASE_WARP(red_contended_shared, "mov.u32 %t0, memory; st.shared.b32 [%lane_shared], 0; bar.warp.sync -1; red.shared.add.u32 [%t0], %a0;"
     "bar.warp.sync -1; ld.shared.b32 %d0, [%t0];", "r", "r", all_lanes)
CASE_WARP(atom_tickets, "atom.global.add.u32 %t0, [%scratch], 1; shl.b32 %t1, 1, %t0; redux.sync.or.b32 %d0, %t1, -1;", "", "r", ticket_mask)
CASE_WARP(shared_exchange, "st.shared.b32 [%lane_shared], %a0; bar.sync 0; xor.b32 %t0, %lane, 1; shl.b32 %t0, %t0, 4; mov.u32 %t1, memory;"
     "add.s32 %t0, %t0, %t1; ld.shared.b32 %d0, [%t0];", "r", "r", neighbour)
CASE_WARP(bar_variants, "st.shared.b32 [%lane_shared], %a0; bar.sync 1, 32; barrier.sync 0; barrier.sync.aligned 3; barrier.cta.sync 2;"
     "bar.warp.sync 0xffffffff; xor.b32 %t0, %lane, 1; shl.b32 %t0, %t0, 4; mov.u32 %t1, memory; add.s32 %t0, %t0, %t1; ld.shared.b32 %d0, [%t0];",
     "r", "r", neighbour)
CASE_WARP(bar_red, "setp.ne.u32 %p0, %a0, 0; bar.red.popc.u32 %d0, 0, %p0; bar.red.and.pred %p1, 0, %p0; barrier.red.or.pred %p2, 1, %p0;"
     "selp.b32 %d1, 1, 0, %p1; selp.b32 %d2, 1, 0, %p2;", "1", "rrr", block_votes)
CASE(fences, "membar.gl; membar.cta; membar.sys; fence.acq_rel.gpu; fence.sc.cta; fence.acq_rel.sys; mov.u32 %d0, %a0;", "r", "r", R(U(0)))
CASE(hints, "prefetch.global.L2 [%lane_scratch]; prefetch.global.L1 [%lane_scratch]; prefetchu.L1 [%lane_scratch]; nanosleep.u32 20; pmevent 1;"
     "discard.global.L2 [%scratch], 128; applypriority.global.L2::evict_normal [%scratch], 128; mov.u32 %d0, %a0;", "r", "r", R(U(0)))
CASE(cp_async_16, "st.global.v4.b32 [%lane_scratch], {%a0,%a1,%a2,%a3}; cp.async.cg.shared.global [%lane_shared], [%lane_scratch], 16;"
     "cp.async.commit_group; cp.async.wait_group 0; ld.shared.v4.b32 {%d0,%d1,%d2,%d3}, [%lane_shared];", "rrrr", "rrrr",
     for (int i = 0; i < 4; i++) d[i] = U(i))
CASE(cp_async_4_8, "st.global.v4.b32 [%lane_scratch], {%a0,%a1,%a2,%a3}; cp.async.ca.shared.global [%lane_shared], [%lane_scratch+4], 4;"
     "cp.async.ca.shared.global [%lane_shared+8], [%lane_scratch+8], 8; cp.async.wait_all; ld.shared.b32 %d0, [%lane_shared];"
     "ld.shared.v2.b32 {%d1,%d2}, [%lane_shared+8];", "rrrr", "rrr", d[0] = U(1); d[1] = U(2); d[2] = U(3))
CASE(cp_async_zero_fill, "st.global.v4.b32 [%lane_scratch], {%a0,%a1,%a2,%a3}; and.b32 %t0, %a4, 16; shr.u32 %t1, %t0, 1;"
     "cp.async.cg.shared.global [%lane_shared], [%lane_scratch], 16, %t1; cp.async.commit_group; cp.async.wait_group 0;"
     "ld.shared.v4.b32 {%d0,%d1,%d2,%d3}, [%lane_shared];", "rrrrr", "rrrr",
     d[0] = U(4) & 16 ? U(0) : 0; d[1] = U(4) & 16 ? U(1) : 0; d[2] = d[3] = 0)
CASE(cp_async_zero_fill_nothing_read, "mov.u64 %l0, 0; mov.u32 %t0, 0; cp.async.cg.shared.global [%lane_shared], [%l0], 16, %t0; cp.async.wait_all;"
     "ld.shared.v4.b32 {%d0,%d1,%d2,%d3}, [%lane_shared];", "", "rrrr", d[0] = d[1] = d[2] = d[3] = 0)
CASE(cp_async_predicate, "setp.ne.u32 %p0, %a1, 0; st.global.b32 [%lane_scratch], %a0; st.global.b32 [%lane_scratch+4], %a0;"
     "st.global.b64 [%lane_scratch+8], 0; cp.async.cg.shared.global [%lane_shared], [%lane_scratch], 16, %p0; cp.async.wait_all;"
     "ld.shared.b32 %d0, [%lane_shared+4];", "r1", "r", R(U(1) ? 0 : U(0)))
CASE(cp_async_groups, "st.global.v2.b32 [%lane_scratch], {%a0,%a1}; cp.async.ca.shared.global [%lane_shared], [%lane_scratch], 4; cp.async.commit_group;"
     "cp.async.ca.shared.global [%lane_shared+4], [%lane_scratch+4], 4; cp.async.commit_group; cp.async.wait_group 1; ld.shared.b32 %d0, [%lane_shared];"
     "cp.async.wait_group 0; ld.shared.b32 %d1, [%lane_shared+4];", "rr", "rr", d[0] = U(0); d[1] = U(1))
CASE(cp_async_empty_groups, "st.global.b32 [%lane_scratch], %a0; cp.async.ca.shared.global.L2::128B [%lane_shared], [%lane_scratch], 4;"
     "cp.async.commit_group; cp.async.commit_group; cp.async.commit_group; cp.async.wait_group 2; ld.shared.b32 %d0, [%lane_shared];", "r", "r", R(U(0)))
CASE(branch_diverged, "setp.lt.s32 %p0, %a0, 0; @%p0 bra NEGATIVE; add.s32 %d0, %a0, 1; bra DONE; NEGATIVE: sub.s32 %d0, %a0, 1; DONE:", "r", "r",
     R(I(0) < 0 ? U(0) - 1 : U(0) + 1))
CASE(branch_nested, "mov.u32 %d0, 0; setp.eq.u32 %p0, %a0, 0; @%p0 bra ZERO; setp.eq.u32 %p1, %a0, 1; @%p1 bra ONE; setp.eq.u32 %p2, %a0, 2; @%p2 bra TWO;"
     "mov.u32 %d0, 33; bra.uni END; TWO: mov.u32 %d0, 22; bra END; ONE: mov.u32 %d0, 11; bra END; ZERO: mov.u32 %d0, 7; END: add.s32 %d0, %d0, 1;",
     "2", "r", static const uint32_t gives[4] = {8, 12, 23, 34}; R(gives[U(0)]))
CASE(loop_diverged, "and.b32 %t0, %a0, 0xfff; mov.u32 %d0, 0; LOOP: setp.le.u32 %p0, %t0, 1; @%p0 bra DONE; add.s32 %d0, %d0, 1; and.b32 %t1, %t0, 1;"
     "setp.eq.u32 %p1, %t1, 1; @%p1 bra ODD; shr.u32 %t0, %t0, 1; bra LOOP; ODD: mad.lo.s32 %t0, %t0, 3, 1; bra.uni LOOP; DONE:", "r", "r",
     R(collatz_steps(U(0) & 0xfff)))
CASE(exit_early, "setp.eq.u32 %p0, %a0, 0; @%p0 exit; mov.u32 %d0, 9;", "1", "r", R(U(0) ? 9 : 0))
CASE(return_early, "setp.eq.u32 %p0, %a0, 0; @%p0 ret; mov.u32 %d0, 9;", "1", "r", R(U(0) ? 9 : 0))
CASE(scopes, "{ .reg .b32 %x; mov.u32 %x, 3; { .reg .b32 %x; mov.u32 %x, 4; add.s32 %t0, %x, %a0; } add.s32 %d0, %x, %t0; }", "r", "r", R(U(0) + 7))
CASE_MODULE(call_function, ".func (.param .b32 result) twice(.param .b32 x) { .reg .b32 %v; ld.param.b32 %v, [x]; add.s32 %v, %v, %v; st.param.b32 [result], %v; ret; }",
     "{ .param .b32 argument; .param .b32 back; st.param.b32 [argument], %a0; call.uni (back), twice, (argument); ld.param.b32 %d0, [back]; }",
     "r", "r", R(U(0) * 2))
CASE(brx_idx, "{ targets: .branchtargets A, B, C; setp.lt.u32 %p0, %a0, 2; selp.b32 %t0, %a0, 2, %p0; brx.idx %t0, targets; A: mov.u32 %d0, 5; bra END;"
     "B: mov.u32 %d0, 6; bra END; C: mov.u32 %d0, 7; END: }", "2", "r", R(U(0) < 2 ? 5 + U(0) : 7))
CASE(assumptions, ".pragma \"nounroll\"; mov.u32 %d0, %a0;", "r", "r", R(U(0)))
CASE(ld_st_shared_cta, "st.shared::cta.b32 [%lane_shared], %a0; ld.shared::cta.b32 %d0, [%lane_shared];", "r", "r", R(U(0)))
CASE(ldu_global, "ldu.global.u32 %t0, [%in]; ld.global.u32 %t1, [%in]; sub.u32 %d0, %t0, %t1;", "r", "r", R(0))
CASE(atom_cas_b16, "and.b32 %t0, %a0, 0xffff; cvt.u16.u32 %h0, %t0; cvt.u16.u32 %h1, %a1; cvt.u16.u32 %h2, %a2; st.global.b16 [%lane_scratch+2], %h0;"
     "atom.global.cas.b16 %h3, [%lane_scratch+2], %h1, %h2; cvt.u32.u16 %d0, %h3; ld.global.u16 %d1, [%lane_scratch+2];", "22r", "rr",
     d[0] = U(0); d[1] = U(0) == U(1) ? U(2) & 0xffff : U(0))
CASE(atom_add_f16, "st.global.b16 [%lane_scratch+2], %a0; atom.global.add.noftz.f16 %d0, [%lane_scratch+2], %a1; ld.global.b16 %d1, [%lane_scratch+2];",
     "HH", "hH", d[0] = U16(0); d[1] = ptx_encode(ptx_add(H(0), H(1)), &ptx_f16, RN))
CASE_SM90(atom_add_bf16x2, "st.global.b32 [%lane_scratch], %a0; atom.global.add.noftz.bf16x2 %d0, [%lane_scratch], %a1; ld.global.b32 %d1, [%lane_scratch];",
     "ww", "rr", d[0] = U(0);
     d[1] = ptx_encode(ptx_add(B(0), B(1)), &ptx_bf16, RN) |
            ptx_encode(ptx_add(ptx_decode(U(0) >> 16, &ptx_bf16), ptx_decode(U(1) >> 16, &ptx_bf16)), &ptx_bf16, RN) << 16)
// clang-format on
