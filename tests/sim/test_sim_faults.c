/* Plants each fault of memory accesses that the software device promises to find, and reads the error.
 * Beside each faulty kernel stands a corrected one, which must run. */
#include "fault_check.h"

#include <criterion/criterion.h>

Test(sim_faults, device_memory_accesses_stay_in_their_allocation)
{
    static const struct fault faults[] = {
        {.name = "read past the end",
         .faulty = LOC "ld.global.u32 %r2, [%mine+900];" BAD,
         .sound = LOC "ld.global.u32 %r2, [%mine+892];" BAD,
         .says = "bounds|4 bytes",
         .grid = 3,
         .at_block = 1 + 0,
         .at_thread = 1 + 30},
        {.name = "read across the end",
         .faulty = LOC "ld.global.u64 %l0, [%buffer+1016];" BAD,
         .sound = LOC "ld.global.u64 %l0, [%buffer+1008];" BAD,
         .says = "bounds|8 bytes"},
        {.name = "vector read across the end",
         .faulty = LOC "ld.global.v4.u32 {%r2,%r3,%r4,%r5}, [%buffer+1008];" BAD,
         .sound = LOC "ld.global.v4.u32 {%r2,%r3,%r4,%r5}, [%buffer+992];" BAD,
         .says = "bounds|16 bytes"},
        {.name = "read before the start",
         .faulty = LOC "ld.global.u32 %r2, [%buffer+-4];" BAD,
         .sound = LOC "ld.global.u32 %r2, [%buffer];" BAD,
         .says = "bounds"},
        {.name = "write past the end",
         .faulty = LOC "st.global.u32 [%buffer+1020], %me;" BAD,
         .sound = LOC "st.global.u32 [%mine], %me;" BAD,
         .says = "bounds"},
        {.name = "atomic past the end",
         .faulty = LOC "atom.global.add.u32 %r2, [%buffer+1024], 1;" BAD,
         .sound = LOC "atom.global.add.u32 %r2, [%buffer+1016], 1;" BAD,
         .says = "bounds"},
        {.name = "asynchronous copy past the end",
         .faulty =
             LOC "cp.async.cg.shared.global [%r1], [%buffer+1008], 16;" BAD "    cp.async.wait_all;\n",
         .sound = LOC "cp.async.cg.shared.global [%r1], [%buffer+992], 16;" BAD "    cp.async.wait_all;\n",
         .says = "bounds"},
        {.name = "null",
         .faulty = "    mov.u64 %l0, 0;\n" LOC "ld.global.u32 %r2, [%l0];" BAD,
         .says = "outside|0x0"},
        {.name = "wild",
         .faulty = "    mov.u64 %l0, 0x7fffffffffffff00;\n" LOC "st.global.u32 [%l0], %me;" BAD,
         .says = "outside"},
        {.name = "generic address past the end",
         .faulty = LOC "ld.u32 %r2, [%buffer+1020];" BAD,
         .sound = LOC "ld.u32 %r2, [%buffer+1016];" BAD,
         .says = "bounds"},
        {.name = "one lane of one block",
         .faulty = "    setp.eq.u32 %p0, %block, 2;\n    setp.eq.and.u32 %p0, %me, 45, %p0;\n"
                   "    selp.b64 %l0, 4096, 0, %p0;\n    add.s64 %l0, %l0, %mine;\n" LOC
                   "st.global.u32 [%l0], %me;" BAD,
         .sound = LOC "st.global.u32 [%mine], %me;" BAD,
         .says = "bounds",
         .grid = 4,
         .block = 64,
         .at_block = 1 + 2,
         .at_thread = 1 + 45},
        {.name = "freed memory",
         .faulty = LOC "ld.global.u32 %r2, [%freed];" BAD,
         .sound = LOC "ld.global.u32 %r2, [%buffer];" BAD,
         .says = "free"},
        {.name = "freed memory, written",
         .faulty = LOC "st.global.u32 [%freed+12], %r1;" BAD,
         .sound = LOC "st.global.u32 [%mine+12], %r1;" BAD,
         .says = "free"},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, accesses_are_aligned)
{
    static const struct fault faults[] = {
        {.name = "global 4 bytes",
         .faulty = LOC "ld.global.u32 %r2, [%buffer+2];" BAD,
         .sound = LOC "ld.global.u16 %h0, [%buffer+2];" BAD,
         .says = "aligned"},
        {.name = "global vector",
         .faulty = LOC "ld.global.v4.u32 {%r2,%r3,%r4,%r5}, [%buffer+8];" BAD,
         .sound = LOC "ld.global.v2.u32 {%r2,%r3}, [%buffer+8];" BAD,
         .says = "aligned|16"},
        {.name = "global store of one lane",
         .faulty = "    setp.eq.u32 %p0, %me, 9;\n    selp.b64 %l0, 1, 0, %p0;\n    add.s64 %l0, %l0, "
                   "%mine;\n" LOC "st.global.u32 [%l0], %me;" BAD,
         .sound = LOC "st.global.u32 [%mine], %me;" BAD,
         .says = "aligned",
         .at_thread = 1 + 9},
        {.name = "shared",
         .faulty = LOC "st.shared.v4.b32 [%r1+8], {%me,%me,%me,%me};" BAD,
         .sound = LOC "st.shared.v2.b32 [%r1+8], {%me,%me};" BAD,
         .says = "aligned"},
        {.name = "asynchronous copy",
         .faulty = LOC "cp.async.cg.shared.global [%r1], [%buffer+8], 16;" BAD "    cp.async.wait_all;\n",
         .sound = LOC "cp.async.ca.shared.global [%r1], [%buffer+8], 8;" BAD "    cp.async.wait_all;\n",
         .says = "aligned"},
        {.name = "ldmatrix",
         .faulty = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
                   "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1+8];" BAD,
         .sound = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.warp.sync -1;\n" LOC
                  "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];" BAD,
         .says = "aligned"},
        {.name = "atomic",
         .faulty = LOC "atom.global.add.u64 %l0, [%buffer+4], 1;" BAD,
         .sound = LOC "atom.global.add.u64 %l0, [%buffer+8], 1;" BAD,
         .says = "aligned"},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, shared_and_local_accesses_stay_in_bounds)
{
    static const struct fault faults[] = {
        {.name = "past the static end",
         .faulty = LOC "st.shared.b32 [%r1+2024], %me;" BAD,
         .sound = LOC "st.shared.b32 [%r1+500], %me;" BAD,
         .says = "shared|bounds",
         .at_thread = 1 + 2},
        {.name = "past the dynamic end",
         .faulty = "    mov.u32 %r2, dynamic;\n" LOC "st.shared.b32 [%r2+256], %me;" BAD,
         .sound = "    mov.u32 %r2, dynamic;\n" LOC "st.shared.b32 [%r2+252], 7;" BAD,
         .says = "shared|bounds",
         .shared_bytes = 256},
        {.name = "below",
         .faulty = "    mov.u32 %r2, 0;\n" LOC "st.shared.b32 [%r2+-16], 7;" BAD,
         .says = "shared|bounds"},
        {.name = "ldmatrix past the end",
         .faulty = LOC "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1+2048];" BAD,
         .says = "shared|bounds"},
        {.name = "local past the end",
         .faulty = "    mov.u64 %l0, frame;\n" LOC "st.local.b32 [%l0+64], %me;" BAD,
         .sound = "    mov.u64 %l0, frame;\n" LOC "st.local.b32 [%l0+60], %me;" BAD,
         .says = "local|bounds"},
    };
    EXPECT_FAULTS(faults);
}

Test(sim_faults, shared_memory_is_written_before_it_is_read)
{
    static const struct fault faults[] = {
        {.name = "never written",
         .faulty = LOC "ld.shared.b32 %r2, [%r1];" BAD,
         .sound = "    st.shared.b32 [%r1], 0;\n" LOC "ld.shared.b32 %r2, [%r1];" BAD,
         .says = "uninitialized|shared"},
        {.name = "dynamic, never written",
         .faulty = "    mov.u32 %r2, dynamic;\n" LOC "ld.shared.b32 %r2, [%r2];" BAD,
         .says = "uninitialized|shared",
         .shared_bytes = 512},
        {.name = "written in part",
         .faulty = "    st.shared.b8 [%r1], %me;\n    st.shared.b16 [%r1+2], %h0;\n" LOC
                   "ld.shared.b32 %r2, [%r1];" BAD,
         .sound =
             "    mov.u16 %h0, 1;\n    st.shared.b16 [%r1], %h0;\n    st.shared.b16 [%r1+2], %h0;\n" LOC
             "ld.shared.b32 %r2, [%r1];" BAD,
         .says = "uninitialized|shared"},
        {.name = "one lane of a vector",
         .faulty =
             "    setp.ne.u32 %p0, %me, 13;\n    @%p0 st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
             "ld.shared.v4.b32 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .sound = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
                  "ld.shared.v4.b32 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .says = "uninitialized|shared",
         .at_thread = 1 + 13},
        {.name = "ldmatrix",
         .faulty = "    st.shared.v2.b32 [%r1], {%me,%me};\n    bar.warp.sync -1;\n" LOC
                   "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .sound = "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.warp.sync -1;\n" LOC
                  "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .says = "uninitialized|shared"},
        {.name = "atomic",
         .faulty = LOC "atom.shared.add.u32 %r2, [%r1], 1;" BAD,
         .sound = "    st.shared.b32 [%r1], 0;\n" LOC "atom.shared.add.u32 %r2, [%r1], 1;" BAD,
         .says = "uninitialized|shared"},
        {.name = "written by the block before",
         .faulty = "    setp.eq.u32 %p0, %block, 0;\n    @%p0 st.shared.b32 [%r1], 0;\n" LOC
                   "ld.shared.b32 %r2, [%r1];" BAD,
         .sound = "    st.shared.b32 [%r1], 0;\n" LOC "ld.shared.b32 %r2, [%r1];" BAD,
         .says = "uninitialized|shared",
         .grid = 2,
         .at_block = 1 + 1},
    };
    EXPECT_FAULTS(faults);
}

/* Sets %r3 to the address of the neighbour warp's word. */
#define OTHER_WARP "    xor.b32 %r2, %me, 32;\n    shl.b32 %r3, %r2, 4;\n    add.s32 %r3, %r3, %r0;\n"

Test(sim_faults, warps_share_data_only_across_a_barrier)
{
    static const struct fault faults[] = {
        {.name = "read after write",
         .faulty = OTHER_WARP "    st.shared.b32 [%r1], %me;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP "    st.shared.b32 [%r1], %me;\n    bar.sync 0;\n" LOC
                             "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 64,
         .at_block = 1 + 0},
        {.name = "write after read",
         .faulty = OTHER_WARP "    st.shared.b32 [%r1], %me;\n    bar.sync 0;\n" LOC
                              "ld.shared.b32 %r4, [%r3];" BAD "" LOC "st.shared.b32 [%r1], 5;" BAD,
         .sound =
             OTHER_WARP "    st.shared.b32 [%r1], %me;\n    bar.sync 0;\n    ld.shared.b32 %r4, [%r3];\n"
                        "    bar.sync 0;\n" LOC "st.shared.b32 [%r1], 5;" BAD,
         .says = "race|shared",
         .block = 64,
         .at_block = 1 + 0},
        {.name = "write after write",
         .faulty = LOC "st.shared.b32 [memory], %me;" BAD,
         .sound = "    setp.eq.u32 %p0, %me, 0;\n" LOC "@%p0 st.shared.b32 [memory], %me;" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a barrier that not all warps pass",
         .faulty = OTHER_WARP "    st.shared.b32 [%r1], %me;\n    setp.lt.u32 %p0, %warp, 2;\n"
                              "    @%p0 bar.sync 1, 64;\n    @%p0 ret;\n    xor.b32 %r2, %me, 96;\n"
                              "    shl.b32 %r3, %r2, 4;\n    add.s32 %r3, %r3, %r0;\n" LOC
                              "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP "    setp.ge.u32 %p0, %me, 64;\n    @%p0 ret;\n    st.shared.b32 [%r1], %me;\n"
                             "    bar.sync 1, 64;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 96},
        {.name = "atomic and plain read",
         .faulty = "    setp.eq.u32 %p0, %me, 0;\n    @%p0 st.shared.b32 [memory], 0;\n    bar.sync 0;\n"
                   "" LOC "red.shared.add.u32 [memory], 1;" BAD "" LOC "ld.shared.b32 %r4, [memory];" BAD,
         .sound = "    setp.eq.u32 %p0, %me, 0;\n    @%p0 st.shared.b32 [memory], 0;\n    bar.sync 0;\n"
                  "    red.shared.add.u32 [memory], 1;\n    bar.sync 0;\n" LOC
                  "ld.shared.b32 %r4, [memory];" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "buffer reused without a second barrier",
         .faulty =
             OTHER_WARP "    mov.u32 %r5, 0;\nLOOP:\n" LOC "st.shared.b32 [%r1], %r5;" BAD
                        "    bar.sync 0;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD "    add.s32 %r5, %r5, 1;\n"
                        "    setp.lt.u32 %p0, %r5, 3;\n    @%p0 bra LOOP;\n",
         .sound = OTHER_WARP "    mov.u32 %r5, 0;\nLOOP:\n" LOC "st.shared.b32 [%r1], %r5;" BAD
                             "    bar.sync 0;\n    ld.shared.b32 %r4, [%r3];\n    bar.sync 0;\n"
                             "    add.s32 %r5, %r5, 1;\n    setp.lt.u32 %p0, %r5, 3;\n    @%p0 bra LOOP;\n",
         .says = "shared",
         .block = 64},
    };
    EXPECT_FAULTS(faults);
}

/* Rows of 16 bytes are checked as one if they are accessed as a whole. */
#define OWN_WORD "    shl.b32 %r5, %lane, 2;\n    add.s32 %r5, %r5, %r0;\n    setp.eq.u32 %p0, %warp, 1;\n"
#define OWN_ROW  "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.sync 0;\n"

Test(sim_faults, words_of_one_row_are_told_apart)
{
    static const struct fault faults[] = {
        {.name = "the lane that wrote a word",
         .faulty = OWN_WORD "    @%p0 ld.shared.b32 %r4, [memory+52];\n" LOC
                            "@!%p0 st.shared.b32 [%r5], %me;" BAD,
         .sound = OWN_WORD "    @!%p0 st.shared.b32 [%r5], %me;\n    bar.sync 0;\n"
                           "    @%p0 ld.shared.b32 %r4, [memory+52];\n",
         .says = "race|shared|52",
         .block = 64,
         .at_thread = 1 + 13},
        {.name = "a word of a row that another warp reads a word of",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.b32 %r4, [%r1];\n" LOC
                                               "@%p0 st.shared.b32 [%r3], 5;" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.b32 %r4, [%r1];\n" LOC
                                              "@%p0 st.shared.b32 [%r3+4], 5;" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a word of a row that another warp reads whole",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];\n" LOC
                                               "@%p0 st.shared.b32 [%r3+12], 5;" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];\n"
                                              "    bar.sync 0;\n" LOC "@%p0 st.shared.b32 [%r3+12], 5;" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a row of which another warp wrote a word",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 st.shared.b32 [%r3+8], 5;\n" LOC
                                               "@%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW "    @!%p0 st.shared.b32 [%r3+8], 5;\n    bar.sync 0;\n" LOC
                                              "@%p0 ld.shared.v4.b32 {%r4,%r6,%r7,%r8}, [%r1];" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "a matrix of rows of which another warp writes a byte",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW
         "    @%p0 bra BYTE;\n    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4,%r6,%r7,%r8}, [%r1];\n"
         "    bra DONE;\nBYTE:\n" LOC "st.shared.b8 [%r3+7], %me;" BAD "DONE:\n",
         .sound = OTHER_WARP OWN_WORD OWN_ROW
         "    @%p0 bra BYTE;\n    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4,%r6,%r7,%r8}, [%r1];\n"
         "    bar.sync 0;\n    bra DONE;\nBYTE:\n    bar.sync 0;\n" LOC "st.shared.b8 [%r3+7], %me;" BAD
         "DONE:\n",
         .says = "race|shared",
         .block = 64},
        {.name = "a row written whole after its parts",
         .faulty = OTHER_WARP OWN_WORD OWN_ROW
         "    st.shared.b8 [%r1+3], %me;\n    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n" LOC
         "ld.shared.b32 %r4, [%r3+12];" BAD,
         .sound = OTHER_WARP OWN_WORD OWN_ROW
         "    st.shared.b8 [%r1+3], %me;\n    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n"
         "    bar.sync 0;\n" LOC "ld.shared.b32 %r4, [%r3+12];" BAD,
         .says = "race|shared",
         .block = 64},
        {.name = "two lanes copy to one row",
         .faulty = "    xor.b32 %r2, %lane, 1;\n    setp.eq.u32 %p1, %lane, 20;\n"
                   "    selp.b32 %r2, 5, %lane, %p1;\n    shl.b32 %r2, %r2, 4;\n"
                   "    add.s32 %r2, %r2, %r0;\n" LOC "cp.async.cg.shared.global [%r2], [%buffer], 16;" BAD
                   "    cp.async.wait_all;\n",
         .sound = LOC "cp.async.cg.shared.global [%r1], [%buffer], 16;" BAD "    cp.async.wait_all;\n",
         .says = "cp.async"},
        {.name = "copies in another order than the lanes'",
         .faulty = "    xor.b32 %r2, %lane, 5;\n    shl.b32 %r2, %r2, 4;\n    add.s32 %r2, %r2, %r0;\n"
                   "    cp.async.cg.shared.global [%r2], [%buffer], 16;\n    cp.async.wait_all;\n" LOC
                   "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = "    xor.b32 %r2, %lane, 5;\n    shl.b32 %r2, %r2, 4;\n    add.s32 %r2, %r2, %r0;\n"
                  "    cp.async.cg.shared.global [%r2], [%buffer], 16;\n    cp.async.wait_all;\n" LOC
                  "ld.shared.b32 %r4, [%r2];" BAD,
         .says = "cp.async|lane 5"},
    };
    EXPECT_FAULTS(faults);
}

#define COPY_OWN "    cp.async.cg.shared.global [%r1], [%buffer+16], 16;\n"

Test(sim_faults, asynchronous_copies_are_waited_for)
{
    static const struct fault faults[] = {
        {.name = "no wait",
         .faulty = COPY_OWN "    cp.async.commit_group;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n" LOC
                           "ld.shared.b32 %r4, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "never committed",
         .faulty = COPY_OWN "    cp.async.wait_group 0;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = COPY_OWN "    cp.async.wait_all;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "waited for an older group",
         .faulty = COPY_OWN
         "    cp.async.commit_group;\n    cp.async.ca.shared.global [%r1+512], [%buffer], 4;\n"
         "    cp.async.commit_group;\n    cp.async.wait_group 1;\n    ld.shared.b32 %r5, [%r1];\n" LOC
         "ld.shared.b32 %r4, [%r1+512];" BAD,
         .sound = COPY_OWN
         "    cp.async.commit_group;\n    cp.async.ca.shared.global [%r1+512], [%buffer], 4;\n"
         "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    ld.shared.b32 %r5, [%r1];\n" LOC
         "ld.shared.b32 %r4, [%r1+512];" BAD,
         .says = "cp.async"},
        {.name = "a barrier is no wait",
         .faulty =
             COPY_OWN "    cp.async.commit_group;\n    bar.sync 0;\n" LOC "ld.shared.b32 %r4, [%r1];" BAD,
         .sound = COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    bar.sync 0;\n" LOC
                           "ld.shared.b32 %r4, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "ldmatrix of a copy under way",
         .faulty = COPY_OWN "    cp.async.commit_group;\n" LOC
                            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .sound =
             COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    bar.warp.sync -1;\n" LOC
                      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2,%r3,%r4,%r5}, [%r1];" BAD,
         .says = "cp.async"},
        {.name = "another warp's copy without a barrier",
         .faulty = OTHER_WARP COPY_OWN "    cp.async.wait_all;\n" LOC "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP COPY_OWN "    cp.async.wait_all;\n    bar.sync 0;\n" LOC
                                      "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 64},
        {.name = "another warp's copy that it does not wait for",
         .faulty = OTHER_WARP COPY_OWN
         "    cp.async.commit_group;\n    bar.sync 0;\n    cp.async.wait_group 0;\n" LOC
         "ld.shared.b32 %r4, [%r3];" BAD,
         .sound = OTHER_WARP COPY_OWN
         "    cp.async.commit_group;\n    cp.async.wait_group 0;\n    bar.sync 0;\n" LOC
         "ld.shared.b32 %r4, [%r3];" BAD,
         .says = "shared",
         .block = 64},
        {.name = "another lane's copy without a barrier",
         .faulty = "    xor.b32 %r2, %r1, 16;\n" COPY_OWN
                   "    setp.lt.u32 %p0, %me, 16;\n    @%p0 cp.async.wait_all;\n" LOC
                   "ld.shared.b32 %r4, [%r2];" BAD,
         .sound = "    xor.b32 %r2, %r1, 16;\n" COPY_OWN
                  "    cp.async.wait_all;\n    bar.warp.sync -1;\n" LOC "ld.shared.b32 %r4, [%r2];" BAD,
         .says = "cp.async"},
        {.name = "written over while under way",
         .faulty = COPY_OWN "    cp.async.commit_group;\n" LOC "st.shared.b32 [%r1+4], %me;" BAD
                            "    cp.async.wait_group 0;\n",
         .sound = COPY_OWN "    cp.async.commit_group;\n    cp.async.wait_group 0;\n" LOC
                           "st.shared.b32 [%r1+4], %me;" BAD,
         .says = "cp.async"},
        {.name = "copied over what another warp reads",
         .faulty =
             OTHER_WARP "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.sync 0;\n"
                        "" LOC "ld.shared.b32 %r4, [%r3];" BAD "" LOC
                        "cp.async.cg.shared.global [%r1], [%buffer+16], 16;" BAD "    cp.async.wait_all;\n",
         .sound =
             OTHER_WARP "    st.shared.v4.b32 [%r1], {%me,%me,%me,%me};\n    bar.sync 0;\n"
                        "    ld.shared.b32 %r4, [%r3];\n    bar.sync 0;\n" LOC
                        "cp.async.cg.shared.global [%r1], [%buffer+16], 16;" BAD "    cp.async.wait_all;\n",
         .says = "shared",
         .block = 64},
    };
    EXPECT_FAULTS(faults);
}
