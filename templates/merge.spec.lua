-- merge: joins the results of attention over two sets of tokens (merge.cu.lt).

-- Lanes of a warp that share a row of head_dim elements. Each has 16 bytes, or none.
local function row_lanes(spec)
  local lanes = 8
  while lanes * 8 < spec.model.head_dim do lanes = lanes * 2 end
  return lanes
end

return {
  name = "merge",
  handles = {"bf16", "head-dim"},
  entry = "xq_merge",
  summary = "merges attention over two sets of tokens by log-sum-exp",
  parameters = {
    {name = "threads", values = {64, 128, 256}, default = 128, doc = "threads of a block"},
  },
  constraints = {},
  resources = function(spec, p)
    return {
      threads = p.threads,
      shared_bytes = 0,
      row_lanes = row_lanes(spec),
      rows = p.threads // row_lanes(spec), -- rows of one block
    }
  end,
}
