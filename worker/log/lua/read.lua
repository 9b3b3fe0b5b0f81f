-- Entries after a position, in order of position, from the stream and beside it, until so many bytes or entries are
-- read; at least one if there is one. An entry at a time: sizes differ by five orders of magnitude, and a reply must fit
-- in a worker's memory. Where both have an entry, the one beside the stream counts: it is the same batch, replayed.
-- ARGV: generation, position, bytes, entries
-- Returns {'behind'} (entries after the position are in the snapshot) | {'entries', id, fields, 1 if dead or 0, ...}
local generation, from, budget, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if after(trimmed(generation), from) then return {'behind'} end
local log, dead = log_key(generation), dead_key(generation)
local some_dead = redis.call('EXISTS', dead) == 1
local late = next_late(generation, from)
local reply, count = {'entries'}, 0
while budget > 0 and count < most do
  local found = redis.call('XRANGE', log, '(' .. from, '+', 'COUNT', 1)[1]
  local id, all
  if late and not (found and after(late, found[1])) then
    id, all = late, late_fields(generation, late)
    late = next_late(generation, late)
  elseif found then
    id, all = found[1], found[2]
  else
    break
  end
  from, count = id, count + 1
  local fields = {}
  for i = 1, #all, 2 do
    local name, value = all[i], all[i + 1]
    -- What only a person or a replay asks for: the members left out, and the body that is there beside a slice.
    if name ~= 'x' and name ~= 'd' and name ~= 'o' then
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
    budget = budget - #value -- also of what is left out: the server has to read it
  end
  reply[#reply + 1] = id
  reply[#reply + 1] = fields
  reply[#reply + 1] = (some_dead and redis.call('HEXISTS', dead, id)) or 0
end
return reply
