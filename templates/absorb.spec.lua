-- absorb: multiplies queries by the columns of Wk that attend need not rematerialize (absorb.cu.lt).

return {
  name = "absorb",
  handles = { "bf16", "weights-bf16", "weights-int8", "weights-e4m3", "queries-many", "head-dim", "rope-interleaved", "rope-partial", "rope-none", "bias" },
  entry = "xq_absorb",
  summary = "queries times the columns of K that need no rematerialization",
  parameters = {},
  supports = function(spec)
    if spec.keys.absorbed_columns == 0 then return "no columns of K can be absorbed: all are rotated or normalized" end
  end,
  resources = function(spec)
    -- A block has as many query rows as a block of attend. While a spec is being completed, attend's parameters are
    -- still open; the number does not matter before the template is rendered.
    local attend = (spec.tuning or {}).attend or {}
    return { threads = 128, shared_bytes = 0, query_rows = attend.query_rows or 8 }
  end,
}
