-- GPU architectures: the one table. `fallback` is the architecture whose tuning and code serve where
-- there is none for this one. shared_bytes: opt-in shared memory of a block; shared_bytes_sm: of a
-- multiprocessor; threads_sm, registers_sm likewise. CUDA C++ Programming Guide, "Compute
-- Capabilities", technical specifications per compute capability.
local fail = require "fail"

local arch = {}

local KIB = 1024

arch.list = {
  { name = "sm_80", shared_bytes = 163 * KIB, shared_bytes_sm = 164 * KIB, threads_sm = 2048, gpus = "A100" },
  { name = "sm_86", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_80",
    gpus = "RTX 30, A10, A40" },
  { name = "sm_87", shared_bytes = 163 * KIB, shared_bytes_sm = 164 * KIB, threads_sm = 1536, fallback = "sm_80",
    gpus = "Jetson Orin" },
  { name = "sm_89", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_86",
    gpus = "RTX 40, L4, L40" },
  { name = "sm_90", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_80",
    gpus = "H100, H200" },
  { name = "sm_90a", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_90",
    gpus = "H100, H200" },
  { name = "sm_100", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_90",
    gpus = "B200" },
  { name = "sm_100a", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_100",
    gpus = "B200" },
  { name = "sm_103", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_100",
    gpus = "B300" },
  { name = "sm_103a", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_103",
    gpus = "B300" },
  { name = "sm_120", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_89",
    gpus = "RTX 50" },
  { name = "sm_120a", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_120",
    gpus = "RTX 50" },
  { name = "sm_121", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_120",
    gpus = "DGX Spark" },
}

arch.threads_block = 1024
arch.registers_sm = 65536

local by_name, names = {}, {}
for i, entry in ipairs(arch.list) do
  by_name[entry.name], names[i] = entry, entry.name
end

arch.names = names

-- The entry of a name; fails with field `arch`.
function arch.find(name)
  local entry = by_name[name]
  if entry then return entry end
  fail.spec("arch", "'%s' is not known; %s", name, fail.suggestion(name, names))
end

-- The name and its fallbacks, nearest first.
function arch.chain(name)
  local chain, entry = {}, arch.find(name)
  while entry do
    chain[#chain + 1] = entry.name
    entry = by_name[entry.fallback]
  end
  return chain
end

return arch
