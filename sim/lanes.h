/* Arithmetic on the 32 lanes of a warp. There is one table of functions for each instruction-set level of
 * the host, and all tables give the same results. */
#ifndef SIM_LANES_H
#define SIM_LANES_H

#include <stdint.h>

/* d = f(a, b, c) on 32 lanes. lanes_body.h says what operands each function takes. */
typedef void sim_lane_fn(void *d, const void *a, const void *b, const void *c, uint64_t immediate);

/* d (16 x 8, f32) = a (16 x k) * b (k x 8) + c, in mma.m16n8 fragments (lanes_matrix.h). d may be c. */
typedef void sim_matrix_fn(int k, const uint32_t *const *a, const uint32_t *const *b,
                           const uint32_t *const *c, uint32_t *const *d);
/* Two products with the same a. No register of a, b[1] or c[1] may be a register of d[0]. */
typedef void sim_matrix_pair_fn(int k, const uint32_t *const *a, const uint32_t *const *const *b,
                                const uint32_t *const *const *c, uint32_t *const *const *d);

enum lane_test {
    LANE_TEST_FINITE,
    LANE_TEST_INFINITE,
    LANE_TEST_NUMBER,
    LANE_TEST_NAN,
    LANE_TEST_NORMAL,
    LANE_TEST_SUBNORMAL
};

// clang-format off
#define LANE_FUNCTIONS(X) \
    X(add_16) X(add_32) X(add_64) X(sub_16) X(sub_32) X(sub_64) X(mul_lo_16) X(mul_lo_32) \
    X(mul_lo_64) X(mul_hi_u16) X(mul_hi_s16) X(mul_hi_u32) X(mul_hi_s32) X(mul_hi_u64) X(mul_hi_s64) \
    X(mul_wide_u16) X(mul_wide_s16) X(mul_wide_u32) X(mul_wide_s32) X(mad_lo_16) X(mad_lo_32) \
    X(mad_lo_64) X(mad_hi_u32) X(mad_hi_s32) X(mad_hi_u64) X(mad_hi_s64) X(mad_wide_u16) \
    X(mad_wide_s16) X(mad_wide_u32) X(mad_wide_s32) X(mul24_lo_u32) X(mul24_lo_s32) X(mul24_hi_u32) \
    X(mul24_hi_s32) X(mad24_lo_u32) X(mad24_lo_s32) X(mad24_hi_u32) X(mad24_hi_s32) X(sad_u16) \
    X(sad_s16) X(sad_u32) X(sad_s32) X(sad_u64) X(sad_s64) X(div_u16) X(div_s16) X(div_u32) \
    X(div_s32) X(div_u64) X(div_s64) X(rem_u16) X(rem_s16) X(rem_u32) X(rem_s32) X(rem_u64) \
    X(rem_s64) X(min_u16) X(min_s16) X(min_u32) X(min_s32) X(min_u64) X(min_s64) X(max_u16) \
    X(max_s16) X(max_u32) X(max_s32) X(max_u64) X(max_s64) X(abs_16) X(abs_32) X(abs_64) X(neg_16) \
    X(neg_32) X(neg_64) X(add_sat_s32) X(sub_sat_s32) X(mad_hi_sat_s32) X(and_32) X(and_64) X(or_32) \
    X(or_64) X(xor_32) X(xor_64) X(not_16) X(not_32) X(not_64) X(cnot_32) X(cnot_64) X(shl_16) \
    X(shl_32) X(shl_64) X(shr_u16) X(shr_u32) X(shr_u64) X(shr_s16) X(shr_s32) X(shr_s64) \
    X(shf_l_wrap) X(shf_r_wrap) X(shf_l_clamp) X(shf_r_clamp) X(popc_32) X(popc_64) X(clz_32) \
    X(clz_64) X(bfind_u32) X(bfind_s32) X(bfind_u64) X(bfind_s64) X(brev_32) X(brev_64) X(bfe_u32) \
    X(bfe_s32) X(bfe_u64) X(bfe_s64) X(bfi_32) X(bfi_64) X(lop3_32) X(prmt_32) X(prmt_f4e) \
    X(prmt_b4e) X(prmt_rc8) X(prmt_ecl) X(prmt_ecr) X(prmt_rc16) X(dp4a) X(dp2a) X(fns_32) X(mov_32) \
    X(mov_64) X(low_16) X(high_16) X(low_32) X(high_32) X(part_16) X(pack_16) X(pack_32) X(low_8) \
    X(extend_s8_16) X(extend_s8_32) X(extend_s16_32) X(extend_u8_64) X(extend_s8_64) \
    X(extend_u16_64) X(extend_s16_64) X(extend_u32_64) X(extend_s32_64) X(selp_32) X(selp_64) \
    X(slct_32_s32) X(slct_32_f32) X(slct_64_s32) X(slct_64_f32) X(and_pred) X(or_pred) X(xor_pred) \
    X(not_pred) X(mov_pred) X(eq_32) X(ne_32) X(eq_64) X(ne_64) X(lt_u32) X(le_u32) X(gt_u32) \
    X(ge_u32) X(lt_s32) X(le_s32) X(gt_s32) X(ge_s32) X(lt_s16) X(le_s16) X(gt_s16) X(ge_s16) \
    X(lt_u64) X(le_u64) X(gt_u64) X(ge_u64) X(lt_s64) X(le_s64) X(gt_s64) X(ge_s64) X(eq_f32) \
    X(ne_f32) X(lt_f32) X(le_f32) X(gt_f32) X(ge_f32) X(equ_f32) X(neu_f32) X(ltu_f32) X(leu_f32) \
    X(gtu_f32) X(geu_f32) X(num_f32) X(nan_f32) X(eq_f64) X(ne_f64) X(lt_f64) X(le_f64) X(gt_f64) \
    X(ge_f64) X(equ_f64) X(neu_f64) X(ltu_f64) X(leu_f64) X(gtu_f64) X(geu_f64) X(num_f64) \
    X(nan_f64) X(add_f32) X(sub_f32) X(mul_f32) X(div_f32) X(fma_f32) X(add_f64) X(sub_f64) \
    X(mul_f64) X(div_f64) X(fma_f64) X(rcp_f32) X(sqrt_f32) X(rsqrt_f32) X(rcp_f64) X(sqrt_f64) \
    X(rsqrt_f64) X(neg_f32) X(abs_f32) X(neg_f64) X(abs_f64) X(copysign_f32) X(copysign_f64) \
    X(min_f32) X(max_f32) X(min_nan_f32) X(max_nan_f32) X(min_xorsign_f32) X(max_xorsign_f32) \
    X(min_nan_xorsign_f32) X(max_nan_xorsign_f32) X(min_f64) X(max_f64) X(div_approx_f32) X(ex2_f32) \
    X(lg2_f32) X(sin_f32) X(cos_f32) X(tanh_f32) X(rcp_ftz_f64) X(rsqrt_ftz_f64) X(testp_f32) \
    X(testp_f64) X(add_f16) X(add_f16x2) X(sub_f16) X(sub_f16x2) X(mul_f16) X(mul_f16x2) X(fma_f16) \
    X(fma_f16x2) X(neg_f16) X(neg_f16x2) X(abs_f16) X(abs_f16x2) X(min_f16) X(min_f16x2) X(max_f16) \
    X(max_f16x2) X(min_nan_f16) X(min_nan_f16x2) X(max_nan_f16) X(max_nan_f16x2) X(ex2_f16) \
    X(ex2_f16x2) X(tanh_f16) X(tanh_f16x2) X(add_bf16) X(add_bf16x2) X(sub_bf16) X(sub_bf16x2) \
    X(mul_bf16) X(mul_bf16x2) X(fma_bf16) X(fma_bf16x2) X(neg_bf16) X(neg_bf16x2) X(abs_bf16) \
    X(abs_bf16x2) X(min_bf16) X(min_bf16x2) X(max_bf16) X(max_bf16x2) X(min_nan_bf16) \
    X(min_nan_bf16x2) X(max_nan_bf16) X(max_nan_bf16x2) X(ex2_bf16) X(ex2_bf16x2) X(tanh_bf16) \
    X(tanh_bf16x2) X(cvt_f32_f16) X(cvt_f16_f32) X(cvt_f16x2_f32) X(cvt_f32_bf16) X(cvt_bf16_f32) \
    X(cvt_bf16x2_f32) X(cvt_f32_s32) X(cvt_f32_u32) X(cvt_f64_f32) X(cvt_f32_f64) X(cvt_f64_s32) \
    X(cvt_f64_u32) X(cvt_f64_s64) X(cvt_f64_u64) X(cvt_f32_s64) X(cvt_f32_u64) X(cvt_rni_f32) \
    X(cvt_rzi_s32_f32) X(cvt_rni_s32_f32) X(blend_32) X(blend_64) X(flush_f32) X(flush_f16) \
    X(flush_f16x2) X(saturate_f32) X(saturate_f64) X(saturate_f16) X(saturate_f16x2) \
    X(saturate_bf16) X(saturate_bf16x2) X(relu_f16) X(relu_f16x2) X(relu_bf16) X(relu_bf16x2)
// clang-format on

#define LANE_ENUM(name) LANE_##name,
enum sim_lane { LANE_FUNCTIONS(LANE_ENUM) LANE_COUNT };
#undef LANE_ENUM

enum sim_lane_matrix {
    LANE_MATRIX_F16,
    LANE_MATRIX_BF16,
    LANE_MATRIX_E4M3,
    LANE_MATRIX_E5M2,
    LANE_MATRICES
};

struct sim_handlers; /* exec.h */

struct sim_lanes {
    sim_lane_fn *fn[LANE_COUNT];
    sim_matrix_fn *matrix[LANE_MATRICES];
    sim_matrix_pair_fn *matrix_pair[LANE_MATRICES];
    const struct sim_handlers *handlers;
};

/* The fastest table that this machine can run. */
const struct sim_lanes *sim_lanes_best(void);
/* Table `level` of those that this machine can run, of which the last is the fastest; NULL past the end. */
const struct sim_lanes *sim_lanes_at(int level);

extern const struct sim_lanes sim_lanes_base, sim_lanes_avx2, sim_lanes_avx512;

#endif
