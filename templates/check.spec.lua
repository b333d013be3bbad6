-- check: in checked plans, looks for faults in the arrays of a call before the call's kernels run (check.cu.lt).
return {
  name = "check",
  handles = {},
  entry = "xq_check",
  summary = "finds faults in the arguments of a call",
  supports = function(spec)
    return not spec.checked and "only for checked plans (\"checked\": true)" or nil
  end,
  parameters = {},
  constraints = {},
  resources = function() return {threads = 1024, shared_bytes = 0} end,
}
