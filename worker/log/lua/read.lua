-- Entries after a position, until so many bytes or entries are read; at least one if there is one. An entry at a time:
-- sizes differ by five orders of magnitude, and a reply must fit in a worker's memory.
-- ARGV: generation, position, bytes, entries
-- Returns {id, fields, 1 if dead or 0, ...}
local log, dead = log_key(ARGV[1]), dead_key(ARGV[1])
local from, budget, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local some_dead = redis.call('EXISTS', dead) == 1
local reply, count = {}, 0
while budget > 0 and count < most do
  local found = redis.call('XRANGE', log, '(' .. from, '+', 'COUNT', 1)[1]
  if not found then break end
  from, count = found[1], count + 1
  local fields = {}
  for i = 1, #found[2], 2 do
    local name, value = found[2][i], found[2][i + 1]
    -- What only a person or a replay asks for: the members left out, and the body that is there beside a slice.
    if name ~= 'x' and name ~= 'd' and name ~= 'o' then
      fields[#fields + 1], fields[#fields + 2] = name, value
      budget = budget - #value
    end
  end
  reply[#reply + 1] = found[1]
  reply[#reply + 1] = fields
  reply[#reply + 1] = (some_dead and redis.call('HEXISTS', dead, from)) or 0
end
return reply
